"""The front of a chip search: designs that no other, of those priced in full, beats in dollars, joules and latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flashstill.codesign.described import described
from flashstill.codesign.design_columns import Places
from flashstill.codesign.design_prices import JOULES, LATENCY, USD
from flashstill.codesign.hunt import Found, Hunt, least
from flashstill.frontier import non_dominated
from flashstill.units import TOKENS_PER_MILLION

OBJECTIVES = {
    USD: "dollars per million output tokens of the mix",
    JOULES: "joules at the wall per output token of the mix",
    LATENCY: "seconds per output token after the first, mean of the mix",
}
_CANDIDATES, _LIKELY = 48, 96
"""designs of the front, by each objective, and designs priced for it, those of the least bounds"""
_ASIDE = 2048
"""designs after which no further ones are priced for an end of the front that was not asked for, as the bounds of all
others may leave it open; rounds grow, so that the last one may bring them to half as many more"""


def ends_of(hunt: Hunt, mean: Mapping[str, int], base: str, chosen: Found) -> dict[str, Found]:
    """The best design by each objective. mean: where its bounds are.  chosen: the best by `base`, which is proven."""
    return {name: chosen if name == base else least(hunt, [place], most=_ASIDE) for name, place in mean.items()}


def open_ends(bests: Mapping[str, Found], costs: Mapping[str, float]) -> list[str]:
    """A note on every end of the front that is not proven, with how much less another design could cost at the most.

    costs: of the ends after refinement, by objective.
    """
    return [
        f"the front's end by {name} is the best of the {len(found.tried):,} designs of the least bounds: the bounds of"
        f" {found.left:,} others do not rule out up to {100.0 * (1.0 - found.bound / costs[name]):.0f} % less"
        for name, found in bests.items()
        if found.left and found.bound < costs[name]
    ]


def candidates_of(hunt: Hunt, mean: Mapping[str, int], bests: Mapping[str, Found]) -> Places:
    """Designs that may be of the front: the best of those priced, by each objective."""
    picked: list[int] = []
    for objective, found in bests.items():
        bounds = hunt.screened.bounds[mean[objective]]
        likely = np.argsort(bounds, kind="stable")[:_LIKELY]
        tried = np.unique(np.concatenate([found.tried, likely[np.isfinite(bounds[likely])]]))
        costs = hunt.cost(mean[objective], tried)
        order = np.argsort(costs, kind="stable")[:_CANDIDATES]
        picked += [int(tried[place]) for place in order if np.isfinite(costs[place])]
    return np.unique(np.array(picked, dtype=np.intp))


def front_of(hunt: Hunt, mean: Mapping[str, int], bests: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Designs and deployments that no other, of those priced in full, beats in dollars, joules and latency."""
    designs = candidates_of(hunt, mean, bests)
    asks = tuple((objective, hunt.wanted[mean[USD]].volume) for objective in bests)
    tables = np.zeros((len(asks), len(designs), len(OBJECTIVES)))
    for load, part in hunt.wanted[mean[USD]].loads:
        for places, answers in hunt.answers(load, designs, asks):
            at = np.searchsorted(designs, places)
            for table, figures in zip(tables, answers, strict=True):
                table[at] += part * np.stack([figures[name] for name in OBJECTIVES], axis=1)
    table, owners = tables.reshape(-1, len(OBJECTIVES)), np.tile(designs, len(asks))
    kept = np.flatnonzero(np.isfinite(table).all(axis=1))
    best = [int(kept[place]) for place in non_dominated(table[kept])]
    best.sort(key=lambda place: (table[place][0], owners[place]))
    return [
        {
            **{name: shown(value, name) for name, value in zip(OBJECTIVES, table[place], strict=True)},
            **described(hunt, int(owners[place])),
        }
        for place in best
    ]


def shown(cost: float, objective: str) -> float | None:
    """Dollars of a million tokens, joules or seconds; None where there is none."""
    if not np.isfinite(cost):
        return None
    return float(cost) * (TOKENS_PER_MILLION if objective == USD else 1.0)
