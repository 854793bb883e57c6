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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.gangs import FINE, Gangs, gangs_of
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme, cost_unit, programme_of
from flashstill.capacity.relaxed import Relaxed
from flashstill.capacity.solver import solve_linear
from flashstill.capacity.stretches import Stretch, breaks_of, candidates_of, extended
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION

MOST_STRETCHES, MOST_PATTERNS = 3, 4000
"""stretches of a pattern, and sets of stretches of a run; with more of them, patterns have fewer stretches"""
LEVELS = (0.0, 0.5, 1.0)
"""shares of the even size from which sizes are filled up, in every order"""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Patterns:
    """The patterns of one run: stretches [N, 3] (-1: none), chips [N, T] and their kind [N, T], what they cost [N]."""

    stretches: Any
    chips: Values
    kind: Any
    cost: Values

    def taken(self, place: int, kinds: int) -> Values:
        """The chips [K, T] that a pattern takes."""
        return np.where(np.arange(kinds)[:, None] == self.kind[place], self.chips[place], 0.0)


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
    patterns = {run: _patterns(problem, base, each) for run, each in of_run.items()}

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


def _patterns(problem: Problem, base: Programme, stretches: Sequence[Stretch]) -> Patterns:
    """All patterns of a run's stretches."""
    at, hours = base.columns, problem.step_hours * problem.weight
    place = {pair: row for row, pair in enumerate(zip(at.y_kind.tolist(), at.y_run.tolist(), strict=True))}
    paces, costs = np.zeros(len(stretches)), np.zeros(len(stretches))
    for number, each in enumerate(stretches):
        within = slice(each.first, each.last)
        share = problem.window[each.run, within]
        works = float(share @ hours[within]) - float(problem.restart_hours[each.run])
        paces[number] = problem.speed[each.kind, each.run] * works
        costs[number] = base.cost[at.y[place[each.kind, each.run], within]] @ share
    return patterns_of(stretches, paces, costs, float(problem.work[stretches[0].run]), len(hours))


def patterns_of(stretches: Sequence[Stretch], paces: Values, costs: Values, need: float, steps: int) -> Patterns:
    """All patterns of a run's stretches that do its work. paces, costs: work and cost of one chip of each stretch."""
    first, last = np.array([each.first for each in stretches]), np.array([each.last for each in stretches])
    rows = []
    least, most = np.array([each.least for each in stretches]), np.array([each.most for each in stretches])
    for group in _sets(first, last):
        orders = list(itertools.permutations(range(group.shape[1])))
        for level, order in itertools.product(LEVELS if group.shape[1] == 2 else LEVELS[:1], orders):
            filled = _filled(group, order, level, (paces, least, most), need)
            done = (filled * paces[group]).sum(axis=1) >= need * (1.0 - 1e-9)
            part = np.tile(np.repeat([-1.0, 0.0], MOST_STRETCHES), (len(group), 1))
            part[:, : group.shape[1]], part[:, MOST_STRETCHES : MOST_STRETCHES + group.shape[1]] = group, filled
            rows.append(part[done])
    table = np.concatenate(rows)
    found, size = table[:, :MOST_STRETCHES].astype(np.int64), table[:, MOST_STRETCHES:]
    at = np.arange(steps)
    inside = (first[found][..., None] <= at) & (at < last[found][..., None]) & (found >= 0)[..., None]
    kind = np.array([each.kind for each in stretches])[found]
    return Patterns(
        stretches=found,
        chips=(inside * size[..., None]).sum(axis=1),
        kind=(inside * kind[..., None]).sum(axis=1),
        cost=(size * costs[found]).sum(axis=1),
    )


def _sets(first: Any, last: Any) -> list[Any]:
    """Places of each stretch alone, of two that follow each other, and of three, as far as they are few."""
    sets = [np.arange(len(first))[:, None]]
    before, after = np.searchsorted(np.sort(last), first, "right"), len(first) - np.searchsorted(np.sort(first), last)
    for count in (after.sum(), (before * after).sum()):  # counted before they are made
        if count > MOST_PATTERNS:
            break
        goes_on = sets[-1][after[sets[-1][:, -1]] > 0]
        place, following = np.nonzero(last[goes_on[:, -1]][:, None] <= first)
        sets.append(np.column_stack([goes_on[place], following]))
    return sets


def _filled(
    group: Any, order: tuple[int, ...], level: float, each: tuple[Values, Values, Values], need: float
) -> Values:
    """Chips [N, stretches] from a share of the even size on, filled up in this order until the work is done."""
    pace, least, most = (values[group] for values in each)
    size: Values = np.clip(level * need / pace.sum(axis=1, keepdims=True), least, most)
    for place in order:
        missing = np.maximum(need - (size * pace).sum(axis=1), 0.0)
        size[:, place] += np.minimum(missing / pace[:, place], most[:, place] - size[:, place])
    return size


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
