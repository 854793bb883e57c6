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
from flashstill.simulate.bounds import budget_within
from flashstill.simulate.compiled import compiled, inlined
from flashstill.simulate.prefix import cached_units, evict
from flashstill.simulate.prompts import schedule_prompts
from flashstill.simulate.slots import preempt_latest, step_growth, steps_in_memory
from flashstill.simulate.state import ALL, Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import Tally
from flashstill.simulate.times import decode_sum, decode_value, extra_value


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


@inlined
def steps_until_a_decision(
    fleet: Fleet, pool: Pool, limits: Limits, r: int, queries: int, preempted: bool, held_back: bool, seen_s: float
) -> int:
    """Decode steps before the next one at which anything may be decided. held_back: whether the user's function lets
    fewer prompts start than there are."""
    least = fleet.slots[r, field.END, 0]
    for i in range(1, fleet.counts[r, field.DECODING]):
        least = min(least, fleet.slots[r, field.END, i])
    most = least - fleet.counts[r, field.COUNTER] if queries == 1 else 1
    if preempted and fleet.counts[r, field.QUEUED] > 0:
        most = 1  # those that wait may start again in the step after next
    waiting = fleet.counts[r, field.QUEUED] + fleet.counts[r, field.FILLING] > 0
    if limits.asks and waiting and held_back:
        most = 1  # the user's function may decide otherwise after any step
    if limits.late and waiting:
        most = 1  # who is too late, and what keeps a step within its bound, may be otherwise after any step
    if is_unseen(fleet, pool, r, seen_s):
        most = 1  # it is seen at the end of this step
    if fleet.counts[r, field.IDLE] and waits_with_idle_units(fleet, pool, limits, r):
        most = 1
    if fleet.clock[r, field.LINK_S] > 0.0:
        most = 1
    return int(most)


@inlined
def plan_jump(
    fleet: Fleet, tables: StepTables, limits: Limits, tally: Tally, r: int, queries: int, most: int, now: float
) -> None:
    """Plan decode steps as one jump: at most so many, and as many as the memory has room for."""
    count = fleet.counts[r, field.DECODING]
    mean, row_s = fleet.counts[r, field.CONTEXT] / count, tables.decode_s[count]
    steps = steps_in_memory(fleet, limits, r, most)
    fleet.counts[r, field.STEPS] = steps
    if fleet.counts[r, field.IDLE]:
        evict(fleet, limits, tally, r, fleet.counts[r, field.FREE] - step_growth(fleet, limits, r, queries))
    link_s = fleet.clock[r, field.LINK_S]
    fleet.clock[r, field.LINK_S] = 0.0
    fleet.clock[r, field.JOULES] += link_s * limits.swap_w
    fleet.ends[r] = now + link_s + decode_sum(tables.contexts, row_s, mean, steps)
    fleet.clock[r, field.BEGUN_S] = last_begins(limits, tables.contexts, row_s, mean, steps, now)


@inlined
def plan_prompts(
    fleet: Fleet, tables: StepTables, limits: Limits, r: int, count: int, prompt: int, work: float, now: float
) -> None:
    """Plan one step with prompt tokens. count: sequences that decode beside them; work: the prompts' token-contexts."""
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
        mean = fleet.counts[r, field.CONTEXT] / count
        seconds += decode_value(tables.contexts, tables.decode_s[count], mean)
        joules += decode_value(tables.contexts, tables.decode_j[count], mean)
    seconds += fleet.clock[r, field.LINK_S]
    joules += fleet.clock[r, field.LINK_S] * limits.swap_w
    fleet.clock[r, field.LINK_S] = 0.0
    fleet.ends[r] = now + seconds
    fleet.clock[r, field.JOULES] += joules


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
    if prompt:
        plan_prompts(fleet, tables, limits, r, count, prompt, work, now)
    else:
        held_back = budget < limits.tokens - count * queries or admits < fleet.counts[r, field.QUEUED]
        most = steps_until_a_decision(fleet, pool, limits, r, queries, preempted, held_back, seen_s)
        plan_jump(fleet, tables, limits, tally, r, queries, most, now)
