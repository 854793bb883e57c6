"""What a plan cannot keep, and what would mend it.

    demand      for each product, stretches of steps in which tokens are left over; how many more chips of a kind would
                serve all products in these steps, with no chip training, and how many are out of service then
    deadline    work left over; how many more chips of a kind all the time, or how many hours later, would do it

Demand comes before training, so where demand is left over no chip trains that could serve.  More chips are the least
number e that solves the same programme with e chips more of one kind, of which some are serviced and spares as of those
that are there.  In long plans the mend of a deadline is found
with neighbouring steps taken together, and gangs may need more than their programme does: both say "about".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import Programme, programme_of
from flashstill.capacity.relaxed import Relaxed
from flashstill.capacity.solver import Rows, solve_linear
from flashstill.capacity.steps import picked, thinned
from flashstill.capacity.supply import added_by

MOST_STEPS, THIN = 200, 240
"""steps with demand left over that a mend looks at, the worst ones; and steps of a plan that a late run is mended in"""
EDGE = 1e-6
MOST_TRIES = 12
"""numbers of more chips that are tried, where spares follow from how many there are"""


def violations_of(problem: Problem, found: Relaxed, missing: Values) -> list[dict[str, Any]]:
    """All that is not kept. missing [R]: chip-hours of the fastest kind that each run still needs."""
    short = np.where(_must(problem)[:, None], found.unserved, 0.0)
    items: list[dict[str, Any]] = []
    if (short > 0.0).any():
        mend = {"more_chips": _more_for_demand(problem, short)}
        for place in np.flatnonzero(short.any(axis=1)):
            items += _stretches(problem, int(place), short[place], mend)
    for run in np.flatnonzero(missing > EDGE * problem.work):
        items.append(_late(problem, int(run), float(missing[run])))
    return items


def _must(problem: Problem) -> Any:
    return np.isnan(problem.usd_per_token) | (problem.plan.objective != "cost")


def _stretches(problem: Problem, product: int, short: Values, mend: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for each run of neighbouring steps with demand left over."""
    steps = np.flatnonzero(short > 0.0)
    parts = np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)
    found = []
    for part in parts:
        worst = int(part[np.argmax(short[part])])
        demand = float(problem.demand[product, worst])
        out = _out_of_service(problem, worst)
        found.append(
            {
                "kind": "demand",
                "product": problem.plan.products[product].name,
                "from_hour": float(problem.starts[part[0]]),
                "until_hour": float(problem.starts[part[-1]] + problem.step_hours),
                "hour": float(problem.starts[worst]),
                "unserved_tokens_per_s": float(short[worst]),
                "demand_tokens_per_s": demand,
                "served_ratio": 1.0 - float(short[worst]) / demand,
                "mend": {**mend, "out_of_service": out},
            }
        )
    return found


def _out_of_service(problem: Problem, step: int) -> dict[str, float]:
    """Chips of each kind that are there but not to be had in a step: serviced, or kept as spares."""
    hour, found = float(problem.starts[step]), {}
    for place, kind in enumerate(problem.plan.chips):
        there = kind.count + sum(each.count for each in kind.purchases if each.at <= hour)
        missing = there - float(problem.available[place, step])
        if missing > EDGE * max(there, 1):
            found[kind.name] = missing
    return found


def _more_for_demand(problem: Problem, short: Values) -> dict[str, int | None]:
    """For each kind, the fewest more chips with which all demand of the short steps is served; None: no number."""
    worst = np.argsort(-(short / problem.reference[:, None]).sum(axis=0))[:MOST_STEPS]
    steps = np.sort(worst[short[:, worst].any(axis=0)]).astype(np.int64)
    idle = replace(
        problem,
        window=np.zeros_like(problem.window),
        work=np.zeros_like(problem.work),
        restart_hours=0.0 * problem.work,
    )
    return _least_more(idle, lambda whole: picked(whole, steps))


