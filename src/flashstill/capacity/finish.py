"""When training runs finish: work done by step, and the hour at which all of it is done."""

from __future__ import annotations

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem

DONE = 1.0 - 1e-6
"""share of the work from which on a run counts as done: the tolerance of the solver"""


def restarts_of(problem: Problem, chips: Values) -> Values:
    """Chip-hours [K, R, T] lost as gangs start, change their size or move. chips [K, R, T]: sizes in each step."""
    before = np.concatenate([np.zeros_like(chips[..., :1]), chips[..., :-1]], axis=-1)
    changed = (chips > 0.0) & (np.abs(chips - before) > 1e-6 * np.maximum(chips, 1.0))
    lost: Values = changed * chips * problem.restart_hours[:, None]
    return lost


def work_done(problem: Problem, trained: Values, lost: Values | None = None) -> Values:
    """Work [R, T] done in each step. trained [K, R, T]: mean chips; lost: chip-hours of restarts."""
    hours = trained * problem.step_hours * problem.weight - (0.0 if lost is None else lost)
    found: Values = np.einsum("kr,krt->rt", problem.speed, hours)
    return found


def finishes(problem: Problem, done: Values, idle: Values | None = None) -> list[float | None]:
    """The hour at which each run's work is done, within its part of the step in proportion; None where it is not.

    idle [K, T]: chips with which runs without gangs hurry in their last step; runs that end together share them.
    """
    fastest, shares = done if idle is None else _hurried(problem, done, idle), _shares(problem)
    hours: list[float | None] = []
    for work, steps, most, share, after in zip(problem.work, done, fastest, shares, problem.open, strict=True):
        total = np.cumsum(steps)
        reached = np.flatnonzero(total >= work * DONE)
        if not len(reached):
            hours.append(None)
            continue
        at = int(reached[0])
        missing = max(min(work, total[at]) - (total[at] - steps[at]), 0.0)
        part = min(missing / most[at], 1.0) if most[at] > 0.0 else 0.0
        late = 1.0 - after[at]  # a run that may begin within the step
        hours.append(float(problem.starts[at] + problem.step_hours * (late + part * share[at])))
    return hours


def _hurried(problem: Problem, done: Values, idle: Values) -> Values:
    """Work [R, T] of each step with the idle chips besides."""
    reached = np.cumsum(done, axis=1) >= problem.work[:, None] * DONE
    ends = reached & ~np.concatenate([np.zeros_like(reached[:, :1]), reached[:, :-1]], axis=1) & (done > 0.0)
    ends &= ~problem.gangs[:, None]
    shared = np.einsum("kr,kt->rt", problem.speed, idle) * problem.step_hours / np.maximum(ends.sum(axis=0), 1)
    found: Values = done + np.where(ends, shared * _shares(problem), 0.0)
    return found


def _shares(problem: Problem) -> Values:
    """Share of each step [R, T] in which a run may train; after its deadline, as if it had none."""
    return np.where(problem.window > 0.0, problem.window, problem.open)


def earliest(problem: Problem) -> Values:
    """Hours [R] before which no run can finish, even alone on all chips that it may use."""
    room = np.minimum(problem.most[:, :, None], problem.available[:, None, :]) * _shares(problem)[None]
    pace = problem.speed[:, :, None] * room
    best = np.where(problem.gangs[:, None], pace.max(axis=0, initial=0.0), pace.sum(axis=0))
    alone = finishes(problem, best * problem.step_hours * problem.weight)
    return np.array([problem.plan.horizon_hours if hour is None else hour for hour in alone])
