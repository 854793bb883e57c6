"""Load of the busiest group of experts, for which all others of an expert-parallel layout wait, relative to the mean.

Symbols: E experts, of which a token chooses k; popularity p_i ~ i^-a with mean 1; Z groups; r redundant copies, n =
(E + r)/Z slots of a group; T tokens of a step, so that a group receives m = T k / Z token-expert pairs on average.

    load  = (mean of the groups' popularity)^-1 x (busiest by popularity) + q(Z) sqrt(v + (1 - 1/Z)/m) - q(Z) sqrt(v)

    without copies   groups of experts in the checkpoint's order, which is independent of popularity: the variance of
                     a group's popularity is v = var(p)/n (E - n)/(E - 1); busiest by popularity: 1 + q(Z) sqrt(v)
    with copies      as a load balancer places them (DeepSeek's EPLB): each copy goes to the expert with the most load
                     per copy, then the heaviest copy to the lightest group that has a slot; v = 0
    q(Z)             expected maximum of Z standard normals (Blom 1958): the quantile at (Z - 3/8)/(Z + 1/4)

The second variance is that of drawing the tokens: m pairs a group, as a Poisson count.  A balancer works with the
popularity of the past; how far that has changed since is left out.
"""

from __future__ import annotations

import heapq
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from flashstill.distinct import distinct_integers
from flashstill.workload import EVEN, Experts, Quantity

Values = npt.NDArray[np.float64]


def busiest_load(operation: Experts, tokens: Quantity, groups: Quantity, redundant: Quantity = 0.0) -> Quantity:
    """Tokens of the busiest of `groups` groups of experts relative to their mean, at least 1; arrays broadcast.

    tokens: of all groups together, in one step.  redundant: copies of experts beyond one of each.
    """
    if operation.skew == EVEN:
        return 1.0
    placed = _placed(int(operation.experts), operation.skew, groups, redundant)
    pairs = np.maximum(tokens * operation.chosen / groups, 1e-9)
    drawn = (1.0 - 1.0 / np.asarray(groups)) / pairs
    load = placed[..., 0] + placed[..., 1] * (np.sqrt(placed[..., 2] + drawn) - np.sqrt(placed[..., 2]))
    # All tokens in one group is the most that can be.
    most: Quantity = np.minimum(load, groups)
    return most


def busiest_rank(ranks: int, requests: float, variation: float) -> float:
    """Tokens of the busiest of `ranks` data-parallel groups relative to the mean: 1 + q(Z) variation/sqrt(requests).

    requests: in each group, the same number in all.  variation: standard deviation of a request's tokens over the mean.
    """
    return 1.0 if ranks <= 1 else 1.0 + _largest(ranks) * variation / requests**0.5


def _largest(normals: int) -> float:
    """Expected maximum of so many standard normals."""
    return NormalDist().inv_cdf((normals - 0.375) / (normals + 0.25))


def popular_load(experts: int, skew: float, groups: int, redundant: int = 0) -> float:
    """The same in a step of so many tokens that only the popularity of experts matters, for plain numbers."""
    return 1.0 if skew == EVEN else _one(experts, skew, groups, redundant)[0]


def _placed(experts: int, skew: float, groups: Quantity, redundant: Quantity) -> Values:
    """(busiest by popularity, expected maximum of normals, variance of a group's popularity) in the last axis."""
    number, copies = np.broadcast_arrays(np.rint(groups), np.rint(redundant))
    if number.ndim == 0:
        return np.array(_one(experts, skew, int(number), int(copies)))
    (few, extra), where = distinct_integers(number.astype(np.int64), copies.astype(np.int64))
    table = np.array([_one(experts, skew, *key) for key in zip(few.tolist(), extra.tolist(), strict=True)])
    found: Values = table[where]
    return found


@lru_cache(maxsize=4096)
def _one(experts: int, skew: float, groups: int, redundant: int) -> tuple[float, float, float]:
    if groups <= 1:
        return 1.0, 0.0, 0.0
    most = _largest(groups)
    popularity = np.arange(1.0, experts + 1.0) ** -skew
    popularity /= popularity.mean()
    if redundant:
        return _balanced(popularity.tolist(), groups, redundant), most, 0.0
    slots = experts / groups
    variance = float(popularity.var()) / slots * max(experts - slots, 0.0) / max(experts - 1.0, 1.0)
    return 1.0 + most * variance**0.5, most, variance


def _balanced(popularity: list[float], groups: int, redundant: int) -> float:
    """Load of the busiest group relative to the mean once a balancer has placed all copies."""
    # (negative load per copy, expert, copies): the heap's first is the expert with the most load per copy.
    heap = [(-load, expert, 1) for expert, load in enumerate(popularity)]
    heapq.heapify(heap)
    for _ in range(redundant):
        share, expert, copies = heap[0]
        heapq.heapreplace(heap, (share * copies / (copies + 1), expert, copies + 1))
    loads = sorted((-share for share, _, copies in heap for _ in range(copies)), reverse=True)
    slots = len(loads) // groups
    light = [(0.0, 0, group) for group in range(groups)]
    full: list[float] = []
    for load in loads:
        total, taken, group = heapq.heappop(light)
        if taken + 1 == slots:
            full.append(total + load)
        else:
            heapq.heappush(light, (total + load, taken + 1, group))
    return max(full) * groups / sum(loads)
