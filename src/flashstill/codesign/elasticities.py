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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.codesign.counts import Counted, counted
from flashstill.codesign.nearby import priced_nearby
from flashstill.codesign.parameters import COUNT
from flashstill.codesign.pool import Pool, pool_of
from flashstill.codesign.rows import OBJECTIVES, Question, Values, ground_of
from flashstill.codesign.subjects import Entry, Subject
from flashstill.hardware import Chip
from flashstill.plan.layouts import Degrees

STEP = 0.002
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
    configurations: number of them that were priced to find the best ones.
    """

    optima: dict[str, Optimum]
    elasticities: dict[str, dict[str, Elasticity]]
    infeasible: dict[str, int]
    configurations: int


def sensitivities(
    question: Question,
    subjects: Sequence[Subject],
    entries: Sequence[Entry],
    reasons: Sequence[Counter[str]],
) -> list[Sensitivity]:
    """The sensitivity of every subject; entries: the deployments that are tried on them."""
    pool = pool_of(ground_of(question, subjects, entries), reasons, STEP)
    bests, near = [], []
    for place, subject in enumerate(subjects):
        mine = pool.of(place)
        best = [pool.best(mine, which) for which in range(len(OBJECTIVES))]
        bests.append(best)
        near.append(_near(pool, mine, best, subject.chip))
    counts = counted(pool, bests)
    priced = priced_nearby(pool, np.concatenate(near) if near else np.zeros(0, np.intp), 1.0 + STEP)
    found, start = [], 0
    for place, subject in enumerate(subjects):
        rows = near[place]
        costs = priced[start : start + len(rows)]
        start += len(rows)
        of = _scaled_ones(subject, bests[place], rows, costs) | _counts(counts, place, subject, bests[place])
        found.append(
            Sensitivity(
                optima={
                    name: _optimum(pool, subject, cost, row)
                    for name, (cost, row) in zip(OBJECTIVES, bests[place], strict=True)
                    if row >= 0
                },
                elasticities=of,
                infeasible=dict(reasons[place]),
                configurations=_tried(question, entries, place),
            )
        )
    return found


def _tried(question: Question, entries: Sequence[Entry], subject: int) -> int:
    layouts, batches = question.chosen.shape
    return sum(entry.subject == subject for entry in entries) * layouts * batches


def _near(
    pool: Pool, mine: npt.NDArray[np.intp], bests: Sequence[tuple[float, int]], chip: Chip
) -> npt.NDArray[np.intp]:
    """Of the rows of a subject those that are the best, or could become it."""
    margin = MARGIN * STEP * _leverage(chip)
    mine = mine[pool.prices.nearly[mine]]
    close = np.zeros(len(mine), dtype=bool)
    for which, (cost, row) in enumerate(bests):
        if row >= 0:
            close |= pool.prices.bare[which, mine] * pool.prices.gain[mine] <= cost * (1.0 + margin)
    return mine[close]


def _leverage(chip: Chip) -> float:
    """By how much more than in proportion power limit and idle power can change what a throttled chip takes."""
    return float(chip.power_limit_w / (chip.power_limit_w - chip.static_w))


def _optimum(pool: Pool, subject: Subject, cost: float, row: int) -> Optimum:
    question, rows = pool.ground.question, pool.rows
    degrees = Degrees(*(int(value) for value in question.chosen.degrees[:, rows.layout[row], 0]))
    deployment = {
        "chip": subject.chip.name,
        "chips": degrees.chips,
        **degrees._asdict(),
        "batch": int(question.chosen.batches[0, rows.batch[row]]),
        **pool.ground.entries[rows.entry[row]].label,
        "speculated_tokens": question.speculation.tokens if question.speculation else 0,
    }
    return Optimum(cost=cost, deployment=deployment)


def _scaled_ones(
    subject: Subject, bests: Sequence[tuple[float, int]], rows: npt.NDArray[np.intp], costs: Sequence[Values]
) -> dict[str, dict[str, Elasticity]]:
    """Elasticities of the numbers that were scaled up and down. costs: of each row, (objectives, changes)."""
    parameters = [one for one in subject.parameters if one.kind != COUNT]
    found: dict[str, dict[str, Elasticity]] = {one.name: {} for one in parameters}
    if not len(rows):
        return found
    whole = np.stack(costs)  # (rows, objectives, changes)
    least = whole.min(axis=0)
    at = {int(row): number for number, row in enumerate(rows.tolist())}
    known = [which for which in range(len(OBJECTIVES)) if bests[which][1] >= 0]
    today = np.stack([whole[at[bests[which][1]], which] for which in known]) if known else whole[:0, 0]
    values, fixed = _slopes(least[known]), _slopes(today)
    better = (least[known, 1:] < today[:, 1:]).reshape(len(known), -1, 2).any(axis=2).tolist()
    for place, which in enumerate(known):
        for number, one in enumerate(parameters):
            found[one.name][OBJECTIVES[which]] = Elasticity(
                value=values[place][number], fixed=fixed[place][number], jumps=better[place][number]
            )
    return found


def _slopes(costs: Values) -> list[list[float | None]]:
    """Slopes of each number, by row of costs at nothing changed, the first number up, down, the second up ..."""
    above, below = costs[:, 1::2], costs[:, 2::2]
    known = np.isfinite(above) & np.isfinite(below) & (above > 0.0) & (below > 0.0)  # what is free has no slope
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = np.where(above == below, 0.0, np.log(above / below) / (2.0 * math.log1p(STEP)))
    return [
        [slope if there else None for slope, there in zip(row, mask, strict=True)]
        for row, mask in zip(slopes.tolist(), known.tolist(), strict=True)
    ]


def _slope(above: float, below: float, width: float) -> float | None:
    """Difference of logarithms over `width`; None unless both costs are known."""
    if not (math.isfinite(above) and math.isfinite(below) and above > 0.0 and below > 0.0):
        return None
    return 0.0 if above == below else math.log(above / below) / width


def _counts(
    counts: Mapping[tuple[int, str], Counted], place: int, subject: Subject, bests: Sequence[tuple[float, int]]
) -> dict[str, dict[str, Elasticity]]:
    """Elasticities of counts: the best at their next value over today's."""
    found: dict[str, dict[str, Elasticity]] = {}
    for one in subject.parameters:
        if one.kind != COUNT or one.value is None or one.next_value is None:
            continue
        width, after, of = math.log(one.next_value / one.value), counts[place, one.name], found.setdefault(one.name, {})
        for which, objective in enumerate(OBJECTIVES):
            cost, row = bests[which]
            if row >= 0:
                value = _slope(after.costs[which], cost, width)
                of[objective] = Elasticity(value=value, fixed=None, jumps=after.jumps[which])
    return found
