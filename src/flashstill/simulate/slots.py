"""Slots and cache blocks of one replica: taken, freed, and preempted where no block is left.

The cache is paged (Kwon et al. 2023). A decoding sequence needs a block every `block` tokens; how many need one in a
given step follows from `Fleet.residues`, without a look at each.
"""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.prefix import enter_units, release_units
from flashstill.simulate.state import ALL, NONE, Fleet, Limits, Pool
from flashstill.simulate.tally import PREEMPTED, SWAPPED, Tally, leave


@compiled
def blocks_of(tokens: int, block: int) -> int:
    """Cache blocks of a sequence with so many cached tokens."""
    return (tokens + block - 1) // block


@compiled
def enqueue(fleet: Fleet, pool: Pool, r: int, place: int) -> None:
    """Put a request at the end of a replica's waiting line."""
    pool.counts[place, field.FOLLOWING] = NONE
    if fleet.counts[r, field.QUEUED] == 0:
        fleet.counts[r, field.HEAD] = place
    else:
        pool.counts[fleet.counts[r, field.TAIL], field.FOLLOWING] = place
    fleet.counts[r, field.TAIL] = place
    fleet.counts[r, field.QUEUED] += 1


@compiled
def release(fleet: Fleet, pool: Pool, tally: Tally, r: int, place: int, now: float) -> None:
    """A request that a replica owed leaves the system; its place is free for another."""
    leave(tally, now)
    fleet.counts[r, field.OWED] -= 1
    fleet.counts[r, field.OWED_TOKENS] -= pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT]
    pool.spare[pool.spares[0]] = place
    pool.spares[0] += 1


@compiled
def growth(fleet: Fleet, limits: Limits, r: int, steps: int) -> int:
    """Blocks that the decoding sequences need for so many more steps."""
    whole, rest = steps // limits.block, steps % limits.block
    needed = whole * fleet.counts[r, field.DECODING]
    for i in range(rest):
        needed += fleet.residues[r, (-(fleet.counts[r, field.COUNTER] + i)) % limits.block]
    return int(needed)


@compiled
def step_growth(fleet: Fleet, limits: Limits, r: int, queries: int) -> int:
    """Blocks that the decoding sequences may need in the next step, which gives each up to `queries` tokens."""
    if queries == 1:
        return growth(fleet, limits, r, 1)
    needed, counter = 0, fleet.counts[r, field.COUNTER]
    for slot in range(fleet.counts[r, field.DECODING]):
        cached = fleet.slots[r, field.BASE, slot] + counter
        most = min(queries, fleet.slots[r, field.END, slot] - counter)
        needed += blocks_of(cached + most, limits.block) - blocks_of(cached, limits.block)
    return int(needed)


