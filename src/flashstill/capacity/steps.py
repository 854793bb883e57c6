"""Parts of a problem, and the same problem with steps taken together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem

HOURS_PER_DAY = 24.0
OneByOne: TypeAlias = Callable[[Values], Values]
Places: TypeAlias = npt.NDArray[np.int64]


def _by_step(problem: Problem, starts: Values, weight: Values, each: OneByOne) -> Problem:
    """The problem with `each` applied to all arrays whose last axis is the step."""
    supply = problem.supply
    return replace(
        problem,
        starts=starts,
        weight=weight,
        demand=each(problem.demand),
        requests=each(problem.requests),
        rate=each(problem.rate),
        window=each(problem.window),
        open=each(problem.open),
        supply=replace(
            supply,
            available=each(supply.available),
            one_more=each(supply.one_more),
            nine_takes=each(supply.nine_takes),
        ),
    )


def sliced(problem: Problem, first: int, last: int) -> Problem:
    """The steps from `first` up to `last`, which is not among them."""
    return _by_step(problem, problem.starts[first:last], problem.weight[first:last], lambda rows: rows[..., first:last])


def picked(problem: Problem, places: Places) -> Problem:
    """The steps at these places alone."""
    return _by_step(problem, problem.starts[places], problem.weight[places], lambda rows: rows[..., places])


def grouped(problem: Problem, group: Places) -> Problem:
    """One step for each group, the mean of its own, standing for as many. group [T]: numbers from 0 without a gap.

    Means make the problem easier: a peak inside a group is no longer seen.
    """
    counts = np.bincount(group).astype(np.float64)
    starts, weight = np.full(len(counts), np.inf), np.zeros(len(counts))
    np.minimum.at(starts, group, problem.starts)
    np.add.at(weight, group, problem.weight)
    return _by_step(problem, starts, weight, lambda rows: group_means(rows, group))


def group_means(values: Values, group: Places) -> Values:
    """The mean of each group along the last axis."""
    counts = np.bincount(group).astype(np.float64)
    flat = values.reshape(-1, values.shape[-1])
    found = np.array([np.bincount(group, row, len(counts)) for row in flat]).reshape(len(flat), len(counts))
    means: Values = (found / counts).reshape(*values.shape[:-1], len(counts))
    return means


def day_groups(problem: Problem, window_steps: int) -> Places:
    """The number of each step's window and hour of the day together, from 0 without a gap."""
    steps = np.arange(len(problem.starts))
    day = max(round(HOURS_PER_DAY / problem.step_hours), 1)
    _, group = np.unique(steps // window_steps * day + steps % day, return_inverse=True)
    numbers: Places = group.astype(np.int64)
    return numbers


def typical_days(problem: Problem, window_steps: int) -> tuple[Problem, Places]:
    """Each window of so many steps as one typical day, and the window [T'] that each step of these belongs to."""
    group = day_groups(problem, window_steps)
    window = np.zeros(int(group.max()) + 1, dtype=np.int64)
    window[group] = np.arange(len(problem.starts)) // window_steps
    return grouped(problem, group), window


def thinned(problem: Problem, most: int) -> Problem:
    """The problem in at most so many steps: as it is, or with neighbours taken together."""
    steps = len(problem.starts)
    if steps <= most:
        return problem
    return grouped(problem, (np.arange(steps) // -(-steps // most)).astype(np.int64))
