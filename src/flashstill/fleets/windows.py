"""Replicas by window: as few as keep the bounds in each part of the trace by itself.

Bounds that hold in every window hold over the whole trace, as its requests are those of the windows together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from flashstill.errors import InfeasiblePlan
from flashstill.fleets.apart import fewest_of_both
from flashstill.fleets.copies import Copies
from flashstill.fleets.demand import Demand
from flashstill.fleets.search import IDLE, MOST_REPLICAS, Question, Sized
from flashstill.fleets.slo import Bound
from flashstill.fleets.trials import Traffic, Trials


def windows_of(demand: Demand, window_s: float) -> list[Traffic]:
    """The trace in equal windows of at most about `window_s` seconds, each of whole blocks."""
    count = min(max(math.ceil(demand.span_s / window_s * (1.0 - 1e-9)), 1), demand.blocks)
    if count == 1:
        return [Traffic()]
    edges = np.round(np.linspace(0, demand.blocks, count + 1)).astype(int)
    return [Traffic(1.0, (int(start), int(end))) for start, end in itertools.pairwise(edges)]


def by_window(
    trials: Trials, best: Sized, bounds: Sequence[Bound], windows: Sequence[Traffic], busiest: Traffic, seeds: int
) -> list[Copies]:
    """Replicas in each window; the busiest has those of `best`."""
    counts = []
    for window in windows:
        copies = best.copies
        if window is not busiest:
            share = _requests(trials, window) / max(_requests(trials, busiest), 1)
            guess = Copies(*(math.ceil(share * each) for each in best.copies))
            guess = guess._replace(replicas=max(guess.replicas, 1))
            copies = _fewest(trials, best, bounds, window, guess, seeds)
        counts.append(copies)
    return counts


def _requests(trials: Trials, traffic: Traffic) -> int:
    return len(trials.arrivals(0, traffic).arrival_s)


def _fewest(trials: Trials, best: Sized, bounds: Sequence[Bound], window: Traffic, guess: Copies, seeds: int) -> Copies:
    """The fewest replicas near a guess that keep the bounds under all seeds; one where nobody comes."""
    one = Copies(1, min(best.copies.prefills, 1))

    def broken_in(count: int) -> int | None:
        return trials.keeps(best.candidate, Copies(count), range(seeds), bounds, window)

    if _requests(trials, window) == 0:
        return one
    if best.candidate.prefill is not None:
        question = Question(bounds=tuple(bounds), traffic=window, seeds=tuple(range(seeds)))
        # what serves the busiest window serves any other, unless other days make one of these the busiest
        return (
            fewest_of_both(trials, best.candidate, question, one, guess._replace(prefills=max(guess.prefills, 1)))
            or best.copies
        )
    count = guess.replicas
    while (seed := broken_in(count)) is not None:
        trial = trials.of(best.candidate, Copies(count), seed, window)
        if trial.busy < IDLE or count >= MOST_REPLICAS:
            raise InfeasiblePlan(_hopeless(trials, best, bounds, window, count, seed), {"a window": 1})
        count += 1
    while count > 1 and broken_in(count - 1) is None:
        count -= 1
    return Copies(count)


def _hopeless(trials: Trials, best: Sized, bounds: Sequence[Bound], window: Traffic, count: int, seed: int) -> str:
    """Which bound no number of replicas keeps in a window, as a sentence."""
    demand = trials.demand
    start = (window.part or (0, demand.blocks))[0] / demand.blocks * demand.span_s
    name = trials.broken(best.candidate, Copies(count), seed, bounds, window)[0].name
    return (
        f"in the window from {start:,.0f} s on, {name} is broken by the requests themselves, however many replicas"
        " of the busiest window's fleet there are; ask for a longer --window or a looser bound"
    )
