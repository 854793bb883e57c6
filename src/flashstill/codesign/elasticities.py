"""d ln(cost) / d ln(number) of a chip, with the deployment chosen anew on both sides of the change.

    e = (ln c(x f) - ln c(x / f)) / (2 ln f)          c: cost of the best configuration within the bounds; f = 1 + STEP
    counts:  e = ln(c(n') / c(n)) / ln(n' / n)        n': the next value that can be built

Each objective has its own best configuration.  By the envelope theorem e is the derivative at the configuration that is
best today, unless another one takes its place within the step: `jumps` says so, and `fixed` is the derivative without
a change of configuration.

Of all configurations only those are priced again that can become the best: a number's elasticity lies within -1 and 1
(time is proportional to work over rates), times the power limit over what idle power leaves of it, so that the cost of
one that is more than MARGIN steps above the best cannot fall below it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.codesign.counts import counted
from flashstill.codesign.grids import (
    OBJECTIVES,
    Best,
    Grid,
    Question,
    Values,
    best_of,
    degrees_at,
    grids_of,
    near_best,
)
from flashstill.codesign.nearby import Changes, changes_of, priced_nearby
from flashstill.codesign.parameters import COUNT
from flashstill.codesign.subjects import Entry, Subject
from flashstill.hardware import Chip

STEP = 0.01
"""relative change of a number"""
MARGIN = 2.5
"""steps by which two costs may move towards each other, with a reserve"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Elasticity:
    """Of one objective with respect to one number. None where the cost is not known on both sides.

    fixed: the same with today's best configuration kept; None for a count.
    jumps: whether another configuration is best on one of the sides.
    """

    value: float | None
    fixed: float | None
    jumps: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimum:
    """The best configuration for one objective: its cost, and its deployment as `plan` writes it."""

    cost: float
    deployment: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """All elasticities of one subject. optima: by objective; without one where nothing is feasible or has a price.

    elasticities: by parameter and objective.  infeasible: configurations refused, by reason.
    """

    optima: dict[str, Optimum]
    elasticities: dict[str, dict[str, Elasticity]]
    infeasible: dict[str, int]


def sensitivities(
    question: Question,
    subjects: Sequence[Subject],
    entries: Sequence[Entry],
    reasons: Sequence[Counter[str]],
) -> list[Sensitivity]:
    """The sensitivity of every subject; entries: the deployments that are tried on them."""
    more = counted(question, subjects, entries)
    grids = grids_of(question, subjects, [*entries, *more], reasons, STEP)
    mine: list[list[int]] = [[] for _ in subjects]
    counts: list[dict[str, list[int]]] = [{} for _ in subjects]
    for place, grid in enumerate(grids):
        owner, name = grid.entry.subject, grid.entry.varied
        (counts[owner].setdefault(name, []) if name else mine[owner]).append(place)
    bests = [[best_of(grids, places, which) for which in range(len(OBJECTIVES))] for places in mine]
    rows: dict[tuple[int, int, int], int] = {}
    for subject, places, best in zip(subjects, mine, bests, strict=True):
        margin = MARGIN * STEP * _leverage(subject.chip)
        for which, one in enumerate(best):
            if math.isfinite(one.cost):
                rows.setdefault(one.at, len(rows))
                for near in near_best(grids, places, which, one.cost * (1.0 + margin)):
                    rows.setdefault(near, len(rows))
    changes = [changes_of(subject, 1.0 + STEP) for subject in subjects]
    priced = priced_nearby(question, subjects, grids, list(rows), changes) if rows else []
    by_subject: list[list[int]] = [[] for _ in subjects]
    for (at, _, _), number in rows.items():
        by_subject[grids[at].entry.subject].append(number)
    return [
        Sensitivity(
            optima={
                name: _optimum(question, grids, subject, best)
                for name, best in zip(OBJECTIVES, bests[place], strict=True)
                if math.isfinite(best.cost)
            },
            elasticities=_scaled_ones(grids, bests[place], by_subject[place], list(rows), priced, changes[place])
            | _counts(subject, grids, mine[place], counts[place], bests[place]),
            infeasible=dict(reasons[place]),
        )
        for place, subject in enumerate(subjects)
    ]


def _leverage(chip: Chip) -> float:
    """By how much more than in proportion power limit and idle power can change what a throttled chip takes."""
    return float(chip.power_limit_w / (chip.power_limit_w - chip.static_w))


def _optimum(question: Question, grids: Sequence[Grid], subject: Subject, best: Best) -> Optimum:
    degrees = degrees_at(question.chosen, best.layout)
    deployment = {
        "chip": subject.chip.name,
        "chips": degrees.chips,
        **degrees._asdict(),
        "batch": int(question.chosen.batches[0, best.batch]),
        **grids[best.grid].entry.label,
        "speculated_tokens": question.speculation.tokens if question.speculation else 0,
    }
    return Optimum(cost=best.cost, deployment=deployment)


def _scaled_ones(
    grids: Sequence[Grid],
    bests: Sequence[Best],
    numbers: Sequence[int],
    rows: Sequence[tuple[int, int, int]],
    priced: Sequence[Values],
    changes: Changes,
) -> dict[str, dict[str, Elasticity]]:
    """Elasticities of the numbers that were scaled up and down. numbers: the subject's places in rows."""
    found: dict[str, dict[str, Elasticity]] = {one.name: {} for one in changes.parameters}
    if not numbers:
        return found
    costs = np.stack([priced[number] for number in numbers])  # (configurations, objectives, changes)
    at = np.argmin(costs, axis=0)
    least = np.take_along_axis(costs, at[None], axis=0)[0]
    for which, objective in enumerate(OBJECTIVES):
        if not math.isfinite(bests[which].cost):
            continue
        today = [rows[number] for number in numbers].index(bests[which].at)
        for number, one in enumerate(changes.parameters):
            up, down = 1 + 2 * number, 2 + 2 * number
            found[one.name][objective] = Elasticity(
                value=_slope(least[which, up], least[which, down], 2.0 * math.log1p(STEP)),
                fixed=_slope(costs[today, which, up], costs[today, which, down], 2.0 * math.log1p(STEP)),
                jumps=bool(
                    least[which, up] < costs[today, which, up] or least[which, down] < costs[today, which, down]
                ),
            )
    return found


def _slope(above: float, below: float, width: float) -> float | None:
    """Difference of logarithms over `width`; None unless both costs are known."""
    if not (math.isfinite(above) and math.isfinite(below) and above > 0.0 and below > 0.0):
        return None
    return 0.0 if above == below else math.log(above / below) / width


def _counts(
    subject: Subject,
    grids: Sequence[Grid],
    mine: Sequence[int],
    varied: dict[str, list[int]],
    bests: Sequence[Best],
) -> dict[str, dict[str, Elasticity]]:
    """Elasticities of counts, from the whole search at their next value. varied: places of its grids, by parameter."""
    found: dict[str, dict[str, Elasticity]] = {}
    for one in subject.parameters:
        if one.kind != COUNT or one.value is None or one.next_value is None:
            continue
        places, of = varied.get(one.name, []), found.setdefault(one.name, {})
        width = math.log(one.next_value / one.value)
        for which, objective in enumerate(OBJECTIVES):
            if math.isfinite(bests[which].cost):
                after = best_of(grids, places, which) if places else bests[which]
                jumps = (after.layout, after.batch) != (bests[which].layout, bests[which].batch)
                of[objective] = Elasticity(value=_slope(after.cost, bests[which].cost, width), fixed=None, jumps=jumps)
    return found
