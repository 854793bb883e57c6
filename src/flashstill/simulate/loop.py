"""The event loop: arrivals are routed to replicas, and the replica whose steps end first goes on, in order of time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.central import dispatch, first_with_room, join_line, send
from flashstill.simulate.commit import commit
from flashstill.simulate.compiled import compiled
from flashstill.simulate.scheduler import plan
from flashstill.simulate.slots import blocks_of
from flashstill.simulate.state import CENTRAL, LINE_LENGTH, NEXT, RANDOM, Counts, Fleet, Limits, Pool, Values
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import ARRIVED, CACHED_IN, REFUSED, TOKENS_IN, Tally, enter
from flashstill.simulate.times import decode_sum, steps_until

MORE, ROOM, OVER, ASK = range(4)
"""why the loop stopped: it needs further requests, a larger pool, everything is done, or the user's function is to
decide a step"""
TURNED_AWAY, IN_LINE = -1, -2
"""in place of a replica: a request that no replica could ever hold, and one that waits in the central line"""


class Arrivals(NamedTuple):
    """Requests in order of arrival: seconds, prompt and output tokens, prompt tokens found in a prefix cache."""

    arrival_s: Values
    prompt: Counts
    output: Counts
    cached: Counts


@compiled
def route(fleet: Fleet, limits: Limits, tokens: int) -> int:
    """The replica that gets the next request, by the policies of state.ROUTERS."""
    count = len(fleet.ends)
    if limits.router == 0 or count == 1:
        chosen = fleet.router[NEXT] % count
        fleet.router[NEXT] += 1
        return int(chosen)
    if limits.router == 2:
        fleet.router[RANDOM] = fleet.router[RANDOM] * 48271 % 2147483647  # Park and Miller 1988, in plain integers
        one = fleet.router[RANDOM] % count
        fleet.router[RANDOM] = fleet.router[RANDOM] * 48271 % 2147483647
        other = (one + 1 + fleet.router[RANDOM] % (count - 1)) % count
        return int(one if fleet.counts[one, field.OWED] <= fleet.counts[other, field.OWED] else other)
    owed = field.OWED if limits.router == 1 else field.OWED_TOKENS
    chosen = 0
    for r in range(1, count):
        if fleet.counts[r, owed] < fleet.counts[chosen, owed]:
            chosen = r
    return int(chosen)


@compiled
def accept(
    fleet: Fleet, pool: Pool, limits: Limits, tally: Tally, arrivals: Arrivals, position: int, now: float
) -> int:
    """Route one request that arrives now; returns its replica, TURNED_AWAY or IN_LINE."""
    prompt, output = arrivals.prompt[position], arrivals.output[position]
    number = tally.totals[ARRIVED]
    tally.totals[ARRIVED] += 1
    if blocks_of(prompt + output, limits.block) > limits.blocks:
        tally.totals[REFUSED] += 1
        return TURNED_AWAY
    enter(tally, now)
    tally.totals[TOKENS_IN] += prompt
    tally.totals[CACHED_IN] += arrivals.cached[position]
    pool.spares[0] -= 1
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
    pool.clock[place, field.FIRST_S] = pool.clock[place, field.LAST_S] = np.nan
    pool.counts[place, field.LATE] = 0
    if limits.router == CENTRAL:
        r = IN_LINE if fleet.router[LINE_LENGTH] else first_with_room(fleet, pool, limits, place)
        if r < 0:
            join_line(fleet, pool, place)
            return IN_LINE
    else:
        r = route(fleet, limits, prompt + output)
    send(fleet, pool, r, place)
    return r


@compiled
def go_on(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, r: int, now: float) -> None:
    """Plan a replica's next steps, or leave that to the user's function (deciding.py)."""
    if limits.asks:
        fleet.clock[r, field.STARTS], fleet.counts[r, field.UNDECIDED] = now, 1
    else:
        plan(fleet, pool, tables, limits, tally, r, now)


@compiled
def wake(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, r: int, now: float) -> None:
    """A request has come: start an idle replica, or end a jump of decode steps at the next step's end."""
    if fleet.ends[r] == np.inf:
        go_on(fleet, pool, tables, limits, tally, r, now)
        return
    full = fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING] >= limits.sequences
    if fleet.counts[r, field.STEPS] > 1 and not full:
        count, start = fleet.counts[r, field.DECODING], fleet.clock[r, field.STARTS]
        mean, row = fleet.counts[r, field.CONTEXT] / count, tables.decode_s[count]
        fleet.counts[r, field.STEPS] = steps_until(
            tables.contexts, row, mean, fleet.counts[r, field.STEPS], now - start
        )
        fleet.ends[r] = start + decode_sum(tables.contexts, row, mean, fleet.counts[r, field.STEPS])


@compiled
def wake_called(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, now: float) -> None:
    """Wake the replicas that got a request."""
    for r in range(len(fleet.ends)):
        if fleet.counts[r, field.CALLED]:
            fleet.counts[r, field.CALLED] = 0
            wake(fleet, pool, tables, limits, tally, r, now)


@compiled
def advance(
    fleet: Fleet,
    pool: Pool,
    tables: StepTables,
    limits: Limits,
    tally: Tally,
    arrivals: Arrivals,
    position: int,
    is_last: bool,
    closed: bool,
) -> tuple[int, int]:
    """Go on until more requests are needed or all are done; returns why it stopped and the position in `arrivals`.

    is_last: no further requests come after these.  closed: those that arrive at time 0 come then, and each of the
    others when one is finished, whatever its time of arrival; all must be given at once.
    """
    total = len(arrivals.arrival_s)
    while True:
        if limits.asks and fleet.counts[:, field.UNDECIDED].any():
            return ASK, position
        r = int(np.argmin(fleet.ends))
        event_s = fleet.ends[r]
        comes_s = np.inf
        if position < total and not (closed and arrivals.arrival_s[position] > 0.0):
            comes_s = arrivals.arrival_s[position]
        elif position == total and not is_last:
            return MORE, position
        if comes_s == np.inf and event_s == np.inf:
            return OVER, position
        if comes_s <= event_s:
            begun = position
            while position < total and arrivals.arrival_s[position] == comes_s:
                if pool.spares[0] == 0:
                    break
                accept(fleet, pool, limits, tally, arrivals, position, comes_s)
                position += 1
            wake_called(fleet, pool, tables, limits, tally, comes_s)
            if position == begun:
                return ROOM, position
            continue
        finished = commit(fleet, pool, tables, limits, tally, r)
        if finished > 0 and fleet.router[LINE_LENGTH] > 0:
            dispatch(fleet, pool, limits, tally, event_s)
        while closed and finished > 0 and position < total:
            if accept(fleet, pool, limits, tally, arrivals, position, event_s) != TURNED_AWAY:
                finished -= 1
            position += 1
        fleet.counts[r, field.CALLED] = 0
        wake_called(fleet, pool, tables, limits, tally, event_s)
        go_on(fleet, pool, tables, limits, tally, r, event_s)
