"""Solves a capacity plan: the relaxed programme, gangs of whole sizes, and what binds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.capacity.answer import CapacityAnswer
from flashstill.capacity.curves import Values
from flashstill.capacity.cuts import patterned_gangs
from flashstill.capacity.finish import finishes, work_done
from flashstill.capacity.gangs import Gangs, Search, chosen_gangs
from flashstill.capacity.mending import violations_of
from flashstill.capacity.prices import SMALL, Prices, cost_of_a_nine, worth_of_chips, worth_of_deadlines
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import columns_of, cost_unit, most_ties
from flashstill.capacity.relaxed import Relaxed, solve_relaxed
from flashstill.capacity.release import no_sooner, released
from flashstill.capacity.rolling import solve_rolling
from flashstill.capacity.solver import LARGE
from flashstill.capacity.sooner import valued_runs, with_ends

MOST_AT_ONCE = 400_000
"""variables of one programme; above, the horizon rolls"""
MOST_GANG_STEPS, GANG_HOURS = 300, 168.0
"""steps x runs up to which gangs are found for the whole horizon at once, and the windows of longer plans"""
DAY_HOURS = 24.0
"""windows in which gangs are looked for where longer ones, with few break points for many days, do not find any"""
FEW, MANY, WINDOW_GAP = 6, 12, 0.03
"""break points of gangs: first few, and more where these leave a gap; the gap at which one window of several is done"""
SHIFTS = (0.3, -0.3, 0.7)
"""how the hours at which students begin are moved where gangs cannot do their work with the best ones"""
CLOSE, SECONDS = 0.02, 5.0
"""gap at which the search for gangs ends, and the most seconds for each window"""
WINDOW_HOURS = 168.0
Told = Callable[[str], None]


def _silent(text: str) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """rolling_hours: windows of a rolling horizon (None: only for plans that are too large to solve at once).
    seconds: for gangs of whole sizes.  gap: of gangs, at which the search ends."""

    rolling_hours: float | None = None
    seconds: float = SECONDS
    gap: float = CLOSE


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A solution and its gangs; missing [R] chip-hours; cost with the true hours of finishing."""

    relaxed: Relaxed
    gangs: Gangs | None
    done: Values
    missing: Values
    cost: float
    how: str


def solve(
    problem: Problem, limits: Limits | None = None, told: Told = _silent, with_duals: bool = True
) -> CapacityAnswer:
    """The allocation of chip-hours, what binds, and what cannot be kept."""
    import scipy.optimize  # noqa: F401  # its import is no part of the solver's time

    limits = limits or Limits()
    started = time.perf_counter()
    window = _window_steps(problem, limits)
    if window is None and problem.gangs.any() and columns_of(problem).count > LARGE:
        window = max(round(WINDOW_HOURS / problem.step_hours), 1)  # the windows that gangs need in any case
    parted = released(problem) if (problem.teacher >= 0).any() else problem
    first = _relaxed(parted, window, told)
    bound = (first if parted is problem else _relaxed(no_sooner(problem), window, told)).bound - most_ties(problem)
    found = _measured(parted, first, None, "linear programme" if window is None else "rolling horizon")
    valued = valued_runs(problem) if columns_of(problem).count <= SMALL and problem.plan.objective != "training" else []
    if valued and not problem.gangs.any():
        ended, sooner = with_ends(parted, valued)
        other = _measured(parted, solve_relaxed(ended), None, found.how, ended.value_usd_per_hour)
        found, bound = min(found, other, key=_rank), max(bound, sooner)
    if problem.gangs.any():
        found = _with_gangs(parted, first, bound, window, limits, told)
        for shift in SHIFTS if found.missing.any() and parted is not problem else ():
            moved = released(problem, shift)
            again = _relaxed(moved, window, told)
            other = _with_gangs(moved, again, bound, window, limits, told)
            if _rank(other) < _rank(found):
                parted, first, found = moved, again, other
            if not found.missing.any():
                break
    if problem.plan.objective == "training" and len(problem.work) == 1 and window is None:
        # a run alone: what does most work up to each hour is earliest in mean and in end
        bound = max(
            bound, *(hour or 0.0 for hour in finishes(parted, work_done(parted, first.trained), first.spare(parted)))
        )
    violations = violations_of(parted, found.relaxed, found.missing) if with_duals else []
    return CapacityAnswer(
        problem=problem,
        status="infeasible" if violations else "optimal" if _gap(found.cost, bound, problem) <= 1e-4 else "feasible",
        method=found.how,
        relaxed=found.relaxed,
        finishes=tuple(finishes(problem, found.done, found.relaxed.spare(problem))),
        gangs=found.gangs,
        missing=found.missing,
        cost=found.cost + _fixed(problem),
        bound=None if violations else bound + _fixed(problem),
        gap=None if violations else _gap(found.cost, bound, problem),
        duals=_duals(parted, first, found.relaxed) if with_duals and not violations else None,
        violations=tuple(violations),
        seconds=time.perf_counter() - started,
        notes=problem.notes,
    )


def _window_steps(problem: Problem, limits: Limits) -> int | None:
    hours = limits.rolling_hours
    if hours is None:
        if columns_of(problem).count <= MOST_AT_ONCE:
            return None
        hours = WINDOW_HOURS
    return max(round(hours / problem.step_hours), 1)


def _relaxed(problem: Problem, window: int | None, told: Told, held: Values | None = None) -> Relaxed:
    if window is None:
        if (count := columns_of(problem).count) > LARGE:
            told(f"linear programme of {count:,} variables")
        return solve_relaxed(problem, held)
    return solve_rolling(problem, window, told, held)


