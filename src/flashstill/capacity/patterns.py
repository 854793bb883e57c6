"""Patterns of a training run: up to three stretches (stretches.py) that do not overlap, with sizes that do its work."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme
from flashstill.capacity.stretches import Stretch

MOST_STRETCHES, MOST_PATTERNS = 3, 4000
"""stretches of a pattern, and sets of stretches of a run; with more of them, patterns have fewer stretches"""
LEVELS = (0.0, 0.5, 1.0)
"""shares of the even size from which sizes are filled up, in every order"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Patterns:
    """The patterns of one run: stretches [N, 3] (-1: none), chips [N, T] and their kind [N, T], what they cost [N]."""

    stretches: Any
    chips: Values
    kind: Any
    cost: Values

    def taken(self, place: int, kinds: int) -> Values:
        """The chips [K, T] that a pattern takes."""
        return np.where(np.arange(kinds)[:, None] == self.kind[place], self.chips[place], 0.0)


def run_patterns(problem: Problem, base: Programme, stretches: Sequence[Stretch]) -> Patterns:
    """All patterns of a run's stretches."""
    at, hours = base.columns, problem.step_hours * problem.weight
    place = {pair: row for row, pair in enumerate(zip(at.y_kind.tolist(), at.y_run.tolist(), strict=True))}
    paces, costs = np.zeros(len(stretches)), np.zeros(len(stretches))
    for number, each in enumerate(stretches):
        within = slice(each.first, each.last)
        share = problem.window[each.run, within]
        works = float(share @ hours[within]) - float(problem.restart_hours[each.run])
        paces[number] = problem.speed[each.kind, each.run] * works
        costs[number] = base.cost[at.y[place[each.kind, each.run], within]] @ share
    return patterns_of(stretches, paces, costs, float(problem.work[stretches[0].run]), len(hours))


def patterns_of(stretches: Sequence[Stretch], paces: Values, costs: Values, need: float, steps: int) -> Patterns:
    """All patterns of a run's stretches that do its work. paces, costs: work and cost of one chip of each stretch."""
    first, last = np.array([each.first for each in stretches]), np.array([each.last for each in stretches])
    rows = []
    least, most = np.array([each.least for each in stretches]), np.array([each.most for each in stretches])
    for group in _sets(first, last):
        orders = list(itertools.permutations(range(group.shape[1])))
        for level, order in itertools.product(LEVELS if group.shape[1] == 2 else LEVELS[:1], orders):
            filled = _filled(group, order, level, (paces, least, most), need)
            done = (filled * paces[group]).sum(axis=1) >= need * (1.0 - 1e-9)
            part = np.tile(np.repeat([-1.0, 0.0], MOST_STRETCHES), (len(group), 1))
            part[:, : group.shape[1]], part[:, MOST_STRETCHES : MOST_STRETCHES + group.shape[1]] = group, filled
            rows.append(part[done])
    table = np.concatenate(rows)
    found, size = table[:, :MOST_STRETCHES].astype(np.int64), table[:, MOST_STRETCHES:]
    at = np.arange(steps)
    inside = (first[found][..., None] <= at) & (at < last[found][..., None]) & (found >= 0)[..., None]
    kind = np.array([each.kind for each in stretches])[found]
    return Patterns(
        stretches=found,
        chips=(inside * size[..., None]).sum(axis=1),
        kind=(inside * kind[..., None]).sum(axis=1),
        cost=(size * costs[found]).sum(axis=1),
    )


def _sets(first: Any, last: Any) -> list[Any]:
    """Places of each stretch alone, of two that follow each other, and of three, as far as they are few."""
    sets = [np.arange(len(first))[:, None]]
    before, after = np.searchsorted(np.sort(last), first, "right"), len(first) - np.searchsorted(np.sort(first), last)
    for count in (after.sum(), (before * after).sum()):  # counted before they are made
        if count > MOST_PATTERNS:
            break
        goes_on = sets[-1][after[sets[-1][:, -1]] > 0]
        place, following = np.nonzero(last[goes_on[:, -1]][:, None] <= first)
        sets.append(np.column_stack([goes_on[place], following]))
    return sets


def _filled(
    group: Any, order: tuple[int, ...], level: float, each: tuple[Values, Values, Values], need: float
) -> Values:
    """Chips [N, stretches] from a share of the even size on, filled up in this order until the work is done."""
    pace, least, most = (values[group] for values in each)
    size: Values = np.clip(level * need / pace.sum(axis=1, keepdims=True), least, most)
    for place in order:
        missing = np.maximum(need - (size * pace).sum(axis=1), 0.0)
        size[:, place] += np.minimum(missing / pace[:, place], most[:, place] - size[:, place])
    return size
