"""Parts of a problem, and the same problem with steps taken together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.units import HOURS_PER_DAY

OneByOne: TypeAlias = Callable[[Values], Values]
Places: TypeAlias = npt.NDArray[np.int64]


def _by_step(
    problem: Problem,
    starts: Values,
    weight: Values,
    each: OneByOne,
    owed: OneByOne | None = None,
    had: OneByOne | None = None,
) -> Problem:
    """The problem with `each` applied to all arrays whose last axis is the step.

    owed, had: instead, for demand, and for chips and their rates.
    """
    supply, owed, had = problem.supply, owed or each, had or each
    return replace(
        problem,
        starts=starts,
        weight=weight,
        demand=owed(problem.demand),
        requests=owed(problem.requests),
        rate=had(problem.rate),
        window=each(problem.window),
        open=each(problem.open),
        supply=replace(
            supply,
            available=had(supply.available),
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


def grouped(problem: Problem, group: Places, worst: bool = False) -> Problem:
    """One step for each group, the mean of its own, standing for as many. group [T]: numbers from 0 without a gap.

    Means make the problem easier: a peak inside a group is no longer seen.  worst: instead the most demand and the
    fewest chips and rates of a group, so that what can be had in it can be had in all of its steps.
    """
    counts = np.bincount(group).astype(np.float64)
    starts, weight = np.full(len(counts), np.inf), np.zeros(len(counts))
    np.minimum.at(starts, group, problem.starts)
    np.add.at(weight, group, problem.weight)
    means: OneByOne = lambda rows: group_means(rows, group)
    if not worst:
        return _by_step(problem, starts, weight, means)
    order = np.argsort(group, kind="stable")
    firsts = np.searchsorted(group[order], np.arange(len(counts)))
    most: OneByOne = lambda rows: np.maximum.reduceat(rows[..., order], firsts, axis=-1)
    least: OneByOne = lambda rows: np.minimum.reduceat(rows[..., order], firsts, axis=-1)
    return _by_step(problem, starts, weight, means, most, least)


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
