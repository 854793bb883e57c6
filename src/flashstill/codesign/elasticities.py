"""d ln(cost) / d ln(number) of a chip, with the deployment chosen anew on both sides of the change.

    e = (ln c(x f) - ln c(x / f)) / (2 ln f)          c: cost of the best configuration within the bounds; f = 1 + STEP
    counts:  e = ln(c(n') / c(n)) / ln(n' / n)        n': the next value that can be built

Each objective has its own best configuration.  By the envelope theorem e is the derivative at the configuration that is
best today, unless another one takes its place within the step: `jumps` says so, and `fixed` is the derivative without
a change of configuration.

Of all configurations only those are priced again that can become the best: a number's elasticity lies within -1 and 1
(time is proportional to work over rates), times the power limit over what idle power leaves of it, so that the cost of
one that is more than MARGIN steps above the best cannot fall below it.  Where a little less memory, or a bound, could
take the best away, those up to the best that stays are priced.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.codesign.counts import Bests, Counted, counted
from flashstill.codesign.nearby import priced_nearby
from flashstill.codesign.parameters import COUNT
from flashstill.codesign.pool import Pool, pool_of
from flashstill.codesign.questions import Places, Question, stack_entries
from flashstill.codesign.rows import OBJECTIVES, Values
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
    pool = pool_of(stack_entries(question, subjects, entries), reasons, STEP)
    bests, near = [], []
    for place, subject in enumerate(subjects):
        mine = pool.of(place)
        best = [pool.best(mine, which) for which in range(len(OBJECTIVES))]
        bests.append(best)
        near.append(_near(pool, mine, best, subject.chip))
    counts = counted(pool, bests)
    found = _scaled_ones(pool, bests, near)
    return [
        Sensitivity(
            optima={
                name: _optimum(pool, subject, cost, row)
                for name, (cost, row) in zip(OBJECTIVES, bests[place], strict=True)
                if row >= 0
            },
            elasticities=found[place] | _counts(counts, place, subject, bests[place]),
            infeasible=dict(reasons[place]),
            configurations=_tried(question, entries, place),
        )
        for place, subject in enumerate(subjects)
    ]


def _tried(question: Question, entries: Sequence[Entry], subject: int) -> int:
    layouts, batches = question.chosen.shape
    return sum(entry.subject == subject for entry in entries) * layouts * batches


def _near(pool: Pool, mine: Places, bests: Sequence[tuple[float, int]], chip: Chip) -> Places:
    """Of the rows of a subject those that are the best, or could become it: also where the best one is lost."""
    margin, prices = MARGIN * STEP * _leverage(chip), pool.prices
    mine = mine[prices.nearly[mine]]
    close = np.zeros(len(mine), dtype=bool)
    for which, (_, row) in enumerate(bests):
        if row >= 0:
            surely = np.min(prices.bare[which, mine] * prices.risk[mine])
            close |= prices.bare[which, mine] * prices.gain[mine] <= surely * (1.0 + margin)
    near: Places = mine[close]
    return near


def _leverage(chip: Chip) -> float:
    """By how much more than in proportion power limit and idle power can change what a throttled chip takes."""
    return float(chip.power_limit_w / (chip.power_limit_w - chip.static_w))


def _optimum(pool: Pool, subject: Subject, cost: float, row: int) -> Optimum:
    question, rows = pool.stacked.question, pool.rows
    degrees = Degrees(*(int(value) for value in question.chosen.degrees[:, rows.layout[row], 0]))
    deployment = {
        "chip": subject.chip.name,
        "chips": degrees.chips,
        **degrees._asdict(),
        "batch": int(question.chosen.batches[0, rows.batch[row]]),
        **pool.stacked.entries[rows.entry[row]].label,
        "speculated_tokens": question.speculation.tokens if question.speculation else 0,
    }
    return Optimum(cost=cost, deployment=deployment)


def _scaled_ones(pool: Pool, bests: Bests, near: Sequence[Places]) -> list[dict[str, dict[str, Elasticity]]]:
    """By subject, elasticities of the numbers that are scaled up and down. near: rows of each subject."""
    subjects = pool.stacked.subjects
    found: list[dict[str, dict[str, Elasticity]]] = [
        {one.name: {} for one in subject.parameters if one.kind != COUNT} for subject in subjects
    ]
    some = [place for place, rows in enumerate(near) if len(rows)]
    if not some:
        return found
    rows = np.concatenate(near)
    costs = priced_nearby(pool, rows, 1.0 + STEP)  # (objectives, rows, changes)
    lengths = np.array([len(near[place]) for place in some])
    least = np.minimum.reduceat(costs, np.cumsum(lengths) - lengths, axis=1)
    at = np.full(len(pool.rows), -1)
    at[rows] = np.arange(len(rows))
    for which, objective in enumerate(OBJECTIVES):
        known = [number for number, place in enumerate(some) if bests[place][which][1] >= 0]
        today = costs[which, at[[bests[some[number]][which][1] for number in known]]]
        best = least[which, known]
        better = (best[:, 1:] < today[:, 1:]).reshape(len(known), -1, 2).any(axis=2)
        each = (_slopes(best).tolist(), _slopes(today).tolist(), better.tolist())
        for number, *columns in zip(known, *each, strict=True):
            for of, value, fixed, jumps in zip(found[some[number]].values(), *columns, strict=False):
                of[objective] = Elasticity(value=_known(value), fixed=_known(fixed), jumps=jumps)
    return found


def _slopes(costs: Values) -> Values:
    """Slopes of each number, by row of costs at nothing changed, the first number up, down, the second up ...; NaN
    where a cost is not known on both sides."""
    above, below = costs[:, 1::2], costs[:, 2::2]
    known = np.isfinite(above) & np.isfinite(below) & (above > 0.0) & (below > 0.0)  # what is free has no slope
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = np.where(above == below, 0.0, np.log(above / below) / (2.0 * math.log1p(STEP)))
    return np.where(known, slopes, np.nan)


def _known(slope: float) -> float | None:
    return None if math.isnan(slope) else slope


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
