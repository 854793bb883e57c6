"""One replica's continuous batching: what its next steps do, and what they leave behind.

A replica runs steps one after another.  A step decodes one token of every decoding sequence and prefills chunks of
prompts within the budget of tokens (Agrawal et al. 2024), or, with `prefill_first`, only prefills while there are
prompts.  The cache is paged (Kwon et al. 2023): where no block is free, the sequence that came last is preempted, and
recomputed later.  Decode steps between which nothing is decided are planned as one jump.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.ahead import is_unseen, last_begins, seen_until
from flashstill.simulate.bounds import budget_within, sort_out_late
from flashstill.simulate.compiled import compiled
from flashstill.simulate.prefix import cached_units, enter_units, evict, take_units
from flashstill.simulate.slots import blocks_of, preempt_latest, prompts_allowed, step_growth, steps_in_memory, swap
from flashstill.simulate.state import ALL, Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import (
    CACHED_IN,
    WAITING,
    Tally,
    note,
    part_of,
)
from flashstill.simulate.times import decode_sum, decode_value, extra_value


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
    left, free = budget, fleet.counts[r, field.FREE] - reserved
    prompt, work, found = 0, 0.0, 0.0
    allowed = prompts_allowed(fleet, limits, r)
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
        if np.isnan(pool.clock[place, field.LAST_S]):
            pool.clock[place, field.LAST_S] = now
            note(
                tally,
                WAITING,
                part_of(tally, pool.counts[place, field.NUMBER]),
                now - pool.clock[place, field.ARRIVAL_S],
                1,
            )
            tally.totals[CACHED_IN] += cached
        slot = fleet.counts[r, field.FILLING]
        fleet.slots[r, field.FILL_REQUEST, slot] = place
        fleet.slots[r, field.FILL_CACHED, slot] = cached
        fleet.slots[r, field.FILL_LEFT, slot] = tokens
        fleet.slots[r, field.FILL_CHUNK, slot] = chunk
        fleet.slots[r, field.FILL_BORN, slot] = fleet.counts[r, field.ADMITTED]
        fleet.counts[r, field.ADMITTED] += 1
        fleet.counts[r, field.FILLING] += 1
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
        fleet.counts[r, field.HEAD] = pool.counts[place, field.FOLLOWING]
        fleet.counts[r, field.QUEUED] -= 1
        admits -= 1
        left -= chunk
        prompt += chunk
        work += chunk * (cached + chunk / 2.0)
        found += chunk * pool.counts[place, field.CACHED]
    fleet.clock[r, field.SHARED_WORK] = found
    return prompt, work


@compiled
def waits_with_idle_units(fleet: Fleet, pool: Pool, limits: Limits, r: int) -> bool:
    """Whether the request in front waits for memory with a cached prefix that decoding may yet evict.

    It then needs less memory for its first chunk, so it may start before anything else happens.
    """
    running = fleet.counts[r, field.DECODING] + fleet.counts[r, field.FILLING]
    if fleet.counts[r, field.QUEUED] == 0 or running >= limits.sequences:
        return False
    place = fleet.counts[r, field.HEAD]
    tokens = pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED]
    return bool(cached_units(fleet, pool, limits, r, place, tokens)[1] > 0)


@compiled
def plan(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, r: int, now: float) -> None:
    """Plan a replica's next step, or its next decode steps as one jump; idle if it has no request."""
    seen_s = seen_until(fleet, limits, r)
    fleet.clock[r, field.STARTS], fleet.counts[r, field.STEPS] = now, 0
    fleet.clock[r, field.BEGUN_S] = now
    preempted, queries = False, len(tables.accepted) + 1
    stalls = limits.prefill_first or (limits.asks and fleet.counts[r, field.MAY_DECODE] == 0)
    while True:
        if fleet.counts[r, field.DECODING] <= limits.few:
            fleet.counts[r, field.GATE] = 1
        decodes = fleet.counts[r, field.DECODING] > 0 and not stalls
        while decodes and step_growth(fleet, limits, r, queries) > fleet.counts[r, field.FREE]:
            preempt_latest(fleet, pool, limits, tally, r, now)
            preempted, decodes = True, fleet.counts[r, field.DECODING] > 0
        budget = limits.tokens - (fleet.counts[r, field.DECODING] * queries if decodes else 0)
        admits = ALL
        if limits.late and decodes:
            budget = budget_within(fleet, pool, tables, limits, r, budget)
        if limits.asks:
            budget, admits = min(budget, fleet.counts[r, field.MAY_PREFILL]), fleet.counts[r, field.MAY_ADMIT]
        if fleet.counts[r, field.GATE] == 0:
            budget = 0
        reserved = step_growth(fleet, limits, r, queries) if decodes else 0
        prompt, work = schedule_prompts(
            fleet, pool, tables, limits, tally, r, budget, reserved, 0 if preempted else admits, seen_s, now
        )
        if prompt == 0 and stalls:
            fleet.counts[r, field.GATE] = 0
            decodes = fleet.counts[r, field.DECODING] > 0
            if decodes and step_growth(fleet, limits, r, queries) > fleet.counts[r, field.FREE]:
                preempt_latest(fleet, pool, limits, tally, r, now)
                preempted = True
                continue
        stuck = prompt == 0 and not decodes and fleet.counts[r, field.FILLING] > 0
        if stuck and budget > 0 and fleet.counts[r, field.HELD] == 0:
            preempt_latest(fleet, pool, limits, tally, r, now)  # prompts that hold all blocks and none can go on
            preempted = True
            continue
        if prompt == 0 and not decodes and preempted and fleet.counts[r, field.QUEUED] > 0:
            preempted = False  # nothing runs any more, so the blocks are free
            continue
        break
    count = fleet.counts[r, field.DECODING] if decodes else 0
    if prompt == 0 and count == 0:
        fleet.ends[r] = np.inf
        return
    mean = fleet.counts[r, field.CONTEXT] / count if count else 0.0
    row_s, row_j = tables.decode_s[count], tables.decode_j[count]
    if prompt == 0:
        least = fleet.slots[r, field.END, 0]
        for i in range(1, fleet.counts[r, field.DECODING]):
            least = min(least, fleet.slots[r, field.END, i])
        most = least - fleet.counts[r, field.COUNTER] if queries == 1 else 1
        if preempted and fleet.counts[r, field.QUEUED] > 0:
            most = 1  # those that wait may start again in the step after next
        waiting = fleet.counts[r, field.QUEUED] + fleet.counts[r, field.FILLING] > 0
        if (
            limits.asks
            and waiting
            and (budget < limits.tokens - count * queries or admits < fleet.counts[r, field.QUEUED])
        ):
            most = 1  # the user's function may decide otherwise after any step
        if limits.late and waiting:
            most = 1  # who is too late, and what keeps a step within its bound, may be otherwise after any step
        if is_unseen(fleet, pool, r, seen_s):
            most = 1  # it is seen at the end of this step
        if fleet.counts[r, field.IDLE] and waits_with_idle_units(fleet, pool, limits, r):
            most = 1
        link_s = fleet.clock[r, field.LINK_S]
        if link_s > 0.0:
            most = 1
        fleet.counts[r, field.STEPS] = steps_in_memory(fleet, limits, r, most)
        if fleet.counts[r, field.IDLE]:
            evict(fleet, limits, tally, r, fleet.counts[r, field.FREE] - step_growth(fleet, limits, r, queries))
        fleet.clock[r, field.LINK_S] = 0.0
        fleet.clock[r, field.JOULES] += link_s * limits.swap_w
        steps = fleet.counts[r, field.STEPS]
        fleet.ends[r] = now + link_s + decode_sum(tables.contexts, row_s, mean, steps)
        fleet.clock[r, field.BEGUN_S] = last_begins(limits, tables.contexts, row_s, mean, steps, now)
        return
    attended = work / prompt
    seconds = extra_value(tables.batches, tables.tokens, tables.attended, tables.extra_s, count, prompt, attended)
    joules = extra_value(tables.batches, tables.tokens, tables.attended, tables.extra_j, count, prompt, attended)
    fleet.clock[r, field.PROMPT_S] += seconds
    fleet.clock[r, field.PROMPT_J] += joules
    if fleet.clock[r, field.SHARED_WORK] > 0.0:
        own = attended - fleet.clock[r, field.SHARED_WORK] / prompt
        fleet.clock[r, field.SHARED_S] += seconds - extra_value(
            tables.batches, tables.tokens, tables.attended, tables.extra_s, count, prompt, own
        )
        fleet.clock[r, field.SHARED_J] += joules - extra_value(
            tables.batches, tables.tokens, tables.attended, tables.extra_j, count, prompt, own
        )
    if count:
        fleet.counts[r, field.STEPS] = 1
        seconds += decode_value(tables.contexts, row_s, mean)
        joules += decode_value(tables.contexts, row_j, mean)
    seconds += fleet.clock[r, field.LINK_S]
    joules += fleet.clock[r, field.LINK_S] * limits.swap_w
    fleet.clock[r, field.LINK_S] = 0.0
    fleet.ends[r] = now + seconds
    fleet.clock[r, field.JOULES] += joules
