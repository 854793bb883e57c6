"""Rolling horizon: a long plan solved window by window, and a proof of how far that is from the whole.

    targets    the whole plan with each window as one typical day gives every run's work by window and its price
    windows    one after another, each with the work that its target asks for and what windows before it still owe
    bound      sum over windows of their least cost where work earns its price, + price x work: by weak duality no plan
               costs less, at any price of work; its dual values are those of the answer
    gap        (cost of the windows - bound) / cost

Without runs, or with all of their chips fixed, the windows are the whole plan: nothing couples them, and the gap is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.prices import priced
from flashstill.capacity.problem import Problem
from flashstill.capacity.programme import least_work, programme_of
from flashstill.capacity.progress import counted
from flashstill.capacity.relaxed import Relaxed, relaxed_of
from flashstill.capacity.solver import solve_linear
from flashstill.capacity.steps import day_groups, group_means, sliced, typical_days
from flashstill.errors import FlashstillError

Told = Callable[[str], None]


def solve_rolling(problem: Problem, window_steps: int, told: Told, held: Values | None = None) -> Relaxed:
    """The plan solved in windows of so many steps. held [K, R, T]: chips of gangs, if they are known."""
    steps = len(problem.starts)
    firsts = list(range(0, steps, window_steps))
    target, price = _targets(problem, window_steps, len(firsts), held)
    coupled = price if _work_left(problem, held).any() else None
    owed, parts = np.maximum(_work_left(problem, held) - target.sum(axis=1), 0.0), []  # typical days may leave some
    bound = float((price * _work_left(problem, held)).sum())
    tell = counted(told, len(firsts))
    for number, first in enumerate(firsts):
        part = sliced(problem, first, first + window_steps)
        fixed = None if held is None else held[..., first : first + window_steps]
        need = owed + target[:, number]
        programme = programme_of(part, held=fixed, need=need)
        solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
        if solved is None:
            raise FlashstillError(f"no chips can be planned in the window from hour {part.starts[0]:g} on")
        owed = np.where(problem.gangs & (held is not None), 0.0, solved.x[programme.columns.u])
        last = number == len(firsts) - 1
        parts.append(relaxed_of(part, programme, solved, carries=not last))
        if coupled is None:  # nothing is left that joins the windows
            bound += parts[-1].cost
        else:
            cost, prices = priced(part, price, fixed)
            bound += cost
            parts[-1] = replace(parts[-1], chip_price=prices.chip, token_price=prices.token)
        tell("window")
    return replace(_joined(parts), bound=bound, work_price=price)


def _work_left(problem: Problem, held: Values | None) -> Values:
    return np.where(problem.gangs & (held is not None), 0.0, least_work(problem))


def _targets(problem: Problem, window_steps: int, windows: int, held: Values | None) -> tuple[Values, Values]:
    """Work [R, W] that each window is to do, and the price [R] of a chip-hour of work, from typical days."""
    if not len(problem.work) or (held is not None and problem.gangs.all()):
        return np.zeros((len(problem.work), windows)), np.zeros(len(problem.work))
    typical, window = typical_days(problem, window_steps)
    fixed = None
    if held is not None:
        fixed = group_means(held, day_groups(problem, window_steps))
    programme = programme_of(typical, held=fixed)
    solved = solve_linear(programme.cost, programme.rows, programme.lower, programme.upper)
    if solved is None:
        raise FlashstillError("no chips can be planned on typical days")
    found = relaxed_of(typical, programme, solved)
    work = np.einsum("kr,krt->rt", typical.speed, found.trained * typical.step_hours * typical.weight)
    target = np.array([np.bincount(window, row, windows) for row in work])
    return np.where((problem.gangs & (held is not None))[:, None], 0.0, target), found.work_price


def _joined(parts: list[Relaxed]) -> Relaxed:
    """Windows one after another as one solution."""
    along = {name: np.concatenate([getattr(part, name) for part in parts], axis=-1)
             for name in ("serving", "trained", "unserved", "chip_price", "token_price")}  # fmt: skip
    return Relaxed(
        **along, missing=parts[-1].missing, work_price=parts[-1].work_price, bound=0.0,
        cost=sum(part.cost for part in parts), real=sum(part.real for part in parts),
    )  # fmt: skip
