"""Gangs of whole sizes: stretches of steps in which a run keeps a number of chips of one kind.

A gang of a run is of one kind at a time and has between its fewest and its most chips; whenever it starts, moves or
changes its size, restart hours of all its chips are lost.  Candidates are all stretches between break points on each
kind; of each, a programme with whole numbers decides whether it is used (on) and with how many chips (n):

    fewest x on <= n <= most x on,   at most one stretch of a run covers any step
    chips    n in each of its steps;    work    speed x n x (hours - restart hours)

together with everything else of the linear programme.  Long plans go window by window, each with the work
that the relaxed programme did in it and what is still owed; a gang may go on into the next window without a restart.
What the result costs above the relaxed programme is the gap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.finish import restarts_of, work_done
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import cost_unit, programme_of
from flashstill.capacity.progress import counted
from flashstill.capacity.relaxed import Relaxed
from flashstill.capacity.solver import solve_whole
from flashstill.capacity.steps import grouped, sliced
from flashstill.capacity.stretches import TINY, breaks_of, candidates_of, extended

FINE, LOADS = 50, 8
"""steps of a window up to which each is looked at by itself, and into how many levels of load others are taken together
between break points"""
CARRY = 3.0
"""what work that a window leaves to later ones costs, in prices of work and of the dearest chip-hour"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gangs:
    """Chips of each run [K, R, T] while it runs, their mean over the step [K, R, T], and chip-hours lost [K, R, T]."""

    sizes: Values
    held: Values
    lost: Values


def gangs_of(problem: Problem, sizes: Values) -> Gangs:
    """The gangs of given sizes [K, R, T]: their means over steps that are open in part, and what restarts lose."""
    return Gangs(sizes=sizes, held=sizes * problem.window[None], lost=restarts_of(problem, sizes))


class Search(NamedTuple):
    """Steps of a window, break points in it, the gap at which its search ends, the most seconds, and whether work may
    be left to later windows at a price."""

    window_steps: int
    breaks: int
    gap: float
    seconds: float
    carries: bool


def chosen_gangs(problem: Problem, relaxed: Relaxed, search: Search, told: Callable[[str], None]) -> Gangs:
    """Gangs of the runs that have any, window by window. relaxed: sets the work of each window."""
    steps = len(problem.starts)
    sizes = np.zeros((problem.shape[0], problem.shape[2], steps))
    target = np.cumsum(work_done(problem, relaxed.trained), axis=1)
    target = np.minimum(target / np.maximum(target[:, -1:], TINY), 1.0) * problem.work[:, None]
    done, dearest = np.zeros(len(problem.work)), float(problem.supply.price_usd.max(initial=0.0))
    tell = counted(told, -(-steps // search.window_steps))
    for first in range(0, steps, search.window_steps):
        last = min(first + search.window_steps, steps)
        part = sliced(problem, first, last)
        need = np.maximum(target[:, last - 1] - done, 0.0)
        need = np.where(need > TINY * problem.work, need, 0.0)
        before = sizes[:, :, first - 1] if first else np.zeros(sizes.shape[:2])
        last_chance = (problem.window[:, last:].sum(axis=1) <= TINY) | (not search.carries)
        carried = np.where(last_chance, np.inf, CARRY * (relaxed.work_price * cost_unit(problem) + dearest))
        found, others = _window(part, need, before, search, carried)
        tell("gangs of window")
        sizes[:, :, first:last] = found
        gangs = gangs_of(problem, sizes[:, :, :last] if last == steps else _until(sizes, last))
        done = np.where(problem.gangs, work_done(problem, gangs.held, gangs.lost).sum(axis=1), done + others)
    return gangs_of(problem, sizes)


def _until(sizes: Values, last: int) -> Values:
    return np.where(np.arange(sizes.shape[-1]) < last, sizes, 0.0)


def _window(problem: Problem, need: Values, before: Values, search: Search, carried: Values) -> tuple[Values, Values]:
    """Sizes [K, R, T] of one window, and the work [R] of runs without gangs.

    before [K, R]: the sizes until then.  carried [R]: what a chip-hour of work costs that is left to later windows.
    """
    kinds, _, runs, steps = problem.shape
    sizes = np.zeros((kinds, runs, steps))
    wanted = np.flatnonzero(problem.gangs & (need > 0.0)).tolist()
    breaks = {run: breaks_of(problem, run, search.breaks) for run in wanted}
    part, place = problem, {step: step for step in range(steps + 1)}
    if steps > FINE:
        part, place = _levelled(problem, sorted({0, steps, *(step for points in breaks.values() for step in points)}))
    step_of = {group: step for step, group in place.items()}
    breaks = {run: [place[step] for step in points] for run, points in breaks.items()}
    base = programme_of(part, need=need)
    base.upper[base.columns.y[problem.gangs[base.columns.y_run]]] = 0.0
    base.cost[base.columns.u] = np.minimum(base.cost[base.columns.u], carried)
    candidates = candidates_of(part, breaks, before, base.rows.side[base.rows_of_work] * -base.work_unit)
    cost, rows, lower, upper, whole = extended(part, base, candidates, breaks)
    solved = solve_whole(cost, rows, lower, upper, whole, search.gap, search.seconds)
    if solved is None:
        return sizes, np.zeros(runs)
    start, count = base.columns.count, len(candidates)
    for number, each in enumerate(candidates):
        if solved.x[start + count + number] > 0.5:
            chips = float(np.clip(solved.x[start + number], each.least, each.most))
            sizes[each.kind, each.run, step_of[each.first] : step_of[each.last]] = chips
    sizes = np.where(problem.window[None] > 0.0, sizes, 0.0)
    at, trained = base.columns, np.zeros((kinds, runs, len(part.starts)))
    trained[at.y_kind, at.y_run] = solved.x[at.y]
    return sizes, work_done(part, trained).sum(axis=1)


def _levelled(problem: Problem, points: list[int]) -> tuple[Problem, dict[int, int]]:
    """Steps between break points taken together by their load, and the place of each break point among the groups.

    A group owes its highest demand and has its fewest chips, so that what fits it fits all of its steps.
    """
    load = (problem.demand / problem.reference[:, None]).sum(axis=0)
    group, place, following = np.zeros(len(load), dtype=np.int64), {points[0]: 0}, 0
    for low, high in itertools.pairwise(points):
        rank = np.argsort(np.argsort(load[low:high], kind="stable"), kind="stable")
        levels = min(LOADS, high - low)
        group[low:high] = following + rank * levels // (high - low)
        following += levels
        place[high] = following
    return grouped(problem, group, worst=True), place
