"""The rate at which a fleet serves requests while its waiting lines never empty, from simulation.

A queue of this kind is stable exactly below its throughput in saturation (Baccelli and Foss 1995), so one run finds
the knee where a search over rates would need many.  Requests of the traffic's lengths arrive at random, faster than
they can be served; what counts is the time from when the fleet is full until the last one has arrived.

    rate = output tokens per second / output tokens of a request

Its interval is that of batch means (Law and Carson 1979): consecutive spans of time, each at least as long as a request
stays, over several seeds; or the spread between seeds, where that is wider.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.daily import PIECE
from flashstill.simulate.engine import Outcome
from flashstill.simulate.selection import selected
from flashstill.simulate.state import Values
from flashstill.simulate.tally import TOKENS

OVERLOAD = 1.25
"""arrivals over what is expected to be served, so that lines grow by a quarter of that"""
BATCHES = 10
STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""two-sided 95 % quantiles of Student's t with 1 to 9 degrees of freedom; 2.1 for 18, and 1.96 without end"""

Serve = Callable[[Iterator[Arrivals], int], Outcome]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A mean and its 95 % interval; batches: means that it is made of."""

    value: float
    low: float
    high: float
    batches: int


def student_95(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t."""
    return STUDENT_95[freedom - 1] if freedom <= len(STUDENT_95) else 1.96 + 2.6 / freedom


def saturated_rate(
    serve: Serve, requests: Arrivals, outputs: float, expected: float, stay_s: float, count: int, seeds: range
) -> Measured:
    """Requests per second that are served while all lines are full.

    requests: lengths, without block names, used over and over; outputs: their mean output tokens.  expected: rate to
    begin with, raised until lines grow.  stay_s: seconds that a request stays with a full fleet; count: of
    each run.
    """
    means: list[Values] = []
    for seed in seeds:
        for _ in range(12):
            rate = OVERLOAD * expected
            outcome = serve(_arrivals(requests, rate, count, seed), seed)
            found = batch_rates(outcome, outputs, stay_s, count / rate)
            if float(found.mean()) < 0.95 * rate:
                break
            expected = 1.5 * rate
        means.append(found)
        expected = float(found.mean())
    return measured(means)


def measured(means: list[Values]) -> Measured:
    """The mean over seeds of batch means, with the wider of both intervals."""
    every = np.concatenate(means)
    value = float(every.mean())
    width = student_95(len(every) - 1) * float(every.std(ddof=1)) / math.sqrt(len(every))
    if len(means) > 1:
        seeds = np.array([each.mean() for each in means])
        between = student_95(len(means) - 1) * float(seeds.std(ddof=1)) / math.sqrt(len(means))
        width = max(width, between)
    return Measured(value=value, low=max(value - width, 0.0), high=value + width, batches=len(every))


def batch_rates(outcome: Outcome, outputs: float, stay_s: float, last_s: float) -> Values:
    """Requests served per second in each of up to `BATCHES` spans between the filling of the fleet and last_s."""
    width = float(outcome.tally.moment[0])
    last = max(int(last_s / width), 1)
    first = min(math.ceil(2.0 * stay_s / width), last // 2)  # lines have grown for as long as a request stays
    tokens = outcome.tally.lines[first:last, TOKENS]
    fewest = max(math.ceil(stay_s / width), 1)
    parts = min(max(len(tokens) // fewest, 2), BATCHES)
    size = len(tokens) // parts
    rates: Values = tokens[: size * parts].reshape(parts, size).sum(axis=1) / (size * width * outputs)
    return rates


def _arrivals(requests: Arrivals, rate: float, count: int, seed: int) -> Iterator[Arrivals]:
    """`count` requests of these lengths at a Poisson process, over and over and each time in another order: in that of
    a trace, whose lengths change by the hour, parts of a run would be those of different knees."""
    numbers = np.random.default_rng(seed)
    clock, total = 0.0, len(requests.arrival_s)
    rounds = -(-count // total)
    order = np.concatenate([numbers.permutation(total) for _ in range(rounds)])[:count]
    for done in range(0, count, PIECE):
        chosen = selected(requests, order[done : done + PIECE])
        times = clock + np.cumsum(numbers.exponential(1.0 / rate, len(chosen.prompt)))
        clock = float(times[-1])
        yield chosen._replace(arrival_s=times)
