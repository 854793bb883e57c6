"""Replicas by window: as few as keep the bounds in each part of the trace by itself.

Bounds that hold in every window hold over the whole trace, as its requests are those of the windows together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from flashstill.fleets.demand import Demand
from flashstill.fleets.search import Sized
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
) -> list[int]:
    """Replicas in each window; the busiest has those of `best`."""
    counts = []
    for window in windows:
        count = best.replicas
        if window is not busiest:
            guess = best.replicas * _requests(trials, window) / max(_requests(trials, busiest), 1)
            count = _fewest(trials, best, bounds, window, max(math.ceil(guess), 1), seeds)
        counts.append(count)
    return counts


def _requests(trials: Trials, traffic: Traffic) -> int:
    return len(trials.arrivals(0, traffic).arrival_s)


def _fewest(trials: Trials, best: Sized, bounds: Sequence[Bound], window: Traffic, guess: int, seeds: int) -> int:
    """The fewest replicas near a guess that keep the bounds under all seeds; one where nobody comes."""

    def keeps(count: int) -> bool:
        return trials.keeps(best.candidate, count, range(seeds), bounds, window) is None

    if _requests(trials, window) == 0:
        return 1
    count = guess
    while not keeps(count):
        count += 1
    while count > 1 and keeps(count - 1):
        count -= 1
    return count
