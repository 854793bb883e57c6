"""When a run whose early end is worth something should end: its hour of finishing, chosen exactly.

The linear programme counts the mean hour of the work.  Here the run must end by the hour F, which costs by itself:

    total(F) = least cost with the deadline F + value x F,     F: every step end (or some of them) up to the deadline
    bound    = min over F of  least cost with F + value x (the F before),   as the least cost only falls as F grows

Runs come one after another; the bound is of a single such run.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.capacity.finish import earliest
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import most_ties, programme_of
from flashstill.capacity.solver import solve_linear

MOST_HOURS = 48
"""hours of finishing that are tried for each run"""


def valued_runs(problem: Problem) -> list[int]:
    """Runs without gangs and students that gain by an early end."""
    taught = {int(one) for one in problem.teacher}
    valued = (problem.value_usd_per_hour > 0.0) & ~problem.gangs & (problem.teacher < 0)
    return [int(run) for run in np.flatnonzero(valued) if int(run) not in taught]


def with_ends(problem: Problem, runs: list[int]) -> tuple[Problem, float]:
    """The problem in which these runs must end by their best hours, and a bound on the cost (-infinity: none)."""
    bound = -np.inf
    for run in runs:
        value = float(problem.value_usd_per_hour[run])
        free = problem.value_usd_per_hour.copy()
        free[run] = 0.0
        problem = replace(problem, value_usd_per_hour=free)
        ends = problem.starts + problem.step_hours
        last = int(np.flatnonzero(problem.window[run] > 0.0)[-1])
        soonest = float(earliest(problem)[run])
        places = np.flatnonzero((ends >= soonest) & (np.arange(len(ends)) <= last))
        if not len(places):
            continue
        tried = np.unique(
            places[np.linspace(0, len(places) - 1, min(len(places), MOST_HOURS)).round().astype(np.int64)]
        )
        costs = np.array([_cost(_ended(problem, run, int(step))) for step in tried])
        best = int(np.argmin(costs + value * ends[tried]))
        before = np.concatenate([[soonest], ends[tried[:-1]]])
        if len(runs) == 1:
            bound = float((costs + value * before).min()) - most_ties(problem)
        problem = _ended(problem, run, int(tried[best]))
    return problem, bound


def _ended(problem: Problem, run: int, step: int) -> Problem:
    """The run must be done by the end of the step."""
    window = problem.window.copy()
    window[run, step + 1 :] = 0.0
    return replace(problem, window=window)


def _cost(problem: Problem) -> float:
    programme = programme_of(problem)
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    return np.inf if solved is None else solved.cost
