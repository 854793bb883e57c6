"""Replicas that fail, are repaired, start, drain, and are switched off.

    UP -> DOWN        after an exponential time with the mean `mtbf_s`; what it has is computed anew elsewhere
    DOWN -> STARTING  after an exponential time with the mean `repair_s`
    STARTING -> UP    after `cold_s`
    DRAINING -> OFF   once it has no request left (scaling.py decides who drains)

A request keeps the tokens that it has got; its cache is lost.  The step that a failure interrupts is lost, though not
its time and energy.  Failures are rare, so that they are carried out outside of the compiled loop.
"""

from __future__ import annotations

import math

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.central import choose, join_line, send
from flashstill.simulate.commit import commit
from flashstill.simulate.lines import pop, push_front
from flashstill.simulate.prefix import forget
from flashstill.simulate.settings import Settings
from flashstill.simulate.slots import blocks_of, preempt_latest
from flashstill.simulate.state import (
    DOWN,
    DRAINING,
    LINE_HEAD,
    LINE_LENGTH,
    NONE,
    OFF,
    RECEIVER,
    REQUEST_SENT,
    STARTING,
    UP,
    Fleet,
    Limits,
    Pool,
)
from flashstill.simulate.status import become
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import (
    FAILED,
    FAILURES,
    LOST_OUT,
    PREEMPTED,
    RETRIED,
    WORKING,
    Tally,
    draw_line,
    leave,
)
from flashstill.simulate.times import decode_sum, decode_value, steps_until
from flashstill.simulate.transfers import expect, free, let_go


def drawn(fleet: Fleet, r: int, mean: float) -> float:
    """An exponential time of a replica's own random numbers; infinite for an infinite mean."""
    if mean == np.inf:
        return np.inf
    fleet.counts[r, field.CHANCE] = fleet.counts[r, field.CHANCE] * 48271 % 2147483647  # Park and Miller 1988
    return -mean * math.log(fleet.counts[r, field.CHANCE] / 2147483647.0)


def begin(fleet: Fleet, tally: Tally, settings: Settings, r: int, now: float) -> None:
    """A replica serves from now on, with an empty cache."""
    if fleet.prefix.shape[2]:
        forget(fleet, r)
    become(fleet, tally, r, UP, now, now + drawn(fleet, r, settings.changes.mtbf_s[int(r < settings.prefills)]))


def start(fleet: Fleet, tally: Tally, settings: Settings, r: int, now: float) -> None:
    """A replica is switched on, and serves after its cold start."""
    become(fleet, tally, r, STARTING, now, now + settings.changes.cold_s[int(r < settings.prefills)])


def change(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, r: int, now: float) -> int:
    """A replica's status ends by itself; returns the number of requests that are given up."""
    status = fleet.counts[r, field.STATUS]
    if status == DOWN:
        start(fleet, tally, settings, r, now)
    elif status == STARTING:
        begin(fleet, tally, settings, r, now)
    else:
        return fail(fleet, pool, settings, tally, r, now)
    return 0


def fail(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, r: int, now: float) -> int:
    """A replica fails: its requests are tried elsewhere; returns the number of those that are given up."""
    tally.totals[FAILURES] += 1
    if r < settings.prefills:
        token_s = interrupt(fleet, pool, settings.prefill_tables, settings.prefill_limits, tally, r, now)
        limits = settings.prefill_limits
    else:
        token_s = interrupt(fleet, pool, settings.tables, settings.limits, tally, r, now)
        limits = settings.limits
    if fleet.counts[r, field.STATUS] == DRAINING:
        become(fleet, tally, r, OFF, now, np.inf)
    else:
        become(fleet, tally, r, DOWN, now, now + drawn(fleet, r, settings.changes.repair_s))
    lost = limits._replace(swap_s=0.0)  # the memory of its host fails with it
    while fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING]:
        preempt_latest(fleet, pool, lost, tally, r, token_s)
        tally.totals[PREEMPTED] -= 1
    fleet.clock[r, field.STALL_S], fleet.counts[r, field.STALLED], fleet.counts[r, field.CALLED] = 0.0, 0, 0
    fleet.clock[r, field.LINK_S] = 0.0  # the host fails with it
    return lose_transfers(fleet, pool, settings, tally, r, now) + lose_lines(fleet, pool, settings, tally, r, now)


def lose_transfers(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, r: int, now: float) -> int:
    """Stop the transfers from and to a replica that has failed; returns the number of requests given up."""
    given_up = 0
    for link in range(len(fleet.links)):
        place, to = fleet.links[link, REQUEST_SENT], fleet.links[link, RECEIVER]
        sender = link // (len(fleet.links) // settings.prefills)
        if place == NONE or r not in (sender, to):
            continue
        free(fleet, link)
        expect(fleet, pool, settings.limits, to, place, -1)
        fleet.counts[to, field.INCOMING] -= 1
        if to == r:
            push_front(fleet.counts, pool, sender, field.SEND_HEAD, place)  # its cache is still there
        else:
            let_go(fleet, pool, settings.prefill_limits, r, place)
            given_up += retry(fleet, pool, settings, tally, place, now)
    return given_up


