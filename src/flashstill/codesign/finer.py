"""Refinement: the best designs of the grid are moved between its points, until what a round gains is small.

From the best design of each family (kinds of memory, wiring) of those that the grid's hunt priced, rounds of steps
(finer_steps.py): all designs a step away are made, and priced together; each start moves to the best of its own.  A
start that gains less than `GAIN` halves its steps, and rests after the finest; every other round halves the starts
to those that lead.  This is done for everything that the answer names: each future, each end of the front, regrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from flashstill.codesign.design_columns import Places
from flashstill.codesign.designs import Values
from flashstill.codesign.finer_steps import choices_around, first_steps, steps_around
from flashstill.codesign.hunt import Combined, Found, Hunt
from flashstill.codesign.listed import NONE, Listed, family_of, listed_of, rows_from
from flashstill.codesign.regret import Regrets, expected_of, largest_of

LEFT, MOST = 5, 8192
"""of so many designs asked for the grid leaves one to refinement; designs that refinement prices at the most"""
GAIN, ROUNDS, HALVINGS = 0.005, 24, 5
"""a round's gain below which steps are halved; rounds and halvings at the most"""
_STARTS, _LOOKED, _LEADING = 8, 256, 2
"""starts of each goal, the best priced designs among which they are looked for, and those kept to the end"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """What is minimised: a combination of the costs in some futures. found: what the grid's hunt has for it."""

    futures: tuple[int, ...]
    combined: Combined
    found: Found


@dataclass(frozen=True, kw_only=True, slots=True)
class Finer:
    """hunt: over designs of the grid and refined ones, each with its cost as its bound.

    priced: refined designs.  start: number of the design of the grid that was chosen.
    """

    hunt: Hunt
    priced: int
    start: int


def alone(costs: Sequence[Values]) -> Values:
    """The only cost."""
    return costs[0]


def refined(
    hunt: Hunt,
    chances: Sequence[float],
    ends: Mapping[int, Found],
    grid: Regrets,
    base: int,
    kept: Places,
    chosen: int,
) -> Finer:
    """The refined list of a hunt. ends: by place of the objective the best of the grid, of which `base` was asked for.

    grid: best designs of the futures, which are the first ones.  kept: designs of the grid that the answer may name,
    with the `chosen` one.
    """
    futures = list(range(len(grid.best)))
    founds = {(place,): found for place, found in ends.items() if place != base and place not in futures}
    founds |= {(place,): found for place, found in enumerate(grid.best) if place != base} | {(base,): ends[base]}
    goals = [Goal(futures=place, combined=alone, found=found) for place, found in founds.items() if found.design >= 0]
    starts = [starts_of(hunt, goal) for goal in goals]
    designs = np.unique(np.concatenate([kept, *starts]))
    empty = listed_of(hunt)
    listed, numbers = empty.with_rows(rows_from(empty, hunt, designs), len(designs))
    left, grid_rows = min(hunt.space.size // (LEFT - 1), MOST), len(listed.points)
    regrets: list[tuple[Found, Callable[[Sequence[float]], Combined]]] = []
    if grid.minimax and grid.mean:
        regrets = [(grid.mean, partial(expected_of, probabilities=chances)), (grid.minimax, largest_of)]
    named, todo = [numbers], len(goals) + len(regrets)
    for goal, start in zip(goals, starts, strict=True):
        before = len(listed.points)
        listed, ended = _descended(hunt, listed, goal, numbers[np.searchsorted(designs, start)], left // todo)
        left, todo = left - (len(listed.points) - before), todo - 1
        named.append(ended)
    for found, combined_of in regrets:
        before, all_ = len(listed.points), np.unique(np.concatenate(named))
        costs = [listed.cost(place, all_) for place in futures]
        goal = Goal(futures=tuple(futures), combined=combined_of([float(one.min()) for one in costs]), found=found)
        start = best_of_families(listed, all_, goal.combined(costs))
        listed, ended = _descended(hunt, listed, goal, start, left // todo)
        left, todo = left - (len(listed.points) - before), todo - 1
        named.append(ended)
    final = np.unique(np.concatenate(named))
    bounds = []
    for place in range(len(hunt.wanted)):
        full = np.full(len(listed.points), np.inf)
        full[final] = listed.cost(place, final)
        bounds.append(full)
    return Finer(
        hunt=replace(listed, screened=replace(hunt.screened, bounds=tuple(bounds))),
        priced=len(listed.points) - grid_rows,
        start=int(numbers[np.searchsorted(designs, chosen)]),
    )


def starts_of(hunt: Hunt, goal: Goal) -> Places:
    """The best design of each family, of those of the grid that were priced for a goal, best first."""
    tried = goal.found.tried
    return best_of_families(hunt, tried, goal.combined([hunt.cost(future, tried) for future in goal.futures]))


def best_of_families(hunt: Hunt, designs: Places, costs: Values) -> Places:
    """The best design of each family, best first."""
    order = np.argsort(costs, kind="stable")
    best = designs[order[np.isfinite(costs[order])][:_LOOKED]]
    families = {
        int(place): family_of(hunt, found, number)
        for places, found in hunt.by_block(np.sort(best))
        for number, place in enumerate(places)
    }
    first: dict[tuple[object, ...], int] = {}
    for design in best:
        first.setdefault(families[int(design)], int(design))
    return np.array(list(first.values())[:_STARTS], dtype=np.intp)


def _descended(hunt: Hunt, listed: Listed, goal: Goal, starts: Places, most: int) -> tuple[Listed, Places]:
    """The list after the rounds of one goal, and where its starts ended. most: further designs."""
    at, limit = starts.copy(), len(listed.points) + most
    costs = _cost(listed, goal, at)
    steps, halved = first_steps((hunt.space.macs, hunt.space.sram_bytes)), np.zeros(len(at), dtype=int)
    for number in range(ROUNDS):
        leading = _leading(listed, at, costs, max(len(at) >> (number // 2), _LEADING))
        active = [place for place in leading if halved[place] <= HALVINGS]
        if not active or len(listed.points) >= limit:
            break
        around = []
        for place in active:
            row = listed.points[at[place]]
            rows = [steps_around(listed, row, steps * 0.5 ** halved[place])]
            around.append(np.concatenate([*rows, choices_around(listed, row)] if number % 2 == 0 else rows))
        listed, found = listed.with_rows(np.concatenate(around), limit - len(listed.points))
        news = np.full(len(found), np.inf)
        if (found != NONE).any():
            met, back = np.unique(found[found != NONE], return_inverse=True)
            news[found != NONE] = _cost(listed, goal, met)[back]
        begin = 0
        for place, rows_ in zip(active, around, strict=True):
            mine = news[begin : begin + len(rows_)]
            best = int(np.argmin(mine))
            gained = 1.0 - mine[best] / costs[place]
            if gained > 0.0:
                at[place], costs[place] = found[begin + best], mine[best]
            if gained < GAIN and (number % 2 == 0 or gained <= 0.0):
                halved[place] += 1
            begin += len(rows_)
    return listed, at


def _leading(listed: Listed, at: Places, costs: Values, most: int) -> list[int]:
    """The best starts, of each family one."""
    first: dict[tuple[object, ...], int] = {}
    for place in np.argsort(costs, kind="stable"):
        ((_, found),) = listed.by_block(at[place : place + 1])
        first.setdefault(family_of(listed, found, 0), int(place))
    return list(first.values())[:most]


def _cost(listed: Listed, goal: Goal, designs: Places) -> Values:
    return goal.combined([listed.cost(future, designs) for future in goal.futures])
