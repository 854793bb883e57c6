"""When students may begin: for each teacher that has students, an hour by which it finishes and they start.

The hour is chosen from a grid between the earliest at which the teacher could finish and its deadline, by the cost of
the linear programme on at most `THIN` steps, and once more around the best.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.finish import earliest
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import programme_of
from flashstill.capacity.solver import solve_linear
from flashstill.capacity.steps import thinned

THIN, GRID, ROUNDS, CLOSE = 96, 7, 2, 2e-3


def released(problem: Problem, shift: float = 0.0) -> Problem:
    """The problem with windows in which every student begins as its teacher has finished.

    shift: moves each hour by that share of the way to the teacher's deadline, or, below 0, back to its earliest hour.
    """
    teachers = sorted({int(one) for one in problem.teacher if one >= 0}, key=lambda run: _depth(problem, run))
    for teacher in teachers:
        best, deadline = _best_hour(problem, teacher), problem.plan.trainings[teacher].deadline
        hour = best + shift * (deadline - best if shift > 0.0 else best - min(float(earliest(problem)[teacher]), best))
        problem = _parted(problem, teacher, float(np.ceil(hour / problem.step_hours) * problem.step_hours))
    return problem


def no_sooner(problem: Problem) -> Problem:
    """A relaxation: every student begins no sooner than its teacher could finish alone on the fleet."""
    window, alone = problem.window.copy(), earliest(problem)
    for run, teacher in enumerate(problem.teacher):
        if teacher >= 0:
            window[run] = np.minimum(window[run], _after(problem, float(alone[teacher])))
    return replace(problem, window=window)


def _depth(problem: Problem, run: int) -> int:
    teacher = int(problem.teacher[run])
    return 0 if teacher < 0 else 1 + _depth(problem, teacher)


def _best_hour(problem: Problem, teacher: int) -> float:
    low = float(np.ceil(earliest(problem)[teacher] / problem.step_hours) * problem.step_hours)
    high = problem.plan.trainings[teacher].deadline
    if low >= high:
        return high
    for _ in range(ROUNDS):
        hours = np.unique(np.ceil(np.linspace(low, high, GRID) / problem.step_hours) * problem.step_hours)
        hours = hours[hours <= problem.plan.trainings[teacher].deadline]
        if not len(hours):
            return high
        costs = [_cost(_parted(problem, teacher, float(hour))) for hour in hours]
        early = problem.plan.objective == "training"
        best = _middle(np.array(costs), 0.0 if early else CLOSE * float(problem.supply.fixed_usd.sum()))
        low, high = float(hours[max(best - 1, 0)]), float(hours[min(best + 1, len(hours) - 1)])
    return float(hours[best])


def _middle(costs: Values, close: float) -> int:
    """The middle one of those that cost about the least: it leaves gangs room on both sides."""
    least = float(costs.min())
    if not np.isfinite(least):
        return int(np.argmin(costs))
    near = np.flatnonzero(costs <= least + close + CLOSE * abs(least))
    return int(near[len(near) // 2])


def _cost(problem: Problem) -> float:
    programme = programme_of(thinned(problem, THIN))
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    return np.inf if solved is None else solved.cost


def _parted(problem: Problem, teacher: int, hour: float) -> Problem:
    """Its teacher finishes by the hour, and its students begin there."""
    window = problem.window.copy()
    window[teacher] = np.minimum(window[teacher], 1.0 - _after(problem, hour))
    for student in np.flatnonzero(problem.teacher == teacher):
        window[student] = np.minimum(window[student], _after(problem, hour))
    return replace(problem, window=window)


def _after(problem: Problem, hour: float) -> Values:
    """Share of each step [T] that lies after the hour."""
    length = problem.step_hours
    found: Values = np.clip((problem.starts + length - hour) / length, 0.0, 1.0)
    return found