def lose_lines(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, r: int, now: float) -> int:
    """Empty the lines of a replica that runs nothing any more; returns the number of requests given up."""
    given_up = 0
    while fleet.counts[r, field.SEND_LENGTH]:
        place = pop(fleet.counts, pool, r, field.SEND_HEAD)
        let_go(fleet, pool, settings.prefill_limits, r, place)
        given_up += retry(fleet, pool, settings, tally, place, now)
    fleet.counts[r, field.HELD] = 0
    while fleet.counts[r, field.LAND_LENGTH]:
        place = pop(fleet.counts, pool, r, field.LAND_HEAD)
        fleet.counts[r, field.INCOMING] -= 1
        let_go(fleet, pool, settings.limits, r, place)
        given_up += retry(fleet, pool, settings, tally, place, now)
    while fleet.counts[r, field.QUEUED] + fleet.counts[r, field.LATE_QUEUED]:
        head = field.HEAD if fleet.counts[r, field.QUEUED] else field.LATE_HEAD
        place = pop(fleet.counts, pool, r, head)
        fleet.counts[r, field.OWED] -= 1
        fleet.counts[r, field.OWED_TOKENS] -= pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT]
        given_up += retry(fleet, pool, settings, tally, place, now)
    return given_up


def interrupt(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, r: int, now: float) -> float:
    """Carry out the whole steps of a jump that a replica has done, and stop it; returns the end of the last one."""
    if fleet.ends[r] == np.inf:
        return now
    begun, steps, count = fleet.clock[r, field.STARTS], fleet.counts[r, field.STEPS], fleet.counts[r, field.DECODING]
    prompt = 0
    for slot in range(fleet.counts[r, field.FILLING]):
        prompt += fleet.slots[r, field.FILL_CHUNK, slot]
    if steps and prompt == 0:
        row, mean = tables.decode_s[count], fleet.counts[r, field.CONTEXT] / count
        done = steps_until(tables.contexts, row, mean, steps, now - begun) - 1
        if done:
            fleet.counts[r, field.STEPS] = done
            fleet.ends[r] = begun + decode_sum(tables.contexts, row, mean, done)
            commit(fleet, pool, tables, limits, tally, r)
            begun = fleet.ends[r]
        mean = fleet.counts[r, field.CONTEXT] / count
        fleet.clock[r, field.JOULES] += decode_value(tables.contexts, tables.decode_j[count], mean)
    fleet.clock[r, field.BUSY_S] += now - begun
    draw_line(tally, WORKING, begun, now, 1.0)
    fleet.ends[r], fleet.counts[r, field.STEPS] = np.inf, 0
    return float(begun)


def retry(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, place: int, now: float) -> int:
    """Try a request elsewhere; 1 if it is given up, as it has failed too often or no longer fits, else 0."""
    limits = settings.prefill_limits
    pool.counts[place, field.RETRIES] += 1
    pool.counts[place, field.HOSTED] = 0
    needed = blocks_of(pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED], limits.block)
    if pool.counts[place, field.RETRIES] > settings.changes.retries or needed > limits.blocks:
        give_up(pool, tally, place, now)
        return 1
    tally.totals[RETRIED] += 1
    r = NONE if fleet.router[LINE_LENGTH] else choose(fleet, pool, settings, place, now)
    if r == NONE:
        join_line(fleet, pool, place, now)
    else:
        send(fleet, pool, r, place, now)
    return 0


def give_up(pool: Pool, tally: Tally, place: int, now: float) -> None:
    """Count a request as failed and free its place."""
    tally.totals[FAILED] += 1
    tally.totals[LOST_OUT] += pool.counts[place, field.GENERATED]
    leave(tally, now)
    pool.spare[pool.spares[0]] = place
    pool.spares[0] += 1


def give_up_rest(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, now: float) -> None:
    """Give up the requests that wait for a replica that never comes; nothing runs any more."""
    for r in range(len(fleet.counts)):
        limits = settings.prefill_limits if r < settings.prefills else settings.limits
        while fleet.counts[r, field.FILLING]:
            preempt_latest(fleet, pool, limits, tally, r, now)
        fleet.counts[r, field.STATUS] = OFF
        lose_lines(fleet, pool, settings, tally, r, now)
    while fleet.router[LINE_LENGTH]:
        place = fleet.router[LINE_HEAD]
        fleet.router[LINE_HEAD] = pool.counts[place, field.FOLLOWING]
        fleet.router[LINE_LENGTH] -= 1
        give_up(pool, tally, place, now)