def _least_more(problem: Problem, reduced: Callable[[Problem], Problem]) -> dict[str, int | None]:
    """For each kind, the fewest more chips with which nothing is left over; None: no number. reduced: to fewer steps.

    With e more chips each adds a(e) usable ones (`added_by`), and the programme at a(e) needs some number n: e does if
    n <= e.  Where a is the same for all e, the first n is the answer; else the fewest found by going on from n.
    """
    found: dict[str, int | None] = {}
    for place, kind in enumerate(problem.plan.chips):
        more, best, tried = max(kind.count, kind.fails_together), None, set[int]()
        while more not in tried and len(tried) < MOST_TRIES:
            tried.add(more)
            one_more = problem.supply.one_more.copy()
            one_more[place] = added_by(problem.plan, place, float(max(more, 1)))
            needed = _fewest(reduced(replace(problem, supply=replace(problem.supply, one_more=one_more))), place)
            if needed is None or not kind.failure_share:
                best = needed
                break
            best = more if needed <= more and (best is None or more < best) else best
            more = needed
        found[kind.name] = best
    return found


def _fewest(problem: Problem, kind: int) -> int | None:
    """The fewest more chips of a kind, in every step, that may serve and train, with which nothing is left over."""
    available = problem.available.copy()
    available[kind] += 1e12  # only to widen the bounds of y; the rows of chips hold what there is
    wide = programme_of(replace(problem, supply=replace(problem.supply, available=available)))
    programme = programme_of(problem)
    at, must = programme.columns, _must(problem)
    upper = np.minimum(wide.upper, 1e9)
    upper[at.s[must]], upper[at.u] = 0.0, 0.0
    rows, cost = _with_chips(programme, kind, problem.supply.one_more[kind]), np.zeros(at.count + 1)
    cost[-1] = 1.0
    solved = solve_linear(cost, rows, np.zeros(at.count + 1), np.append(upper, np.inf))
    return None if solved is None else int(np.ceil(solved.x[-1] - EDGE))


def _with_chips(programme: Programme, kind: int, usable: Values) -> Rows:
    """The rows with one more variable: chips of a kind that are added in every step, usable [T] of each."""
    rows, added = programme.rows, programme.rows_of_chips[kind]
    return replace(
        rows,
        row=np.concatenate([rows.row, added]),
        column=np.concatenate([rows.column, np.full(len(added), programme.columns.count)]),
        value=np.concatenate([rows.value, -usable]),
    )


def _late(problem: Problem, run: int, missing: float) -> dict[str, Any]:
    one, thin = problem.plan.trainings[run], thinned(problem, THIN)
    return {
        "kind": "deadline",
        "run": one.name,
        "deadline": one.deadline,
        "missing_chip_hours": missing,
        "missing_ratio": missing / float(problem.work[run]),
        "mend": {
            "more_chips": _with_gang(problem, run, _least_more(problem, lambda whole: thinned(whole, THIN))),
            "hours_later": _hours_later(thin, run),
            "about": len(thin.starts) < len(problem.starts) or bool(problem.gangs.any()),
        },
    }


def _with_gang(problem: Problem, run: int, more: dict[str, int | None]) -> dict[str, int | None]:
    """At least as many that the fewest of a gang are there at all; kinds that the run cannot use have no number."""
    found: dict[str, int | None] = {}
    for place, (kind, count) in enumerate(more.items()):
        lacking = problem.least[place, run] - problem.available[place].max(initial=0.0)
        found[kind] = None if count is None else max(count, int(np.ceil(lacking)) if problem.speed[place, run] else 0)
    return found


def _hours_later(problem: Problem, run: int) -> float | None:
    """The fewest hours, in whole steps, by which the deadline must move; None if the horizon ends before."""
    last = len(problem.starts)
    first = int(np.searchsorted(problem.starts, problem.plan.trainings[run].deadline))
    low, high = first, last
    if first >= last or not _done_with(problem, run, last):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _done_with(problem, run, middle) else (middle + 1, high)
    ends = problem.starts + problem.step_hours * problem.weight
    return float(ends[low - 1] - problem.plan.trainings[run].deadline) if low else 0.0


def _done_with(problem: Problem, run: int, steps: int) -> bool:
    window, teacher = problem.window.copy(), int(problem.teacher[run])
    window[run] = np.where(np.arange(len(problem.starts)) < steps, problem.open[run], 0.0)
    if teacher >= 0 and window[teacher].any():  # a student begins after its teacher, as planned
        window[run, : int(np.flatnonzero(window[teacher])[-1]) + 1] = 0.0
    programme = programme_of(replace(problem, window=window))
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    return solved is not None and bool(solved.x[programme.columns.u[run]] <= EDGE * problem.work[run])
