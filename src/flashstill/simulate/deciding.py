"""Ask a scheduler written by the user, and carry out what it decides: order, admission, budget, decoding.

The loop stops wherever a replica is to plan a step (loop.ASK).  Whatever is decided, the engine's physical limits hold:
memory, sequences and tokens of a step.  A decision that makes no sense is the user's mistake, named with its function.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np

from flashstill.errors import BadInput, first_line
from flashstill.simulate import state as field
from flashstill.simulate.lockstep import step_together
from flashstill.simulate.scheduler import plan
from flashstill.simulate.settings import Settings
from flashstill.simulate.slots import release
from flashstill.simulate.state import ALL, NONE, Fleet, Pool
from flashstill.simulate.tally import ARRIVED, DONE, REFUSED, TOO_LATE, Tally
from flashstill.simulate.view import Decision, ReplicaView, Scheduler, name_of, places_in_line, view_of


def decide(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, scheduler: Scheduler, closed: bool) -> None:
    """Ask for every replica that is to plan a step, and plan it. closed: a request sent away would come back at once.

    BadInput for an error in the scheduler, or a decision that cannot be.
    """
    asked = np.flatnonzero(fleet.counts[:, field.UNDECIDED])
    for r in asked:
        prefills = r < settings.prefills
        tables = settings.prefill_tables if prefills else settings.tables
        limits = settings.prefill_limits if prefills else settings.limits
        view = view_of(fleet, pool, tables, limits, int(r))
        decision = _decision(scheduler, view, closed)
        _arrange(fleet, pool, tally, int(r), decision, scheduler)
        fleet.counts[r, field.UNDECIDED] = 0
        plan(fleet, pool, tables, limits, tally, int(r), float(fleet.clock[r, field.STARTS]))
    ranks = settings.limits.ranks
    for first in asked[asked >= settings.prefills][::ranks] if ranks > 1 else ():
        step_together(fleet, settings.tables, settings.limits, int(first), float(fleet.clock[first, field.STARTS]))


def check_all_served(fleet: Fleet, tally: Tally, scheduler: Scheduler, steady: bool) -> None:
    """BadInput if the scheduler has left requests in line at the end. steady: replicas always serve; where they do not,
    requests may also be left because none serves any more."""
    totals = tally.totals
    left = int(totals[ARRIVED] - totals[DONE] - totals[REFUSED] - totals[TOO_LATE])
    left = left if steady else int(fleet.counts[:, field.QUEUED].sum())
    if left:
        raise BadInput(
            f"the scheduler {name_of(scheduler)} left {left:,} requests in line with nothing running; it must admit or "
            "refuse them"
        )


def _decision(scheduler: Scheduler, view: ReplicaView, closed: bool) -> Decision:
    try:
        decision = scheduler(view)
    except (Exception, SystemExit) as error:  # code that leaves would end the command without a word
        code = getattr(scheduler, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [each for each in frames if code is None or each.filename == code.co_filename]
        place = f" at {own[-1].filename}:{own[-1].lineno}" if own else ""
        what = f"{type(error).__name__}: {first_line(error)}"
        raise BadInput(f"the scheduler {name_of(scheduler)} failed{place} at {view.now_s:.6g} s: {what}") from error
    wrong = _mistake(decision, view, closed)
    if wrong:
        raise BadInput(f"the scheduler {name_of(scheduler)} decided at {view.now_s:.6g} s what cannot be: {wrong}")
    return decision


def _mistake(returned: Any, view: ReplicaView, closed: bool) -> str:
    """What is wrong with a decision, or nothing."""
    if not isinstance(returned, Decision):
        return f"it returned {type(returned).__name__}, not a Decision"
    decision: Any = returned
    count = view.waiting_count
    tokens, admit, refuse = decision.prompt_tokens, decision.admit, decision.refuse
    if tokens is not None and (not _is_whole(tokens) or tokens < 0):
        return f"prompt_tokens is {tokens!r}, not a whole number of at least 0"
    if not isinstance(decision.decodes, (bool, np.bool_)):
        return f"decodes is {decision.decodes!r}, not True or False"
    if admit is not None and not _is_positions(admit, count) and not (_is_whole(admit) and admit >= 0):
        return f"admit is {admit!r}, not a number of requests or different positions from 0 to {count - 1}"
    if not _is_positions(refuse, count):
        return f"refuse is {refuse!r}, not different positions from 0 to {count - 1}"
    if len(refuse) and closed:
        return "it refuses requests of a closed loop, which would come again at once"
    if isinstance(admit, Sequence) and set(admit) & set(refuse):
        return "it admits and refuses the same request"
    return ""


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_positions(values: object, count: int) -> bool:
    if not isinstance(values, (Sequence, np.ndarray)) or isinstance(values, str):
        return False
    fits = all(_is_whole(each) and 0 <= each < count for each in values)
    return fits and len(set(values)) == len(values)


def _arrange(fleet: Fleet, pool: Pool, tally: Tally, r: int, decision: Decision, scheduler: Scheduler) -> None:
    """Note the decision, and put the line in its order."""
    counts, admit = fleet.counts, decision.admit
    counts[r, field.MAY_PREFILL] = ALL if decision.prompt_tokens is None else min(int(decision.prompt_tokens), ALL)
    counts[r, field.MAY_DECODE] = int(decision.decodes)
    if admit is None or _is_whole(admit):
        counts[r, field.MAY_ADMIT] = ALL if admit is None else min(int(admit), ALL)  # type: ignore[arg-type]
        first: list[int] = []
    else:
        first = [int(each) for each in admit]  # type: ignore[union-attr]
        counts[r, field.MAY_ADMIT] = len(first)
    if not first and not len(decision.refuse):
        return
    places, refused = list(places_in_line(fleet, pool, r)), {int(each) for each in decision.refuse}
    now = float(fleet.clock[r, field.STARTS])
    for position in sorted(refused):
        if not np.isnan(pool.clock[places[position], field.LAST_S]):
            raise BadInput(f"the scheduler {name_of(scheduler)} refuses a request that has begun, at {now:.6g} s")
        tally.totals[TOO_LATE] += 1
        release(fleet, pool, tally, r, places[position], now)
    chosen = set(first)
    order = [*first, *(each for each in range(len(places)) if each not in chosen and each not in refused)]
    counts[r, field.QUEUED] = len(order)
    if order:
        for position, following in itertools.pairwise(order):
            pool.counts[places[position], field.FOLLOWING] = places[following]
        pool.counts[places[order[-1]], field.FOLLOWING] = NONE
        counts[r, field.HEAD], counts[r, field.TAIL] = places[order[0]], places[order[-1]]
