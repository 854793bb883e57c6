"""The cheapest numbers of items that the stages of a cascade keep for a recall: exact on a grid of sizes.

    least  sum of dollars  over  n_1 >= n_2 >= ... >= n_m  of a grid    with    product of recalls >= r

Dynamic programming over (stage, items kept): of each, all pairs of dollars so far and recall so far that no other pair
beats in both.  A pair that is beaten cannot lead to a better whole, as what follows depends on the items kept alone;
so the result is that of trying every combination.  The grid is geometric, then finer around the best twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flashstill.errors import InfeasiblePlan

Cost = Callable[[float, float], float]
"""(items in, items kept) -> dollars"""
Found = Callable[[float, float], float]
"""(items kept, items in) -> recall"""
PER_DECADE, FINER = 4, (4, 4)
SURE = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Items kept by every stage but the last, with dollars and recall of a question."""

    keeps: tuple[float, ...]
    usd: float
    recall: float


@dataclass(frozen=True, slots=True)
class _Label:
    usd: float
    recall: float
    keeps: tuple[float, ...]


def cheapest_sizes(costs: Sequence[Cost], recalls: Sequence[Found], items: float, least: float) -> Sizes:
    """The cheapest sizes of a cascade over `items` with a recall of at least `least`.

    costs: of all stages, the last with as many items kept as it gets; recalls: of all stages but the last.
    InfeasiblePlan if not even keeping everything reaches it, or no sizes can be priced.
    """
    remembered = [_remembering(cost) for cost in costs]
    grids = [grid_of(1.0, items, PER_DECADE) for _ in recalls]
    best = on_grids(remembered, recalls, items, least, grids)
    per_decade = PER_DECADE
    for finer in FINER:
        ratio = 10.0 ** (1.0 / per_decade)
        per_decade *= finer
        grids = [
            sorted({kept, *grid_of(max(kept / ratio, 1.0), min(kept * ratio, items), per_decade)})
            for kept in best.keeps
        ]
        best = on_grids(remembered, recalls, items, least, grids)
    return best


def grid_of(low: float, high: float, per_decade: int) -> list[float]:
    """Whole numbers from low to high, about so many a decade; both ends are in it."""
    steps = max(math.ceil(math.log10(max(high / low, 1.0)) * per_decade), 1)
    return sorted(
        {low, high, *(min(float(round(low * (high / low) ** (step / steps))), high) for step in range(steps))}
    )


def on_grids(
    costs: Sequence[Cost], recalls: Sequence[Found], items: float, least: float, grids: Sequence[Sequence[float]]
) -> Sizes:
    """The cheapest sizes with the items that stage i keeps in grids[i]; InfeasiblePlan if there are none."""
    labels = {items: [_Label(0.0, 1.0, ())]}
    for cost, recall, grid in zip(costs, recalls, grids, strict=False):
        following: dict[float, list[_Label]] = {}
        for given, pairs in labels.items():
            for kept in grid:
                if kept > given:
                    continue
                found = float(recall(kept, given))
                enough = [label for label in pairs if label.recall * found >= least * (1.0 - SURE)]
                if not enough:
                    continue
                usd = cost(given, kept)
                following.setdefault(kept, []).extend(
                    _Label(label.usd + usd, label.recall * found, (*label.keeps, kept)) for label in enough
                )
        labels = {kept: _unbeaten(pairs) for kept, pairs in following.items()}
    wholes = [
        _Label(label.usd + costs[-1](kept, kept), label.recall, label.keeps)
        for kept, pairs in sorted(labels.items())
        for label in pairs
    ]
    best = min((label for label in wholes if math.isfinite(label.usd)), key=lambda label: label.usd, default=None)
    if best is None:
        raise InfeasiblePlan(
            f"no sizes of the stages reach a recall of {least:g}; ask for less, or give the stages better recall",
            {"recall too low": 1},
        )
    return Sizes(keeps=best.keeps, usd=best.usd, recall=best.recall)


def _unbeaten(labels: Sequence[_Label]) -> list[_Label]:
    """Labels that no other has both less dollars and more recall than."""
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda each: (each.usd, -each.recall)):
        if math.isfinite(label.usd) and (not kept or label.recall > kept[-1].recall):
            kept.append(label)
    return kept


def _remembering(cost: Cost) -> Cost:
    """Each size is priced once; infinite where it is not feasible."""
    known: dict[tuple[float, float], float] = {}

    def remembered(given: float, kept: float) -> float:
        if (given, kept) not in known:
            try:
                known[given, kept] = cost(given, kept)
            except InfeasiblePlan:
                known[given, kept] = math.inf
        return known[given, kept]

    return remembered
