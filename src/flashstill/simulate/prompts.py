"""The prompts of a replica's next step: chunks of those that are being prefilled, then those that start."""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.ahead import is_unseen
from flashstill.simulate.bounds import sort_out_late
from flashstill.simulate.compiled import compiled, inlined
from flashstill.simulate.prefix import cached_units, enter_units, evict, take_units
from flashstill.simulate.slots import blocks_of, prompts_allowed, swap
from flashstill.simulate.state import Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import CACHED_IN, WAITING, Tally, note, part_of


@inlined
def continue_prompts(
    fleet: Fleet, pool: Pool, limits: Limits, r: int, budget: int, free: int, allowed: int
) -> tuple[int, int, int, float, float]:
    """Give chunks to the sequences that are being prefilled, in order, to so many as are allowed.

    Returns tokens of the budget and free blocks that are left, and tokens, token-contexts, and those of the latter that
    attend to a cached prefix.
    """
    left, prompt, work, found = budget, 0, 0.0, 0.0
    for slot in range(fleet.counts[r, field.FILLING]):
        cached = fleet.slots[r, field.FILL_CACHED, slot]
        room = (blocks_of(cached, limits.block) + free) * limits.block - cached
        chunk = max(min(min(fleet.slots[r, field.FILL_LEFT, slot], left), room), 0) if slot < allowed else 0
        fleet.slots[r, field.FILL_CHUNK, slot] = chunk
        free -= blocks_of(cached + chunk, limits.block) - blocks_of(cached, limits.block)
        left -= chunk
        prompt += chunk
        work += chunk * (cached + chunk / 2.0)
        place = fleet.slots[r, field.FILL_REQUEST, slot]
        found += chunk * pool.counts[place, field.CACHED]
        if limits.unit and pool.counts[place, field.KEYS]:
            before = fleet.counts[r, field.FREE]
            enter_units(fleet, pool, limits, r, place, cached + chunk)
            free += fleet.counts[r, field.FREE] - before
    return left, free, prompt, work, found


@inlined
def start_prompt(
    fleet: Fleet, pool: Pool, tally: Tally, r: int, place: int, cached: int, tokens: int, chunk: int, now: float
) -> None:
    """Move the request in front from the queue to a slot. cached, tokens: found in caches, and left to prefill."""
    if np.isnan(pool.clock[place, field.LAST_S]):
        pool.clock[place, field.LAST_S] = now
        part = part_of(tally, pool.counts[place, field.NUMBER])
        note(tally, WAITING, part, now - pool.clock[place, field.ARRIVAL_S], 1)
        tally.totals[CACHED_IN] += cached
    slot = fleet.counts[r, field.FILLING]
    fleet.slots[r, field.FILL_REQUEST, slot] = place
    fleet.slots[r, field.FILL_CACHED, slot] = cached
    fleet.slots[r, field.FILL_LEFT, slot] = tokens
    fleet.slots[r, field.FILL_CHUNK, slot] = chunk
    fleet.slots[r, field.FILL_BORN, slot] = fleet.counts[r, field.ADMITTED]
    fleet.counts[r, field.ADMITTED] += 1
    fleet.counts[r, field.FILLING] += 1
    fleet.counts[r, field.HEAD] = pool.counts[place, field.FOLLOWING]
    fleet.counts[r, field.QUEUED] -= 1


@compiled
def schedule_prompts(
    fleet: Fleet,
    pool: Pool,
    tables: StepTables,
    limits: Limits,
    tally: Tally,
    r: int,
    budget: int,
    reserved: int,
    admits: int,
    seen_s: float,
    now: float,
) -> tuple[int, float]:
    """Give chunks of the budget to filling sequences, then to waiting ones; returns tokens and token-contexts.

    reserved: free blocks that the decoding sequences need in the same step.  admits: how many waiting ones may start,
    of those that came until seen_s (ahead.py).
    """
    allowed, free = prompts_allowed(fleet, limits, r), fleet.counts[r, field.FREE] - reserved
    left, free, prompt, work, found = continue_prompts(fleet, pool, limits, r, budget, free, allowed)
    if fleet.counts[r, field.IDLE]:
        evict(fleet, limits, tally, r, free)
    while (
        admits > 0
        and left > 0
        and fleet.counts[r, field.FILLING] < allowed
        and fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING] + fleet.counts[r, field.INCOMING]
        < limits.sequences
    ):
        if limits.late:
            sort_out_late(fleet, pool, tables, limits, tally, r, budget, now)
        if fleet.counts[r, field.QUEUED] == 0 or is_unseen(fleet, pool, r, seen_s):
            break
        place = fleet.counts[r, field.HEAD]
        cached, units, shared = pool.counts[place, field.CACHED], 0, 0
        tokens = pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED]
        if limits.unit and pool.counts[place, field.KEYS]:
            units, idle = cached_units(fleet, pool, limits, r, place, tokens)
            cached, shared = units * limits.unit, (units - idle) * limits.unit_blocks
        if pool.counts[place, field.HOSTED] > cached:
            cached = pool.counts[place, field.HOSTED]
        tokens -= cached
        chunk = min(tokens, left)
        blocks = blocks_of(cached + chunk, limits.block) - shared
        whole = blocks_of(pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT], limits.block)
        if blocks > free or (limits.reserves and fleet.counts[r, field.COMMITTED] + whole > limits.blocks):
            break
        fleet.counts[r, field.COMMITTED] += whole
        start_prompt(fleet, pool, tally, r, place, cached, tokens, chunk, now)
        free -= blocks
        if pool.counts[place, field.HOSTED]:
            swap(fleet, limits, tally, r, blocks_of(cached, limits.block) - units * limits.unit_blocks)
            pool.counts[place, field.HOSTED] = 0
        if limits.unit and pool.counts[place, field.KEYS]:
            take_units(fleet, pool, limits, r, place, units)
            pool.counts[place, field.CACHED] = units * limits.unit
            fleet.counts[r, field.FREE] -= blocks_of(cached, limits.block) - units * limits.unit_blocks
            before = fleet.counts[r, field.FREE]
            enter_units(fleet, pool, limits, r, place, cached + chunk)
            free += fleet.counts[r, field.FREE] - before
        else:
            fleet.counts[r, field.FREE] -= blocks_of(cached, limits.block)
        if fleet.counts[r, field.IDLE]:
            evict(fleet, limits, tally, r, free)
        admits -= 1
        left -= chunk
        prompt += chunk
        work += chunk * (cached + chunk / 2.0)
        found += chunk * pool.counts[place, field.CACHED]
    fleet.clock[r, field.SHARED_WORK] = found
    return prompt, work
