"""The event loop: arrivals, ends of steps and transfers, failures, repairs and scaling, in order of time."""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.central import choose, dispatch, join_line, send
from flashstill.simulate.closed import follow
from flashstill.simulate.commit import commit
from flashstill.simulate.compiled import compiled, entry
from flashstill.simulate.lockstep import cut_jump, first_rank, step_together
from flashstill.simulate.scheduler import plan
from flashstill.simulate.settings import Settings
from flashstill.simulate.slots import blocks_of
from flashstill.simulate.state import (
    DRAINING,
    FOLLOWED,
    LINE_LENGTH,
    NOTICED,
    NOW_S,
    Counts,
    Fleet,
    Limits,
    Pool,
)
from flashstill.simulate.status import drain
from flashstill.simulate.tally import ARRIVED, IN_SYSTEM, REFUSED, TIME_S, TOKENS_IN, TOO_LATE, Tally, enter
from flashstill.simulate.transfers import end_transfer, land, start_transfers

MORE, ROOM, OVER, ASK, CHANGE, LEFT = range(6)
"""why the loop stopped: it needs further requests, a larger pool, everything is done, the user's function is to decide
a step, a replica fails, starts or is scaled (the next of Fleet.ends), or requests have left that others follow"""
TURNED_AWAY, IN_LINE = -1, -2
"""in place of a replica: a request that no replica could ever hold, and one that waits in the central line"""


@compiled
def can_hold(settings: Settings, prompt: int, output: int) -> bool:
    """Whether the cache of a replica (of either pool) has room for a request."""
    limits, filling = settings.limits, settings.prefill_limits
    if blocks_of(prompt + output, limits.block) > limits.blocks:
        return False
    return bool(settings.prefills == 0 or blocks_of(prompt, filling.block) <= filling.blocks)


