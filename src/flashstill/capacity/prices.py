"""What binds: dual values, and what one unit more is worth.

    one more chip        - sum over steps of the dual value of its kind's chips x the chips that one more adds
    one more nine        the same with the chips that one more nine takes: a lower bound, as costs are convex
    one hour of slack    the least cost with the deadline an hour later, and an hour earlier, solved anew; of large
                         plans, that hour's gain at the dual values of work: at most so much, and at least so much

The cost of a linear programme is convex in the numbers of chips, so that a dual value lies between what one unit more
saves and what one unit less costs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme, columns_of, cost_unit, most_ties, programme_of
from flashstill.capacity.solver import SolverTrouble, solve_linear
from flashstill.capacity.steps import picked
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

TIE_DUAL = 1e-5
"""share of the dearest chip-hour below which a dual value comes from the costs that break ties, and counts as none"""
TIE_OF_ALL = 1e-3
"""share of all that ties can make, below which a difference of two costs comes from them"""
SMALL = 6000
"""variables up to which a deadline's worth is found by solving anew"""
SOLVED_ANEW, AT_PRICES = "solved anew", "at fixed prices of work"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Dual values in dollars (hours of finishing with the objective "training"), none negative.

    chip [K, T]: of a chip in a step.  token [P, T]: of a million output tokens.  work [R]: of a chip-hour of the
    fastest kind.
    """

    chip: Values
    token: Values
    work: Values


def prices_of(problem: Problem, programme: Programme, duals: Values) -> Prices:
    """The dual values of the rows by what they are of."""
    hours = problem.step_hours * problem.weight
    duals = duals / cost_unit(problem)
    million = programme.reference[:, None] * SECONDS_PER_HOUR * hours / TOKENS_PER_MILLION
    work = np.zeros(len(problem.work))
    if len(programme.rows_of_work):
        work = -duals[programme.rows_of_work] / programme.work_unit
    chip = -duals[programme.rows_of_chips]
    early = problem.plan.objective == "training"
    dearest = chip.max(initial=0.0) if early else problem.supply.price_usd.max(initial=0.0) * hours.max(initial=0.0)
    return Prices(
        chip=np.where(chip > TIE_DUAL * dearest, chip, 0.0),
        token=np.maximum(duals[programme.rows_of_demand], 0.0) / million,
        work=np.maximum(work, 0.0),
    )


def worth_of_chips(problem: Problem, prices: Prices) -> Values:
    """What one more chip of each kind saves [K]."""
    found: Values = (prices.chip * problem.supply.one_more).sum(axis=1)
    return found


def cost_of_a_nine(problem: Problem, prices: Prices) -> float:
    """What one more nine costs at the least."""
    return float((prices.chip * problem.supply.nine_takes).sum())


def worth_of_deadlines(problem: Problem, cost: float, trained: Values, prices: Prices) -> list[dict[str, Any]]:
    """For each run, what an hour later saves and an hour earlier costs; None where no such hour is in the plan.

    cost, trained [K, R, T], prices: of the relaxed programme.
    """
    tie = TIE_OF_ALL * most_ties(problem)
    found, unit, small = [], cost_unit(problem), columns_of(problem).count <= SMALL
    for run, one in enumerate(problem.plan.trainings):
        later = _moved(problem, run, 1.0) if one.deadline + 1.0 <= problem.plan.horizon_hours else ()
        earlier = _moved(problem, run, -1.0) if one.deadline - 1.0 > one.start else ()
        differs = functools.partial(_one_difference, problem, cost=cost, trained=trained, prices=prices, small=small)
        gain, loss = _least(map(differs, later)), _least(map(differs, earlier))
        found.append(
            {
                "one_hour_later": None if gain is None else _real(-gain / unit, tie),
                "one_hour_earlier": None if loss is None else _real(loss / unit, tie),
                "basis": SOLVED_ANEW if small else AT_PRICES,
            }
        )
    return found


def _real(value: float, tie: float) -> float:
    """A worth, 0 where it is less than what ties can make."""
    return value if value > tie else 0.0


def _moved(problem: Problem, run: int, hours: float) -> tuple[Problem, ...]:
    """The problem with a run's deadline moved.

    A student still begins after its teacher.  A teacher's students begin when they did, if it may end then, and as a
    choice so many hours later.
    """
    window, one = problem.window.copy(), problem.plan.trainings[run]
    window[run] = _share(problem, one.start, one.deadline + hours)
    teacher, students = int(problem.teacher[run]), np.flatnonzero(problem.teacher == run)
    if teacher >= 0:
        window[run, : _handover(problem, teacher)] = 0.0
    if not len(students):
        return (replace(problem, window=window),)
    handover = _handover(problem, run)
    last = int(np.ceil((one.deadline + hours) / problem.step_hours - 1e-9))
    choices = {min(handover, last), min(handover + int(np.ceil(max(hours, 0.0) / problem.step_hours)), last)}
    found = []
    for step in sorted(choices):
        other = window.copy()
        other[run, step:] = 0.0
        for student in students:
            its = problem.plan.trainings[student]
            other[student] = _share(problem, its.start, its.deadline)
            other[student, :step] = 0.0
        found.append(replace(problem, window=other))
    return tuple(found)


def _handover(problem: Problem, teacher: int) -> int:
    """The step in which the students of a teacher may begin."""
    steps = np.flatnonzero(problem.window[teacher] > 0.0)
    return int(steps[-1]) + 1 if len(steps) else 0


def _share(problem: Problem, start: float, deadline: float) -> Values:
    """Share of each step [T] between two hours."""
    ends = problem.starts + problem.step_hours
    found: Values = np.clip(np.minimum(ends, deadline) - np.maximum(problem.starts, start), 0.0, None)
    return found / problem.step_hours


def _least(costs: Iterable[float | None]) -> float | None:
    """By how much the best of other problems costs more; None if there is none that can be kept."""
    return min((cost for cost in costs if cost is not None), default=None)


def _one_difference(
    problem: Problem, other: Problem, *, cost: float, trained: Values, prices: Prices, small: bool
) -> float | None:
    opens, closes = other.window > problem.window, other.window < problem.window
    if not opens.any() and not trained[:, closes].any():
        return 0.0  # the solution keeps what the other problem asks for
    if small:
        programme = programme_of(other)
        solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper, with_ties=False)
        late = solved is None or bool((solved.x[programme.columns.u] > 1e-6 * np.maximum(problem.work, 1.0)).any())
        return None if solved is None or late else solved.cost - cost
    changed = np.flatnonzero((other.window != problem.window).any(axis=0))
    if not len(changed):
        return 0.0
    return (
        priced(picked(other, changed), prices.work)[0] - priced(picked(problem, changed), prices.work)[0]
    ) * cost_unit(problem)


def priced(problem: Problem, price_of_work: Values, held: Values | None = None) -> tuple[float, Prices]:
    """The least cost of a problem whose runs need not be done, but earn so much for each chip-hour of work, and its
    dual values. In dollars or hours, as the price is.  held [K, R, T]: chips of gangs."""
    unit = cost_unit(problem)
    programme = programme_of(problem, held=held, price_of_work=price_of_work * unit)
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    if solved is None:
        raise SolverTrouble("the gangs take more chips than there are")
    return solved.cost / unit, replace(prices_of(problem, programme, solved.duals), work=price_of_work)
