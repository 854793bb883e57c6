"""Gangs of a short plan by cuts: a search among patterns of stretches that needs a few small linear programmes.

A pattern of a run is up to three stretches (gangs.py) that do not overlap, with sizes that do its work.  What serving
costs in step t is a convex function of the chips Y that gangs take, and each linear programme solved gives a cut:

    V_t(Y) >= sum_p token price x demand - sum_k chip price x (available - Y_k),       prices: its dual values

The pattern of each run in turn is the cheapest one under the highest of all cuts, until none changes; the linear
programme with these stretches gives the best sizes, what they cost, and a new cut.  That ends where the cuts promise
nothing below the best found.  The cuts only lead the search: the gap is proved by the relaxed programme alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.gangs import FINE, Gangs, gangs_of
from flashstill.capacity.patterns import Patterns, run_patterns
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme, cost_unit, programme_of
from flashstill.capacity.relaxed import Relaxed
from flashstill.capacity.solver import solve_linear
from flashstill.capacity.stretches import breaks_of, candidates_of, extended
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

MOST_ROUNDS, MOST_ORDERS, PASSES = 12, 6, 4
"""linear programmes of a search, orders in which runs choose, and how often they choose anew before one"""

NEAR = (-2, -1, 1, 2)
"""steps from the ends of stretches, for a second search around the gangs of a first one"""


class Cut(NamedTuple):
    """A lower bound on what serving costs in each step: level [T] + slope [K, T] x chips that gangs take."""

    level: Values
    slope: Values


Known = dict[tuple[int, ...], tuple[int, float]]
"""run and the patterns of all others (-1: as in the relaxed programme) -> its cheapest pattern under the same cuts"""


class Tried(NamedTuple):
    """A linear programme with given stretches: its cost, the chips of each stretch, and its cut."""

    cost: float
    chips: Values
    cut: Cut


def patterned_gangs(problem: Problem, relaxed: Relaxed, breaks: int, around: Gangs | None = None) -> Gangs | None:
    """Gangs of a plan of few steps; None where the plan has many, or a run has no pattern that does its work.

    breaks: break points of each run.  around: instead, the ends of the stretches of these gangs, and steps near them.
    """
    runs = np.flatnonzero(problem.gangs).tolist()
    steps = len(problem.starts)
    if steps > FINE:
        return None
    points = {run: breaks_of(problem, run, breaks) for run in runs}
    if around is not None:
        points = {run: _near(problem, run, around.sizes[:, run]) for run in runs}
    base = programme_of(problem, need=problem.work)
    base.upper[base.columns.y[problem.gangs[base.columns.y_run]]] = 0.0
    stretches = candidates_of(problem, points, np.zeros((problem.shape[0], problem.shape[2])), problem.work)
    of_run = {run: [each for each in stretches if each.run == run] for run in runs}
    if not all(of_run.values()):
        return None
    patterns = {run: run_patterns(problem, base, each) for run, each in of_run.items()}

    def solve(chosen: list[tuple[int, int]]) -> Tried | None:
        used = [of_run[run][place] for run, place in chosen]
        cost, rows, lower, upper, _ = extended(problem, base, used, points)
        lower[base.columns.count + len(used) :] = 1.0
        solved = solve_linear(cost, rows, lower, upper, with_ties=False)
        if solved is None:
            return None
        chips = solved.x[base.columns.count : base.columns.count + len(used)]
        return Tried(solved.cost, chips, _cut(problem, base, solved.duals))

    start = {run: relaxed.trained[:, run] for run in runs}
    found = searched(patterns, _first_cut(problem, relaxed), start, solve)
    if found is None:
        return None
    sizes = np.zeros((problem.shape[0], problem.shape[2], steps))
    for (run, place), chips in zip(*found, strict=True):
        one = of_run[run][place]
        sizes[one.kind, run, one.first : one.last] = np.clip(chips, one.least, one.most)
    return gangs_of(problem, np.where(problem.window[None] > 0.0, sizes, 0.0))


def _near(problem: Problem, run: int, sizes: Values) -> list[int]:
    """The ends of a run's stretches, steps near them, and those of its window. sizes [K, T]."""
    window = np.flatnonzero(problem.window[run] > 0.0)
    low, high = int(window[0]), int(window[-1]) + 1
    changes = np.flatnonzero((np.diff(sizes, axis=1, prepend=0.0, append=0.0) != 0.0).any(axis=0)).tolist()
    near = {int(step) + by for step in changes for by in (0, *NEAR)}
    return sorted({low, high, *(step for step in near if low < step < high)})


