"""Stretches of steps in which a gang stays as it is: break points, candidates, and the programme that chooses some.

Break points are steps at which the load crosses a level, chips come or go, a run's window begins or ends, and some
evenly between; candidates are all stretches between two of them on each kind.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme
from flashstill.capacity.solver import Rows

LEVELS, EVENLY = (0.5, 0.25, 0.75), 3
"""levels of load, as shares of its range, whose crossings are break points while there are few, and the pieces of equal
length that there are besides"""
TINY = 1e-6


class Stretch(NamedTuple):
    """A candidate: kind, run, first step and the step after its last; fewest and most chips; whether it restarts."""

    kind: int
    run: int
    first: int
    last: int
    least: float
    most: float
    restarts: bool


def breaks_of(problem: Problem, run: int, most: int) -> list[int]:
    """Steps between which a run's gang stays as it is, the first and the one after the last included."""
    open_steps = np.flatnonzero(problem.window[run] > 0.0)
    if not len(open_steps):
        return []
    low, high = int(open_steps[0]), int(open_steps[-1]) + 1
    if high - low <= most:
        return list(range(low, high + 1))
    found = {low, high}
    change = (np.abs(np.diff(problem.available, axis=1)) > TINY * problem.available.max()).any(axis=0)
    found |= {int(step) + 1 for step in np.flatnonzero(change)[:most]}
    load = (problem.demand / problem.reference[:, None]).sum(axis=0)
    for level in LEVELS:
        above = load > load.min() + level * (load.max() - load.min())
        crossings = {int(step) + 1 for step in np.flatnonzero(np.diff(above))}
        if len({step for step in found | crossings if low < step < high}) <= most - EVENLY:
            found |= crossings
    found |= {round(float(step)) for step in np.linspace(low, high, EVENLY + 1)}
    return sorted(step for step in found if low <= step <= high)


def candidates_of(problem: Problem, breaks: dict[int, list[int]], before: Values, need: Values) -> list[Stretch]:
    """Every stretch of each run that may be chosen: from one of its break points to a later one, on each kind.

    breaks: of `breaks_of`, by run.  before [K, R]: sizes until then, with which a gang may go on.  need [R]: work that
    is left, in chip-hours of the fastest kind.
    """
    candidates: list[Stretch] = []
    hours = problem.window * problem.step_hours * problem.weight
    for run, points in breaks.items():
        for kind in np.flatnonzero(problem.speed[:, run] > 0.0):
            least, size = max(float(problem.least[kind, run]), TINY), float(before[kind, run])
            for first, last in itertools.combinations(points, 2):
                most = min(float(problem.most[kind, run]), float(problem.available[kind, first:last].min()))
                if most < least:
                    continue
                pace = float(problem.speed[kind, run]) * (
                    float(hours[run, first:last].sum()) - float(problem.restart_hours[run])
                )
                if pace > 0.0:  # more chips would do more than there is to do
                    most_needed = min(most, max(least, float(need[run]) / pace))
                    candidates.append(Stretch(int(kind), run, first, last, least, most_needed, True))
                if first == 0 and 0.0 < size <= most:  # it goes on as it was
                    candidates.append(Stretch(int(kind), run, first, last, size, size, False))
    return candidates


def extended(
    problem: Problem, base: Programme, candidates: list[Stretch], breaks: dict[int, list[int]]
) -> tuple[Values, Rows, Values, Values, Any]:
    """The programme with two more variables for each candidate: its chips, then whether it is used."""
    at, start, count = base.columns, base.columns.count, len(candidates)
    pair = {key: place for place, key in enumerate(zip(at.y_kind.tolist(), at.y_run.tolist(), strict=True))}
    hours = problem.step_hours * problem.weight
    cost = np.concatenate([base.cost, np.zeros(2 * count)])
    entries = _Entries(base.rows)
    following = len(base.rows.side)
    covers: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(candidates):
        chips, used = start + number, start + count + number
        steps = np.arange(each.first, each.last)
        share = problem.window[each.run, steps]
        speed = float(problem.speed[each.kind, each.run])
        lost = float(problem.restart_hours[each.run]) if each.restarts else 0.0
        cost[chips] = float(base.cost[at.y[pair[each.kind, each.run], steps]] @ share)
        work = -speed * (float(share @ hours[steps]) - lost) / base.work_unit[each.run]
        entries.add(base.rows_of_chips[each.kind, steps], chips, np.where(share > 0.0, 1.0, 0.0))
        entries.add(base.rows_of_work[each.run], chips, work)
        entries.add(following, [chips, used], [1.0, -each.most])
        entries.add(following + 1, [chips, used], [-1.0, each.least])
        following += 2
        for first in breaks[each.run]:
            if each.first <= first < each.last:
                covers.setdefault((each.run, first), []).append(used)
    for users in covers.values():
        entries.add(following, users, 1.0)
        following += 1
    sides = np.concatenate([base.rows.side, np.zeros(2 * count), np.ones(len(covers))])
    at_most = np.concatenate([base.rows.at_most, np.ones(len(sides) - len(base.rows.side), dtype=bool)])
    rows = entries.rows(sides, at_most)
    lower = np.concatenate([base.lower, np.zeros(2 * count)])
    upper = np.concatenate([base.upper, np.array([each.most for each in candidates]), np.ones(count)])
    whole = np.concatenate([np.zeros(start + count, dtype=bool), np.ones(count, dtype=bool)])
    return cost, rows, lower, upper, whole


class _Entries:
    """Entries of a matrix, gathered piece by piece after those of given rows."""

    def __init__(self, rows: Rows) -> None:
        self.parts = [(rows.row, rows.column, rows.value)]

    def add(self, row: Any, column: Any, value: Any) -> None:
        """Add entries, which broadcast."""
        rows, columns, values = np.broadcast_arrays(np.atleast_1d(row), column, value)
        self.parts.append((rows, columns, values))

    def rows(self, side: Values, at_most: Any) -> Rows:
        """All of them, with the sides of all rows."""
        row, column, value = (np.concatenate(parts) for parts in zip(*self.parts, strict=True))
        return Rows(row=row, column=column, value=value, side=side, at_most=at_most)
