"""One line of requests before all replicas: each goes to a replica as soon as one can admit it, in order of arrival.

A replica can admit a request while it runs fewer than `sequences` and has free blocks for the prompt, beside those that
requests already sent to it need.  With one sequence per replica this is the queue M/G/c of Kendall's notation.
"""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.lockstep import steps_done
from flashstill.simulate.routing import route
from flashstill.simulate.settings import Settings
from flashstill.simulate.slots import blocks_of, enqueue, growth
from flashstill.simulate.state import CENTRAL, ENTRIES, LINE_HEAD, LINE_LENGTH, LINE_TAIL, NONE, Fleet, Pool
from flashstill.simulate.tally import QUEUED, Tally, draw_line


@compiled
def can_admit(fleet: Fleet, pool: Pool, settings: Settings, r: int, place: int, now: float) -> bool:
    """Whether a replica can start this request in its next step, beside those already sent to it."""
    limits = settings.prefill_limits
    if fleet.counts[r, field.OWED] >= limits.sequences:
        return False
    free, committed = fleet.counts[r, field.FREE], fleet.counts[r, field.COMMITTED]
    done = steps_done(fleet, settings, r, now)
    if done:
        free -= growth(fleet, limits, r, done)
    for slot in range(fleet.counts[r, field.FILLING]):
        cached = fleet.slots[r, field.FILL_CACHED, slot]
        whole = cached + fleet.slots[r, field.FILL_LEFT, slot]
        free -= blocks_of(whole, limits.block) - blocks_of(cached, limits.block)
    other = fleet.counts[r, field.HEAD] if fleet.counts[r, field.QUEUED] else NONE
    while other != NONE:
        free -= blocks_of(pool.counts[other, field.PROMPT] + pool.counts[other, field.GENERATED], limits.block)
        committed += blocks_of(pool.counts[other, field.PROMPT] + pool.counts[other, field.OUTPUT], limits.block)
        other = pool.counts[other, field.FOLLOWING]
    prompt, output = pool.counts[place, field.PROMPT], pool.counts[place, field.OUTPUT]
    if limits.reserves and committed + blocks_of(prompt + output, limits.block) > limits.blocks:
        return False
    return bool(blocks_of(prompt + pool.counts[place, field.GENERATED], limits.block) <= free)


@compiled
def first_with_room(fleet: Fleet, pool: Pool, settings: Settings, place: int, now: float) -> int:
    """Of the replicas that can admit this request, the one with the fewest; NONE if there is none."""
    chosen = NONE
    for r in range(fleet.router[ENTRIES]):
        fewer = chosen == NONE or fleet.counts[r, field.OWED] < fleet.counts[chosen, field.OWED]
        if fewer and fleet.counts[r, field.STATUS] == field.UP and can_admit(fleet, pool, settings, r, place, now):
            chosen = r
    return int(chosen)


@compiled
def choose(fleet: Fleet, pool: Pool, settings: Settings, place: int, now: float) -> int:
    """The replica that gets a request now; NONE if it has to wait in the central line."""
    if settings.prefill_limits.router == CENTRAL:
        return first_with_room(fleet, pool, settings, place, now)
    return route(fleet, pool, settings.prefill_limits, place)


@compiled
def join_line(fleet: Fleet, pool: Pool, place: int, now: float) -> None:
    """Put a request at the end of the central line."""
    pool.clock[place, field.HELD_S] = now
    pool.counts[place, field.FOLLOWING] = NONE
    if fleet.router[LINE_LENGTH] == 0:
        fleet.router[LINE_HEAD] = place
    else:
        pool.counts[fleet.router[LINE_TAIL], field.FOLLOWING] = place
    fleet.router[LINE_TAIL] = place
    fleet.router[LINE_LENGTH] += 1


@compiled
def dispatch(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, now: float) -> None:
    """Send requests from the head of the central line to replicas that can admit them, and mark these as called.

    With another router than the central one, requests are in this line only while no replica serves."""
    while fleet.router[LINE_LENGTH]:
        place = fleet.router[LINE_HEAD]
        r = choose(fleet, pool, settings, place, now)
        if r == NONE:
            return
        fleet.router[LINE_HEAD] = pool.counts[place, field.FOLLOWING]
        fleet.router[LINE_LENGTH] -= 1
        draw_line(tally, QUEUED, pool.clock[place, field.HELD_S], now, 1.0)
        send(fleet, pool, r, place, now)


@compiled
def send(fleet: Fleet, pool: Pool, r: int, place: int, now: float) -> None:
    """Put a request into a replica's own line; the replica is to notice it."""
    fleet.counts[r, field.OWED] += 1
    fleet.counts[r, field.OWED_TOKENS] += pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT]
    fleet.counts[r, field.CALLED] = 1
    pool.clock[place, field.HELD_S] = now
    enqueue(fleet, pool, r, place)