def _first_cut(problem: Problem, relaxed: Relaxed) -> Cut:
    """The cut of the relaxed programme."""
    unit, hours = cost_unit(problem), problem.step_hours * problem.weight
    slope = relaxed.chip_price * unit
    millions = problem.demand * SECONDS_PER_HOUR * hours / TOKENS_PER_MILLION
    owed = (relaxed.token_price * unit * millions).sum(axis=0)
    return Cut(owed - (slope * problem.available).sum(axis=0), slope)


def _cut(problem: Problem, base: Programme, duals: Values) -> Cut:
    """The cut of a linear programme's dual values."""
    slope = np.maximum(-duals[base.rows_of_chips], 0.0)
    owed = (duals[base.rows_of_demand] * problem.demand / base.reference[:, None]).sum(axis=0)
    return Cut(owed - (slope * problem.available).sum(axis=0), slope)


def searched(
    runs: dict[int, Patterns],
    first: Cut,
    start: dict[int, Values],
    solve: Callable[[list[tuple[int, int]]], Tried | None],
) -> tuple[list[tuple[int, int]], Values] | None:
    """The stretches (run, number) of the best patterns found, with their chips; None where a run has no pattern.

    start: the chips [K, T] that each run has in the relaxed programme.  solve: the linear programme with stretches.
    """
    if not all(len(each.cost) for each in runs.values()):
        return None
    cuts, best = [first], None
    tried: set[tuple[tuple[int, int], ...]] = set()
    slopes = {run: [_slope(each, first)] for run, each in runs.items()}
    orders = itertools.cycle(itertools.islice(itertools.permutations(runs), MOST_ORDERS))
    useless, known = 0, Known()
    while len(tried) < MOST_ROUNDS and useless < MOST_ORDERS:
        at, promised = _descended(runs, cuts, slopes, next(orders), start, known)
        chosen = tuple((run, int(one)) for run, each in runs.items() for one in each.stretches[at[run]] if one >= 0)
        if chosen in tried or (best is not None and promised >= best[0]):
            useless += 1
            continue
        tried.add(chosen)
        found = solve(list(chosen))
        if found is None:
            useless += 1
            continue
        useless = 0
        if best is None or found.cost < best[0]:
            best = (found.cost, list(chosen), found.chips)
        cuts.append(found.cut)
        known.clear()
        for run, each in runs.items():
            slopes[run].append(_slope(each, found.cut))
    return None if best is None else best[1:]


def _descended(
    runs: dict[int, Patterns],
    cuts: list[Cut],
    slopes: dict[int, list[Values]],
    order: Sequence[int],
    start: dict[int, Values],
    known: Known,
) -> tuple[dict[int, int], float]:
    """Each run's cheapest pattern beside the others', chosen in this order, and what all cost under the cuts."""
    kinds = len(cuts[0].slope)
    taken, at = dict(start), dict.fromkeys(runs, -1)
    promised = 0.0
    for _ in range(PASSES):
        before = dict(at)
        for run in order:
            beside = (run, *(at[one] for one in runs if one != run))
            if beside not in known:
                others = sum((chips for one, chips in taken.items() if one != run), np.zeros_like(cuts[0].slope))
                known[beside] = _cheapest(runs[run], cuts, slopes[run], others)
            at[run], promised = known[beside]
            taken[run] = runs[run].taken(at[run], kinds)
        if at == before:
            break
    return at, promised + sum(float(each.cost[at[run]]) for run, each in runs.items() if run != order[-1])


def _slope(patterns: Patterns, cut: Cut) -> Values:
    return np.asarray(cut.slope[patterns.kind, np.arange(patterns.chips.shape[1])] * patterns.chips)


def _cheapest(patterns: Patterns, cuts: list[Cut], slopes: list[Values], others: Values) -> tuple[int, float]:
    """The number of the cheapest pattern beside the chips [K, T] of others, and what it costs under the cuts."""
    cost = cuts[0].level + (cuts[0].slope * others).sum(axis=0) + slopes[0]
    for cut, slope in zip(cuts[1:], slopes[1:], strict=True):
        np.maximum(cost, cut.level + (cut.slope * others).sum(axis=0) + slope, out=cost)
    total = cost.sum(axis=1) + patterns.cost
    place = int(total.argmin())
    return place, float(total[place])