@compiled
def steps_in_memory(fleet: Fleet, limits: Limits, r: int, most: int) -> int:
    """Decode steps, up to `most`, for which the free blocks last."""
    free, count = fleet.counts[r, field.FREE], fleet.counts[r, field.DECODING]
    cycles = min(free // count, most // limits.block)
    steps, left = cycles * limits.block, free - cycles * count
    while steps < most:
        left -= fleet.residues[r, (-(fleet.counts[r, field.COUNTER] + steps)) % limits.block]
        if left < 0:
            break
        steps += 1
    return int(steps)


@compiled
def prompts_allowed(fleet: Fleet, limits: Limits, r: int) -> int:
    """Prompts that a step may work on: while less than the spare blocks are free, none beside decoding sequences, also
    none that was begun, and else one (transformers' scheduler, which looks once per step)."""
    if fleet.counts[r, field.FREE] >= limits.spare:
        return ALL
    return 0 if fleet.counts[r, field.DECODING] > 0 else 1


@compiled
def free_blocks(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, cached: int) -> None:
    """Free the blocks of a sequence with so many cached tokens; those that have keys stay in the prefix cache."""
    if limits.unit and pool.counts[place, field.KEYS]:
        enter_units(fleet, pool, limits, r, place, cached)
        own = blocks_of(cached, limits.block) - pool.counts[place, field.SHARED] * limits.unit_blocks
        fleet.counts[r, field.FREE] += own
        release_units(fleet, pool, limits, r, place)
    else:
        fleet.counts[r, field.FREE] += blocks_of(cached, limits.block)


@compiled
def remove_decoding(fleet: Fleet, pool: Pool, limits: Limits, r: int, slot: int) -> None:
    """Free a decoding sequence's slot and blocks."""
    cached = fleet.slots[r, field.BASE, slot] + fleet.counts[r, field.COUNTER]
    free_blocks(fleet, pool, limits, r, fleet.slots[r, field.REQUEST, slot], cached)
    fleet.counts[r, field.CONTEXT] -= cached
    fleet.residues[r, fleet.slots[r, field.BASE, slot] % limits.block] -= 1
    last = fleet.counts[r, field.DECODING] - 1
    fleet.slots[r, field.REQUEST, slot] = fleet.slots[r, field.REQUEST, last]
    fleet.slots[r, field.BASE, slot] = fleet.slots[r, field.BASE, last]
    fleet.slots[r, field.END, slot] = fleet.slots[r, field.END, last]
    fleet.slots[r, field.BORN, slot] = fleet.slots[r, field.BORN, last]
    fleet.counts[r, field.DECODING] = last


@compiled
def remove_filling(fleet: Fleet, r: int, slot: int) -> None:
    """Free a filling sequence's slot, keeping the others in order; its blocks stay with the caller."""
    for i in range(slot, fleet.counts[r, field.FILLING] - 1):
        fleet.slots[r, field.FILL_REQUEST, i] = fleet.slots[r, field.FILL_REQUEST, i + 1]
        fleet.slots[r, field.FILL_CACHED, i] = fleet.slots[r, field.FILL_CACHED, i + 1]
        fleet.slots[r, field.FILL_LEFT, i] = fleet.slots[r, field.FILL_LEFT, i + 1]
        fleet.slots[r, field.FILL_CHUNK, i] = fleet.slots[r, field.FILL_CHUNK, i + 1]
        fleet.slots[r, field.FILL_BORN, i] = fleet.slots[r, field.FILL_BORN, i + 1]
    fleet.counts[r, field.FILLING] -= 1


@compiled
def swap(fleet: Fleet, limits: Limits, tally: Tally, r: int, blocks: int) -> None:
    """Blocks go to the memory of the host or come back, which the next step waits for."""
    fleet.clock[r, field.LINK_S] += blocks * limits.swap_s
    tally.totals[SWAPPED] += blocks


@compiled
def preempt_latest(fleet: Fleet, pool: Pool, limits: Limits, tally: Tally, r: int, now: float) -> None:
    """Put the sequence that was admitted last back to the front of the line; its cache is lost, or goes to the host."""
    latest, slot, is_filling = -1, -1, False
    for i in range(fleet.counts[r, field.DECODING]):
        if fleet.slots[r, field.BORN, i] > latest:
            latest, slot = fleet.slots[r, field.BORN, i], i
    for i in range(fleet.counts[r, field.FILLING]):
        if fleet.slots[r, field.FILL_BORN, i] > latest:
            latest, slot, is_filling = fleet.slots[r, field.FILL_BORN, i], i, True
    if is_filling:
        place = fleet.slots[r, field.FILL_REQUEST, slot]
        cached = fleet.slots[r, field.FILL_CACHED, slot]
        free_blocks(fleet, pool, limits, r, place, cached)
        remove_filling(fleet, r, slot)
    else:
        place = fleet.slots[r, field.REQUEST, slot]
        pool.counts[place, field.GENERATED] = pool.counts[place, field.OUTPUT] - (
            fleet.slots[r, field.END, slot] - fleet.counts[r, field.COUNTER]
        )
        pool.clock[place, field.LAST_S] = now
        cached = fleet.slots[r, field.BASE, slot] + fleet.counts[r, field.COUNTER]
        remove_decoding(fleet, pool, limits, r, slot)
    if limits.swap_s:
        pool.counts[place, field.HOSTED] = cached
        swap(fleet, limits, tally, r, blocks_of(cached, limits.block))
    whole = pool.counts[place, field.PROMPT] + pool.counts[place, field.OUTPUT]
    fleet.counts[r, field.COMMITTED] -= blocks_of(whole, limits.block)
    pool.counts[place, field.FOLLOWING] = fleet.counts[r, field.HEAD] if fleet.counts[r, field.QUEUED] else NONE
    if fleet.counts[r, field.QUEUED] == 0:
        fleet.counts[r, field.TAIL] = place
    fleet.counts[r, field.HEAD] = place
    fleet.counts[r, field.QUEUED] += 1
    tally.totals[PREEMPTED] += 1