def _fixed(problem: Problem) -> float:
    return 0.0 if problem.plan.objective == "training" else float(problem.supply.fixed_usd.sum())


def _gap(cost: float, bound: float, problem: Problem) -> float:
    whole = cost + _fixed(problem)
    return max(cost - bound, 0.0) / max(abs(whole), 1e-9)


def _measured(
    problem: Problem, relaxed: Relaxed, gangs: Gangs | None, how: str, counted: Values | None = None
) -> _Found:
    """The cost with the hours at which runs do finish, in place of the mean hour of their work.

    counted [R]: the value of an hour that the relaxed cost has, if it is not the plan's.
    """
    lost = None if gangs is None else gangs.lost
    done = work_done(problem, relaxed.trained, lost)
    missing = np.where(problem.gangs, np.maximum(problem.work - done.sum(axis=1), 0.0), relaxed.missing)
    missing = np.where(missing > 1e-6 * problem.work, missing, 0.0)
    ended = [
        problem.plan.horizon_hours if hour is None else hour for hour in finishes(problem, done, relaxed.spare(problem))
    ]
    early = problem.plan.objective == "training"
    worth = np.ones(len(problem.work)) if early else problem.value_usd_per_hour
    ends = problem.starts + problem.step_hours
    means = (work_done(problem, relaxed.trained) @ ends) / np.maximum(problem.work, 1e-9)
    cost = (
        relaxed.real - float((worth if counted is None else counted) @ means) + float(worth @ np.array(ended))
        if len(ended)
        else relaxed.real
    )
    return _Found(relaxed=relaxed, gangs=gangs, done=done, missing=missing, cost=cost, how=how)


def _with_gangs(
    problem: Problem, first: Relaxed, bound: float, window: int | None, limits: Limits, told: Told
) -> _Found:
    """Gangs of whole sizes, and everything else solved anew around them."""
    steps = window or len(problem.starts)
    if steps * len(problem.work) > MOST_GANG_STEPS:
        steps = max(round(GANG_HOURS / problem.step_hours), 1)
    whole, found = steps >= len(problem.starts), None
    tries = [(steps, FEW, False), (steps, MANY, False)] if whole else [(steps, FEW, True), (steps, FEW, False)]
    day = max(round(DAY_HOURS / problem.step_hours), 1)
    days = [(day, MANY, True), (day, MANY, False)] if day < steps else []
    for _ in range(2 if whole else 0):
        gangs = patterned_gangs(problem, first, FEW, None if found is None else found.gangs)
        if gangs is None:
            break
        other = _measured(problem, solve_relaxed(problem, gangs.held), gangs, "stretches of gangs")
        found = other if found is None or _rank(other) < _rank(found) else found
        if _keeps(found) and _gap(found.cost, bound, problem) <= limits.gap:
            return found
    if whole and found is not None:
        tries = tries[-1:]
    for length, breaks, carries in [*tries, *days]:
        gap = limits.gap / 2.0 if whole else max(limits.gap, WINDOW_GAP)
        gangs = chosen_gangs(problem, first, Search(length, breaks, gap, limits.seconds, carries), told)
        relaxed = solve_relaxed(problem, gangs.held) if whole else solve_rolling(problem, steps, told, gangs.held)
        other = _measured(problem, relaxed, gangs, "stretches of gangs")
        found = other if found is None or _rank(other) < _rank(found) else found
        is_last = (length, breaks, carries) == tries[-1]
        if _keeps(found) and (is_last or not whole or _gap(found.cost, bound, problem) <= limits.gap):
            break
    assert found is not None
    return found


def _keeps(found: _Found) -> bool:
    """Whether all demand is served and all work done."""
    return not found.relaxed.unserved.any() and not found.missing.any()


def _rank(found: _Found) -> tuple[float, float, float]:
    """Demand first, then work, then cost."""
    return float(found.relaxed.unserved.sum()), float(found.missing.sum()), found.cost


def _duals(problem: Problem, first: Relaxed, found: Relaxed) -> dict[str, Any]:
    """Dual values of the solution, with gangs as they are; those of work and deadlines are of the relaxed programme."""
    prices = Prices(chip=found.chip_price, token=found.token_price, work=found.work_price)
    free = Prices(chip=first.chip_price, token=first.token_price, work=first.work_price)
    names = [kind.name for kind in problem.plan.chips]
    runs = [run.name for run in problem.plan.trainings]
    hours, horizon = problem.step_hours, problem.plan.horizon_hours
    worth, relaxed_worth = worth_of_chips(problem, prices), worth_of_chips(problem, free)
    deadlines = worth_of_deadlines(problem, first.cost * cost_unit(problem), first.trained, free)
    return {
        "unit": "hours" if problem.plan.objective == "training" else "usd",
        "gangs_held": bool(problem.gangs.any()),
        "chips": {
            name: {
                "one_more": float(worth[place]),
                "one_more_relaxed": float(relaxed_worth[place]),
                "costs_usd": float(problem.supply.price_usd[place] * horizon),
                "per_chip_hour": [float(one) for one in prices.chip[place] / hours],
            }
            for place, name in enumerate(names)
        },
        "work": {name: float(first.work_price[place]) for place, name in enumerate(runs)},
        "deadlines": dict(zip(runs, deadlines, strict=True)),
        "demand_per_million_tokens": {
            each.name: [float(one) for one in prices.token[place]] for place, each in enumerate(problem.plan.products)
        },
        "one_more_nine": cost_of_a_nine(problem, free) if problem.plan.nines else None,
    }
