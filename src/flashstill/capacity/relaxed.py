"""A solution of the linear programme in terms of the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.prices import prices_of
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme, cost_unit, programme_of
from flashstill.capacity.solver import Solved, SolverTrouble, solve_linear

NOTHING = 1e-7
"""share below which chips and missing work are rounding of the solver"""
MOST_ROUNDED = 1e5
"""chips from which on rounding grows no more: a hundredth of a chip is no rounding"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Relaxed:
    """serving [K, P, T], trained [K, R, T]: chips.  unserved [P, T]: output tokens/s.  missing [R]: work not done.

    cost: what was minimised, in dollars or hours; real: the same without ties and penalties; bound: no solution of the
    programme costs less.  chip_price [K, T], token_price [P, T], work_price [R]: dual values (prices.py).
    """

    serving: Values
    trained: Values
    unserved: Values
    missing: Values
    cost: float
    real: float
    bound: float
    chip_price: Values
    token_price: Values
    work_price: Values

    def idle(self, problem: Problem) -> Values:
        """Chips [K, T] that do nothing."""
        found: Values = problem.available - self.serving.sum(axis=1) - self.trained.sum(axis=1)
        return np.maximum(found, 0.0)

    def spare(self, problem: Problem) -> Values:
        """Chips [K, T] that do nothing at any time of a step: a run's are not to be had outside its window either."""
        share = np.where(problem.window > 0.0, problem.window, 1.0)
        found: Values = problem.available - self.serving.sum(axis=1) - (self.trained / share).sum(axis=1)
        return np.maximum(found, 0.0)


def solve_relaxed(problem: Problem, held: Values | None = None) -> Relaxed:
    """The whole programme at once. held [K, R, T]: chips of the runs that have gangs."""
    programme = programme_of(problem, held=held)
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    if solved is None:
        raise SolverTrouble(
            "HiGHS found no allocation, though leaving all undone is one: the plan's numbers lie too far apart"
            if held is None
            else "the gangs take more chips than there are"
        )
    return relaxed_of(problem, programme, solved)


def relaxed_of(problem: Problem, programme: Programme, solved: Solved, carries: bool = False) -> Relaxed:
    """What a solution says. carries: work that is missing is left to a later window, and costs nothing here."""
    at, unit = programme.columns, cost_unit(problem)
    kinds, products, runs, steps = problem.shape
    serving, trained = np.zeros((kinds, products, steps)), np.zeros((kinds, runs, steps))
    most = problem.available.max(axis=1, initial=0.0)
    serving[at.x_kind, at.x_product] = _clean(solved.x[at.x], most[at.x_kind])
    trained[at.y_kind, at.y_run] = _clean(solved.x[at.y], most[at.y_kind])
    unserved = solved.x[at.s] * programme.reference[:, None]
    unserved[unserved < NOTHING * problem.demand.max(axis=1, initial=0.0)[:, None]] = 0.0
    missing = solved.x[at.u]
    prices = prices_of(problem, programme, solved.duals)
    owed = float((programme.cost[at.u] * missing).sum()) if carries else 0.0
    return Relaxed(
        serving=serving,
        trained=trained,
        unserved=unserved,
        missing=np.where(missing > 1e-6 * problem.work, missing, 0.0),
        cost=(solved.cost - owed) / unit,
        real=float(programme.real_cost @ solved.x) / unit,
        bound=solved.cost / unit,
        chip_price=prices.chip,
        token_price=prices.token,
        work_price=prices.work,
    )


def _clean(chips: Values, most: Values) -> Values:
    """Chips [N, T] without the solver's rounding. most [N]: of their kind."""
    return np.where(chips > NOTHING * np.minimum(np.maximum(most, 1.0), MOST_ROUNDED)[:, None], chips, 0.0)
