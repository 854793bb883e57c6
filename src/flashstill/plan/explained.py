"""Breakdowns of many decode steps: cases with the same machine and model are priced in one vectorised call.

Where the same steps of a model are asked of several machines or memory tiers, these are a stack (cost/stacks.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.cost import Conditions, StepCost
from flashstill.cost.footprint import holds
from flashstill.cost.phases import batch_step
from flashstill.cost.stacks import essential, stacked_alike
from flashstill.economics import RENTED, hourly_price
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.hardware.stacked import AXES
from flashstill.plan.case import Case
from flashstill.plan.explain import Explanation, check_step
from flashstill.plan.layouts import layout_of
from flashstill.plan.resolve import Resolved, Resolver
from flashstill.plan.room import Advised, check_room

Stacks = list[tuple[list[int], Conditions]]
"""places in a list of conditions, and these as one"""
MOST_STACKS = 32
"""kept for one table of facts: what a slider moves over, not all that was ever asked"""
Members = list[tuple[int, Resolved]]
"""cases of one machine and model, each with its place among all"""


def explanations(
    facts: Facts, cases: Sequence[Case], price: str = RENTED, *, bounded: bool = True
) -> list[Explanation | FlashstillError]:
    """As `explain` for each case, in order; the error of a case that cannot be answered, in its place.

    bounded: with the seconds of a perfect machine; without, that lower bound is 0 and the work is almost half.
    """
    decided: dict[int, Explanation | FlashstillError] = {}
    resolver = Resolver(facts)
    groups: dict[int, Members] = defaultdict(list)
    for index, case in enumerate(cases):
        try:
            check_step(case.scenario)
            resolved = resolver.resolve(case.scenario, case.deployment)
        except FlashstillError as error:
            decided[index] = error
            continue
        groups[id(resolved.setup)].append((index, resolved))
    for priced in _together(facts, list(groups.values()), bounded):
        decided.update(_answered(facts, priced, price))
    return [decided[index] for index in range(len(cases))]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Priced:
    """Steps of one machine and model. perfect_s: seconds of a perfect machine; fits: whether their memory suffices."""

    members: Members
    costs: list[StepCost]
    perfect_s: list[float]
    fits: list[bool]


def _together(facts: Facts, groups: Sequence[Members], bounded: bool) -> Iterator[_Priced]:
    """Every group priced; where no lower bounds are wanted, those of one model and the same steps in one call."""
    alike: dict[Hashable, list[Members]] = defaultdict(list)
    for number, members in enumerate(groups):
        steps = tuple((each.degrees, *_load(each)) for _, each in members)
        alike[number if bounded else (id(members[0][1].model), steps)].append(members)
    for several in alike.values():
        conditions = [members[0][1].conditions for members in several]
        if len(several) == 1:
            yield from _priced(facts, several, conditions[0], bounded)
            continue
        for places, stacked in _stacks(facts, conditions):
            yield from _priced(facts, [several[place] for place in places], stacked, bounded)


def _stacks(facts: Facts, conditions: Sequence[Conditions]) -> Stacks:
    """The conditions as stacks, made once for all models in the same formats: making one takes longer than pricing."""
    known: dict[Hashable, Stacks] = facts.derived("stacks of steps", dict)
    key = tuple(
        (
            one.chip.name, one.precisions, one.weights.name, one.cache.name, one.software, one.skew, one.sampled,
            one.overlap_units_ratio,
        )
        for one in conditions
    )  # fmt: skip
    found = known.get(key)  # read once, as another thread may clear what is known
    if found is None:
        found = list(stacked_alike([essential(one) for one in conditions], len(conditions)))
        if len(known) >= MOST_STACKS:
            known.clear()
        known[key] = found
    return found


def _priced(facts: Facts, groups: Sequence[Members], conditions: Conditions, bounded: bool) -> Iterator[_Priced]:
    """The groups, which differ in machine only. conditions: those of the machine, or of all machines as a stack."""
    first = [each for _, each in groups[0]]
    model, count = first[0].model, len(first)
    layout = layout_of(np.array([each.degrees for each in first], dtype=np.float64).T)
    batch, tokens, longest = np.array([_load(each) for each in first], dtype=np.float64).T

    def rows(figure: object) -> npt.NDArray[Any]:
        """(groups, steps)"""
        array = np.asarray(figure)
        return np.broadcast_to(array, (len(groups), *(1,) * (AXES - 1), count)).reshape(len(groups), count)

    fits = rows(holds(model, conditions, layout, batch, tokens, longest)[0])
    step = (layout, batch, tokens)
    cost = batch_step(model, conditions, *step, pue=facts.value("facility", "pue_ratio")).each(rows)
    walls = rows(cost.wall_ratio)
    perfect_s = rows(batch_step(model, conditions.perfect, *step).seconds if bounded else 0.0)
    for place, members in enumerate(groups):
        mine = replace(cost, wall_ratio=walls[place]).each(partial(_row, place=place))
        yield _Priced(
            members=members,
            costs=_apart(mine, count),
            perfect_s=perfect_s[place].tolist(),
            fits=fits[place].tolist(),
        )


def _row(figures: Any, place: int) -> Any:
    return figures[place]


def _load(resolved: Resolved) -> tuple[float, float, float]:
    """Sequences of a step, and their cached tokens on average and at full length."""
    asked = resolved.scenario
    return asked.batch, asked.mean_tokens, asked.longest_tokens(resolved.model)


def _answered(facts: Facts, priced: _Priced, price: str) -> Iterator[tuple[int, Explanation | FlashstillError]]:
    """The place and the breakdown of each step, or why its memory does not hold the batch."""
    paid = hourly_price(facts, priced.members[0][1].conditions.chip.name, price)
    advised: Advised = {}
    answers = zip(priced.members, priced.costs, priced.perfect_s, priced.fits, strict=True)
    for (index, resolved), cost, perfect_s, fits in answers:
        try:
            checked = check_room(resolved, fits, advised)
        except FlashstillError as error:
            yield index, error
            continue
        yield index, Explanation(resolved=checked, cost=cost, perfect_seconds=perfect_s, price=paid)


def _apart(cost: StepCost, count: int) -> list[StepCost]:
    """The costs of the single cases, from one whose figures are arrays over them."""

    def column(figure: object) -> list[float]:
        values: list[float] = np.broadcast_to(np.asarray(figure, dtype=np.float64), (count,)).tolist()
        return values

    seconds, macs, chips, walls = (column(figure) for figure in (cost.seconds, cost.macs, cost.chips, cost.wall_ratio))
    joules = {level: column(figure) for level, figure in cost.joules.items()}
    shares = {name: column(figure) for name, figure in cost.shares_s.items()}
    return [
        StepCost(
            seconds=seconds[one],
            joules={level: figures[one] for level, figures in joules.items()},
            shares_s={name: figures[one] for name, figures in shares.items()},
            macs=macs[one],
            chips=chips[one],
            wall_ratio=walls[one],
        )
        for one in range(count)
    ]
