"""Caches on their way from prefill to decode replicas: who sends, who receives, and what happens at the end.

A prefilled request keeps its cache where it is until the transfer ends.  A transfer starts when a link of the sender is
free and a decode replica has a place, free blocks for the cache, nobody waiting, and a link of its own; of several
senders the one whose request came first goes on.  The request's first token leaves when the decode replica takes it
into a step, as engines stream from there.  Seconds and joules are those of cost/disaggregated.py.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.commit import give_token, start_decoding
from flashstill.simulate.compiled import compiled, inlined
from flashstill.simulate.lines import pop, push
from flashstill.simulate.lockstep import cut_jump, steps_done
from flashstill.simulate.prefix import evict
from flashstill.simulate.settings import Settings
from flashstill.simulate.slots import blocks_of, free_blocks, growth, step_growth
from flashstill.simulate.state import DRAINING, NONE, RECEIVER, REQUEST_SENT, UP, Fleet, Limits, Pool
from flashstill.simulate.status import drain
from flashstill.simulate.tally import TRANSFER, Tally, note, part_of
from flashstill.simulate.times import decode_value


@compiled
def cached_tokens(pool: Pool, place: int) -> int:
    """Tokens in the cache of a prefilled request."""
    return int(pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED])


@compiled
def whole_blocks(pool: Pool, limits: Limits, place: int) -> int:
    """Blocks of a request at its end."""
    return blocks_of(pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT], limits.block)


@compiled
def owe(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, sign: int) -> None:
    """Count a request, whose cache is or comes there, as one of replica r (sign 1), or no longer (-1)."""
    fleet.counts[r, field.COMMITTED] += sign * whole_blocks(pool, limits, place)
    fleet.counts[r, field.OWED] += sign
    fleet.counts[r, field.OWED_TOKENS] += sign * (pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT])


@compiled
def expect(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, sign: int) -> None:
    """Keep blocks free for a cache that is on its way to replica r (sign 1), or no longer (-1): none of it has come."""
    fleet.counts[r, field.FREE] -= sign * blocks_of(cached_tokens(pool, place), limits.block)
    owe(fleet, pool, limits, r, place, sign)


@compiled
def let_go(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int) -> None:
    """Replica r is rid of a request and its cache."""
    free_blocks(fleet, pool, limits, r, place, cached_tokens(pool, place))
    owe(fleet, pool, limits, r, place, -1)


@inlined
def free_link(fleet: Fleet, r: int, lanes: int) -> int:
    """A free link of a sender; NONE if all are in use."""
    for link in range(r * lanes, (r + 1) * lanes):
        if fleet.links[link, REQUEST_SENT] == NONE:
            return link
    return NONE


@inlined
def next_sender(fleet: Fleet, pool: Pool, prefills: int, lanes: int) -> int:
    """Of the replicas that could send, the one whose next request arrived first; NONE if there is none."""
    chosen, earliest = NONE, np.inf
    for r in range(prefills):
        if fleet.counts[r, field.SEND_LENGTH] and free_link(fleet, r, lanes) != NONE:
            arrived = pool.clock[fleet.counts[r, field.SEND_HEAD], field.ARRIVAL_S]
            if arrived < earliest:
                chosen, earliest = r, arrived
    return chosen


@inlined
def planned_growth(fleet: Fleet, settings: Settings, r: int, steps: int) -> int:
    """Blocks that a decode replica needs for so many of its planned steps, with the chunks of prompts in the first."""
    limits, queries, needed = settings.limits, len(settings.tables.accepted) + 1, 0
    if steps:
        needed = growth(fleet, limits, r, steps) if queries == 1 else step_growth(fleet, limits, r, queries)
    for slot in range(fleet.counts[r, field.FILLING]):
        cached, chunk = fleet.slots[r, field.FILL_CACHED, slot], fleet.slots[r, field.FILL_CHUNK, slot]
        needed += blocks_of(cached + chunk, limits.block) - blocks_of(cached, limits.block)
    return int(needed)


@inlined
def has_blocks(fleet: Fleet, settings: Settings, r: int, blocks: int, now: float) -> bool:
    """Whether so many blocks of a decode replica are free at the end of the step that runs.

    How many of its planned steps that one ends takes long to find, and does not matter where all of them leave room.
    """
    free, steps = fleet.counts[r, field.FREE], fleet.counts[r, field.STEPS]
    if free - planned_growth(fleet, settings, r, steps) >= blocks:
        return True
    if steps < 2 or free - planned_growth(fleet, settings, r, 1) < blocks:
        return False
    return bool(
        free - planned_growth(fleet, settings, r, min(steps, steps_done(fleet, settings, r, now) + 1)) >= blocks
    )


@inlined
def receiver_of(fleet: Fleet, pool: Pool, settings: Settings, place: int, now: float) -> int:
    """Of the decode replicas with room, the one with the fewest requests (or tokens, as the router counts)."""
    limits, chosen = settings.limits, NONE
    owed = field.OWED_TOKENS if limits.router == 3 else field.OWED
    blocks, whole = blocks_of(cached_tokens(pool, place), limits.block), whole_blocks(pool, limits, place)
    for r in range(settings.prefills, len(fleet.counts)):
        running = fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING] + fleet.counts[r, field.INCOMING]
        if (
            fleet.counts[r, field.STATUS] == UP
            and fleet.counts[r, field.QUEUED] == 0
            and running < limits.sequences
            and fleet.counts[r, field.INCOMING] - fleet.counts[r, field.LAND_LENGTH] < settings.links.receives
            and fleet.counts[r, field.FREE] >= blocks
            and not (limits.reserves and fleet.counts[r, field.COMMITTED] + whole > limits.blocks)
            and (chosen == NONE or fleet.counts[r, owed] < fleet.counts[chosen, owed])
            and has_blocks(fleet, settings, r, blocks, now)
        ):
            chosen = r
    return chosen


@compiled
def start_transfers(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, now: float) -> None:
    """Start all transfers that can start; the blocks that they take are missing to planned steps and idle units."""
    lanes = len(fleet.links) // settings.prefills
    while True:
        r = next_sender(fleet, pool, settings.prefills, lanes)
        if r == NONE:
            return
        to = receiver_of(fleet, pool, settings, fleet.counts[r, field.SEND_HEAD], now)
        if to == NONE:
            return
        place, link = pop(fleet.counts, pool, r, field.SEND_HEAD), free_link(fleet, r, lanes)
        fleet.links[link, REQUEST_SENT], fleet.links[link, RECEIVER] = place, to
        expect(fleet, pool, settings.limits, to, place, 1)
        if planned_growth(fleet, settings, to, fleet.counts[to, field.STEPS]) > fleet.counts[to, field.FREE]:
            cut_jump(fleet, settings, to, now)
        if fleet.counts[to, field.IDLE]:
            evict(fleet, settings.limits, tally, to, fleet.counts[to, field.FREE])
        fleet.counts[to, field.INCOMING] += 1
        tokens, links = float(cached_tokens(pool, place)), settings.links
        fleet.ends[len(fleet.counts) + link] = now + decode_value(links.contexts, links.seconds, tokens)
        fleet.clock[r, field.JOULES] += decode_value(links.contexts, links.joules, tokens)


@compiled
def end_transfer(fleet: Fleet, pool: Pool, settings: Settings, tally: Tally, link: int, now: float) -> None:
    """The cache has arrived: the sender is rid of it, and the receiver is to notice it."""
    r, place = link // (len(fleet.links) // settings.prefills), fleet.links[link, REQUEST_SENT]
    to = fleet.links[link, RECEIVER]
    free(fleet, link)
    let_go(fleet, pool, settings.prefill_limits, r, place)
    fleet.counts[r, field.HELD] -= 1
    push(fleet.counts, pool, to, field.LAND_HEAD, place)
    fleet.counts[r, field.CALLED] = fleet.counts[to, field.CALLED] = 1
    if fleet.counts[r, field.STATUS] == DRAINING:
        drain(fleet, tally, r, now)


@compiled
def free(fleet: Fleet, link: int) -> None:
    """A link carries nothing any more."""
    fleet.links[link, REQUEST_SENT], fleet.ends[len(fleet.counts) + link] = NONE, np.inf


@compiled
def land(fleet: Fleet, pool: Pool, limits: Limits, tally: Tally, r: int, now: float) -> None:
    """Take the requests whose cache has arrived into the next step; their first tokens leave."""
    while fleet.counts[r, field.LAND_LENGTH]:
        place = pop(fleet.counts, pool, r, field.LAND_HEAD)
        fleet.counts[r, field.INCOMING] -= 1
        cached = cached_tokens(pool, place)
        note(
            tally, TRANSFER, part_of(tally, pool.counts[place, field.NUMBER]), now - pool.clock[place, field.HELD_S], 1
        )
        give_token(pool, limits, tally, place, now)
        start_decoding(fleet, pool, limits, r, place, fleet.counts[r, field.ADMITTED], cached)
        fleet.counts[r, field.ADMITTED] += 1
