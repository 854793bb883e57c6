"""Breakdowns of many decode steps: cases with the same machine and model are priced in one vectorised call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from flashstill.cost import StepCost
from flashstill.cost.footprint import holds
from flashstill.cost.phases import batch_step
from flashstill.economics import RENTED, hourly_price
from flashstill.errors import FlashstillError
from flashstill.facts import Facts
from flashstill.plan.case import Case
from flashstill.plan.explain import Explanation, check_step
from flashstill.plan.layouts import layout_of
from flashstill.plan.resolve import Resolved, Resolver
from flashstill.plan.room import Advised, check_room


def explanations(
    facts: Facts, cases: Sequence[Case], price: str = RENTED, *, bounded: bool = True
) -> list[Explanation | FlashstillError]:
    """As `explain` for each case, in order; the error of a case that cannot be answered, in its place.

    bounded: with the seconds of a perfect machine; without, that lower bound is 0 and the work is almost half.
    """
    decided: dict[int, Explanation | FlashstillError] = {}
    resolver = Resolver(facts)
    groups: dict[int, list[tuple[int, Resolved]]] = defaultdict(list)
    for index, case in enumerate(cases):
        try:
            check_step(case.scenario)
            resolved = resolver.resolve(case.scenario, case.deployment)
        except FlashstillError as error:
            decided[index] = error
            continue
        groups[id(resolved.setup)].append((index, resolved))
    for members in groups.values():
        indices, group = zip(*members, strict=True)
        decided.update(zip(indices, _explained(facts, group, price, bounded), strict=True))
    return [decided[index] for index in range(len(cases))]


def _explained(
    facts: Facts, group: Sequence[Resolved], price: str, bounded: bool
) -> list[Explanation | FlashstillError]:
    """Breakdowns of steps that differ only in load and layout."""
    model, conditions = group[0].model, group[0].conditions
    layout = layout_of(np.array([each.degrees for each in group], dtype=np.float64).T)
    loads = [(each.scenario.batch, each.scenario.mean_tokens, each.scenario.longest_tokens) for each in group]
    batch, tokens, longest = np.array(loads, dtype=np.float64).T
    fits = np.broadcast_to(holds(model, conditions, layout, batch, tokens, longest)[0], batch.shape)
    step = (layout, batch, tokens)
    costs = _apart(batch_step(model, conditions, *step, pue=facts.value("facility", "pue_ratio")), len(group))
    least = batch_step(model, conditions.perfect, *step).seconds if bounded else 0.0
    perfect = np.broadcast_to(least, batch.shape)
    paid = hourly_price(facts, conditions.chip.name, price)
    answers: list[Explanation | FlashstillError] = []
    advised: Advised = {}
    for number, (resolved, cost) in enumerate(zip(group, costs, strict=True)):
        try:
            checked = check_room(resolved, bool(fits[number]), advised)
        except FlashstillError as error:
            answers.append(error)
            continue
        answers.append(Explanation(resolved=checked, cost=cost, perfect_seconds=float(perfect[number]), price=paid))
    return answers


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
