"""The central line against the exact queue M/D/c, and Little's law to the last digit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.simulate import tally as counted
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.state import CENTRAL, Values
from tests.batching import arrivals, limits, tables
from tests.marks import examples

TICK = 2.0**-12
"""seconds; sums of so coarse times have no rounding error"""


def served(seconds: float, times: Values, servers: int) -> Outcome:
    """Requests of one token and constant service, in one line before servers that take one each."""
    unit = seconds / 16.0
    count = len(times)
    cost = tables(lambda b, s, p, a: unit * p)
    one = limits(sequences=1, tokens=64, blocks=1000, router=CENTRAL)
    sizes = (np.full(count, 16), np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64))
    return run(cost, one, [Arrivals(times, *sizes)], servers)


def mean_waiting(outcome: Outcome) -> float:
    return float(outcome.tally.sums[counted.WAITING].sum() / outcome.tally.counts[counted.WAITING].sum())


def exact_waiting(load: float, servers: int, most: int = 800) -> float:
    """Mean waiting in M/D/c, in service times (Crommelin 1932): all that are in service now have left one service time
    later, so that the number in the system there is max(n - c, 0) + Poisson(load c)."""
    rate = load * servers
    states = np.arange(most)
    poisson = np.exp(states * math.log(rate) - rate - np.array([math.lgamma(n + 1.0) for n in states]))
    step = np.zeros((most, most))
    for n in range(most):
        left = max(n - servers, 0)
        step[n, left:] = poisson[: most - left]
        step[n, -1] += 1.0 - step[n].sum()
    balance = np.vstack([(step.T - np.eye(most))[:-1], np.ones(most)])
    share = np.linalg.solve(balance, np.append(np.zeros(most - 1), 1.0))
    return float(np.maximum(states - servers, 0) @ share) / rate


@pytest.mark.parametrize("load", [0.5, 0.9])
def test_the_exact_queue_with_one_server(load: float) -> None:
    """Pollaczek and Khinchine: W = load / (2 (1 - load)) service times."""
    assert exact_waiting(load, 1) == pytest.approx(load / (2.0 * (1.0 - load)), rel=1e-6)


@pytest.mark.parametrize("servers", [2, 4, 8])
def test_the_exact_queue_with_several_servers(servers: int) -> None:
    """Cosmetatos (1975): half of the waiting in M/M/c (Erlang's C formula), and a small correction; good to 1 %."""
    load, offered = 0.8, 0.8 * servers
    last = offered**servers / math.factorial(servers) / (1.0 - load)
    erlang = last / (sum(offered**n / math.factorial(n) for n in range(servers)) + last)
    ratio = 1.0 + (1.0 - load) * (servers - 1) * (math.sqrt(4.0 + 5.0 * servers) - 2.0) / (16.0 * load * servers)
    assert exact_waiting(load, servers) == pytest.approx(0.5 * ratio * erlang / servers / (1.0 - load), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("servers", [3, 1])
def test_each_request_waits_as_long_as_the_recursion_says(servers: int) -> None:
    """With constant service the n-th request follows the (n - c)-th: W = max(0, W' + s - (A - A'))."""
    numbers = np.random.default_rng(8)
    times = np.cumsum(numbers.exponential(0.1 / 0.9 / servers, 3_000))
    waits = np.zeros(len(times))
    for n in range(servers, len(times)):
        waits[n] = max(0.0, waits[n - servers] + 0.1 - (times[n] - times[n - servers]))
    assert mean_waiting(served(0.1, times, servers)) == pytest.approx(waits.mean(), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("servers", [2, 4, 8])
def test_waiting_is_that_of_crommelin(servers: int, load: float) -> None:
    numbers = np.random.default_rng(5)
    count = {0.5: 500_000, 0.7: 500_000, 0.9: 1_500_000, 0.95: 3_000_000}[load]
    outcome = served(0.1, np.cumsum(numbers.exponential(0.1 / load / servers, count)), servers)
    assert mean_waiting(outcome) / 0.1 == pytest.approx(exact_waiting(load, servers), rel=0.02)


@examples(40)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4000), st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=40
    ),
    servers=st.integers(1, 4), router=st.integers(0, 4), blocks=st.integers(22, 60), prefill_first=st.booleans(),
    ahead=st.integers(0, 1),
)  # fmt: skip
def test_littles_law_to_the_last_digit(
    rows: list[tuple[int, int, int]], servers: int, router: int, blocks: int, prefill_first: bool, ahead: int
) -> None:
    """The integral over time of the number in the system is the sum of the times in it: equal, not close, as all times
    are whole multiples of a tick."""
    plain = tables(lambda b, s, p, a: TICK * ((8 + b if b else 0) + p), 4096.0 * 3.0)
    cost = plain._replace(  # knots whose distances are powers of two
        batches=np.array([0.0, 64.0]),
        tokens=np.array([0.0, 8192.0]),
        extra_s=np.ascontiguousarray(plain.extra_s[[0, 2]][:, [0, 2]]),
    )
    asked = sorted((32.0 * TICK * at, prompt, output) for at, prompt, output in rows)
    settings_ = limits(blocks=blocks, router=router, prefill_first=prefill_first, ahead=ahead)
    tally = run(cost, settings_, [arrivals(asked)], servers).tally
    assert tally.area[0] == tally.sums[counted.END_TO_END].sum()
    assert tally.area[2] == 0.0