@compiled
def keys_of(limits: Limits, arrivals: Arrivals, position: int) -> tuple[int, int]:
    """First of a request's keys in `arrivals`, and the number of whole units of the prefix cache that they name."""
    if limits.unit == 0 or len(arrivals.key_ends) == 0:
        return 0, 0
    first = arrivals.key_ends[position - 1] if position else 0
    whole = (arrivals.prompt[position] + arrivals.output[position]) // limits.unit
    return int(first), int(min((arrivals.key_ends[position] - first) // limits.key_stride, whole))


@compiled
def has_room(fleet: Fleet, pool: Pool, settings: Settings, arrivals: Arrivals, position: int) -> bool:
    """Whether the next request has a place, its keys too, and every replica's table an entry for each key that it may
    hold at once: those that are idle, those that are held, and those of a planned step, for which idle ones go next."""
    if pool.spares[0] == 0:
        return False
    limits = settings.prefill_limits
    keys = keys_of(limits, arrivals, position)[1]
    if keys == 0:
        return True
    blocks = max(limits.blocks, settings.limits.blocks)
    planned = limits.tokens // limits.unit + limits.sequences
    most = min(2 * (blocks // limits.unit_blocks) + planned, pool.keyed[1] + keys)
    return bool(pool.keyed[0] + keys <= len(pool.keys) and most <= fleet.prefix.shape[2])


@compiled
def accept(
    fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, arrivals: Arrivals, position: int, now: float
) -> int:
    """Route one request that arrives now; returns its replica, TURNED_AWAY or IN_LINE."""
    prompt, output = arrivals.prompt[position], arrivals.output[position]
    number = tally.totals[ARRIVED]
    tally.totals[ARRIVED] += 1
    if not can_hold(settings, prompt, output):
        tally.totals[REFUSED] += 1
        return TURNED_AWAY
    enter(tally, now)
    tally.totals[TOKENS_IN] += prompt
    pool.spares[0] -= 1
    pool.spares[1] = pool.spares[0]
    place = pool.spare[pool.spares[0]]
    pool.clock[place, field.ARRIVAL_S], pool.counts[place, field.PROMPT], pool.counts[place, field.OUTPUT] = (
        now,
        prompt,
        output,
    )
    pool.counts[place, field.CACHED], pool.counts[place, field.GENERATED], pool.counts[place, field.NUMBER] = (
        arrivals.cached[position],
        0,
        number,
    )
    pool.counts[place, field.RETRIES] = 0
    pool.clock[place, field.FIRST_S] = pool.clock[place, field.LAST_S] = np.nan
    first, keys = keys_of(settings.prefill_limits, arrivals, position)
    pool.counts[place, field.KEYS_AT], pool.counts[place, field.KEYS] = pool.keyed[0], keys
    pool.counts[place, field.SHARED] = pool.counts[place, field.HOSTED] = 0
    for i in range(keys):
        pool.keys[pool.keyed[0] + i] = arrivals.keys[first + (i + 1) * settings.prefill_limits.key_stride - 1]
    pool.keyed[0] += keys
    pool.keyed[1] += keys
    pool.counts[place, field.LATE] = 0
    r = IN_LINE if fleet.router[LINE_LENGTH] else choose(fleet, pool, settings, place, now)
    if r < 0:
        join_line(fleet, pool, place, now)
        return IN_LINE
    send(fleet, pool, r, place, now)
    return r


@compiled
def go_on(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, r: int, now: float) -> None:
    """Plan the next steps of a replica and of those that step with it, by the tables and limits of their role, or leave
    that to the user's function (deciding.py)."""
    first, ranks = first_rank(settings, r), 1 if r < settings.prefills else settings.limits.ranks
    for rank in range(first, first + ranks):
        if fleet.counts[rank, field.LAND_LENGTH]:
            land(fleet, pool, settings.limits, tally, rank, now)
        if settings.limits.asks:
            fleet.clock[rank, field.STARTS], fleet.counts[rank, field.UNDECIDED] = now, 1
        elif r < settings.prefills:
            plan(fleet, pool, settings.prefill_tables, settings.prefill_limits, tally, rank, now)
        else:
            plan(fleet, pool, settings.tables, settings.limits, tally, rank, now)
    if ranks > 1 and not settings.limits.asks:
        step_together(fleet, settings.tables, settings.limits, first, now)


@compiled
def has_any(counts: Counts, column: int, replicas: int) -> bool:
    """Whether a column of `Fleet.counts` is above 0 for any of the first replicas. To hand on this array alone and then
    often nothing else takes less time than to hand on all of them."""
    above = 0
    for r in range(replicas):
        above += counts[r, column] > 0
    return above > 0


@compiled
def wake_called(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, now: float) -> None:
    """Start the idle replicas that got a request, or room; end the jumps of others at the next step's end."""
    for r in range(len(fleet.counts)):
        if fleet.counts[r, field.CALLED] == 0:
            continue
        fleet.counts[r, field.CALLED] = 0
        if fleet.ends[r] == np.inf:
            go_on(fleet, pool, settings, tally, r, now)
        elif fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING] < settings.limits.sequences:
            cut_jump(fleet, settings, r, now)


@entry
def advance(
    fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, arrivals: Arrivals, position: int, is_last: bool,
    closed: bool, given_up: int,
) -> tuple[int, int]:  # fmt: skip
    """Go on until the caller is to do something; returns what (MORE, ...) and the position in `arrivals`.

    is_last: no further requests come after these.  closed: those with a time of arrival, which stand first, come then,
    and each of the others when one is finished (closed.py); more are asked for while all in flight can be followed.
    given_up: after a CHANGE that has been carried out, the number of requests given up; else -1.
    """
    total, replicas, links = len(arrivals.arrival_s), len(fleet.counts), len(fleet.links)
    return_s = settings.limits.return_s
    while True:
        if settings.limits.follows and pool.spares[0] > pool.spares[1]:
            return LEFT, position
        if settings.limits.asks and fleet.counts[:, field.UNDECIDED].any():
            return ASK, position
        if tally.totals[TOO_LATE] > fleet.router[NOTICED]:  # some were turned away at this very moment, and left room
            fleet.router[NOTICED] = tally.totals[TOO_LATE]
            if fleet.router[LINE_LENGTH] > 0:
                dispatch(fleet, pool, settings, tally, tally.area[TIME_S])
                wake_called(fleet, pool, settings, tally, tally.area[TIME_S])
                continue
        r = int(np.argmin(fleet.ends))
        event_s, finished = fleet.ends[r], max(given_up, 0)
        comes_s, known = np.inf, max(fleet.router[FOLLOWED], position)
        if position < total and not (closed and position >= fleet.router[FOLLOWED]):
            comes_s = arrivals.arrival_s[position]
        if given_up >= 0:
            r, event_s, given_up = replicas, fleet.scaling[NOW_S], -1
        elif not is_last and (
            position == total or (closed and total - known <= tally.area[IN_SYSTEM] + known - position)
        ):
            return MORE, position
        elif comes_s == np.inf and (event_s == np.inf or tally.area[IN_SYSTEM] == 0.0):
            return OVER, position
        elif comes_s <= event_s:
            while position < total and arrivals.arrival_s[position] == comes_s:
                if not has_room(fleet, pool, settings, arrivals, position):
                    return ROOM, position
                if accept(fleet, pool, settings, tally, arrivals, position, comes_s) == TURNED_AWAY and closed:
                    follow(fleet, return_s, arrivals.arrival_s, position + 1, 1, comes_s)
                position += 1
            wake_called(fleet, pool, settings, tally, comes_s)
            continue
        elif r < settings.prefills:
            finished = commit(fleet, pool, settings.prefill_tables, settings.prefill_limits, tally, r)
        elif r < replicas:
            for rank in range(r, r + settings.limits.ranks):  # those that step together end at the same time
                finished += commit(fleet, pool, settings.tables, settings.limits, tally, rank)
        elif r < replicas + links:
            end_transfer(fleet, pool, settings, tally, r - replicas, event_s)
        else:
            return CHANGE, position
        steps_end = r < replicas
        if fleet.router[LINE_LENGTH] > 0 and (finished > 0 or not steps_end or settings.prefills > 0):
            dispatch(fleet, pool, settings, tally, event_s)
        if closed and return_s > 0.0:
            follow(fleet, return_s, arrivals.arrival_s, position, finished, event_s)
        while closed and return_s == 0.0 and finished > 0 and position < total:
            if accept(fleet, pool, settings, tally, arrivals, position, event_s) != TURNED_AWAY:
                finished -= 1
            position += 1
        if steps_end:
            fleet.counts[r : r + (1 if r < settings.prefills else settings.limits.ranks), field.CALLED] = 0
        if has_any(fleet.counts, field.CALLED, replicas):
            wake_called(fleet, pool, settings, tally, event_s)
        if steps_end:
            go_on(fleet, pool, settings, tally, r, event_s)
            if fleet.counts[r, field.STATUS] == DRAINING:
                drain(fleet, tally, r, event_s)
        if has_any(fleet.counts, field.SEND_LENGTH, settings.prefills):
            start_transfers(fleet, pool, settings, tally, event_s)
