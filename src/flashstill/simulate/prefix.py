"""The prefix cache of a replica: blocks of finished sequences stay until their memory is needed (vLLM's automatic
prefix caching, SGLang's radix cache).

    unit          the tokens that one key stands for: a hash block of the trace, or a larger cache block
    key           names a unit and all tokens before it, so that equal keys mean equal prefixes
    hit           the longest prefix of cached whole units; at least one token of a prompt is always computed
    reference     one for each running sequence that holds the unit; its blocks then count once for all of them
    idle          a unit that nobody holds: its blocks count as free, and the least recently used goes first

A sequence's units are entered when the step that computes them is planned, so that requests of the same step share
them.  They are released from the last to the first, so that a prefix outlives what builds on it.  Where two sequences
compute the same unit at once, the second copy is freed at once (as SGLang does; vLLM keeps it until the sequence ends).

The table of a replica holds entries linked in order of use, and a chain of entries for each bucket.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled, with_arrays
from flashstill.simulate.state import (
    BUCKET,
    CHAINED,
    KEY,
    NEWER,
    NONE,
    OLDER,
    REFERENCES,
    Counts,
    Fleet,
    Limits,
    Pool,
)
from flashstill.simulate.tally import EVICTED, Tally


@compiled
def bucket_of(key: int, size: int) -> int:
    """Bucket of a key in a table of `size` places, a power of two; one step of Park and Miller's generator."""
    return int(key % 2147483647 * 48271 % 2147483647 & (size - 1))


@compiled
def entry_of(fleet: Fleet, r: int, key: int) -> int:
    """The entry of a key in a replica's table, or NONE."""
    entry = fleet.prefix[r, BUCKET, bucket_of(key, fleet.prefix.shape[2])]
    while entry != NONE and fleet.prefix[r, KEY, entry] != key:
        entry = fleet.prefix[r, CHAINED, entry]
    return int(entry)


@compiled
def unlink(fleet: Fleet, r: int, entry: int) -> None:
    """Take an entry out of the idle ones."""
    older, newer = fleet.prefix[r, OLDER, entry], fleet.prefix[r, NEWER, entry]
    if older == NONE:
        fleet.counts[r, field.OLDEST] = newer
    else:
        fleet.prefix[r, NEWER, older] = newer
    if newer == NONE:
        fleet.counts[r, field.NEWEST] = older
    else:
        fleet.prefix[r, OLDER, newer] = older
    fleet.counts[r, field.IDLE] -= 1


@compiled
def evict(fleet: Fleet, limits: Limits, tally: Tally, r: int, free: int) -> None:
    """Drop the least recently used idle units until the others fit into `free` blocks."""
    while fleet.counts[r, field.IDLE] * limits.unit_blocks > free:
        entry = fleet.counts[r, field.OLDEST]
        unlink(fleet, r, entry)
        at = bucket_of(fleet.prefix[r, KEY, entry], fleet.prefix.shape[2])
        if fleet.prefix[r, BUCKET, at] == entry:
            fleet.prefix[r, BUCKET, at] = fleet.prefix[r, CHAINED, entry]
        else:
            before = fleet.prefix[r, BUCKET, at]
            while fleet.prefix[r, CHAINED, before] != entry:
                before = fleet.prefix[r, CHAINED, before]
            fleet.prefix[r, CHAINED, before] = fleet.prefix[r, CHAINED, entry]
        fleet.prefix[r, CHAINED, entry] = fleet.counts[r, field.UNUSED]
        fleet.counts[r, field.UNUSED] = entry
        tally.totals[EVICTED] += limits.unit_blocks


@compiled
def cached_units(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, tokens: int) -> tuple[int, int]:
    """Whole units of a request's first `tokens` tokens that a replica has cached, and how many of them are idle.

    At least one of the tokens is left to compute.
    """
    first = pool.counts[place, field.KEYS_AT]
    most = min(pool.counts[place, field.KEYS], (tokens - 1) // limits.unit)
    units, idle = 0, 0
    while units < most:
        entry = entry_of(fleet, r, pool.keys[first + units])
        if entry == NONE:
            break
        idle += 1 if fleet.prefix[r, REFERENCES, entry] == 0 else 0
        units += 1
    return units, idle


@compiled
def cached_tokens(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int) -> int:
    """Tokens of a waiting request that need not be computed on a replica, as its cache is now."""
    if pool.counts[place, field.HOSTED]:
        return int(pool.counts[place, field.HOSTED])
    if limits.unit == 0 or pool.counts[place, field.KEYS] == 0:
        return int(pool.counts[place, field.CACHED])
    tokens = pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED]
    return int(cached_units(fleet, pool, limits, r, place, tokens)[0] * limits.unit)


@compiled
def take(fleet: Fleet, limits: Limits, r: int, entry: int) -> None:
    """One more sequence holds a unit."""
    if fleet.prefix[r, REFERENCES, entry] == 0:
        unlink(fleet, r, entry)
        fleet.counts[r, field.FREE] -= limits.unit_blocks
    fleet.prefix[r, REFERENCES, entry] += 1


@compiled
def take_units(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, units: int) -> None:
    """A request that starts holds its first cached units."""
    first = pool.counts[place, field.KEYS_AT]
    for i in range(units):
        take(fleet, limits, r, entry_of(fleet, r, pool.keys[first + i]))
    pool.counts[place, field.SHARED] = units


@compiled
def enter_units(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, context: int) -> None:
    """Make a sequence's own whole units within its first `context` tokens known to others; a second copy is freed."""
    first = pool.counts[place, field.KEYS_AT]
    most = min(pool.counts[place, field.KEYS], context // limits.unit)
    for i in range(pool.counts[place, field.SHARED], most):
        key = pool.keys[first + i]
        entry = entry_of(fleet, r, key)
        if entry == NONE:
            entry = fleet.counts[r, field.UNUSED]
            fleet.counts[r, field.UNUSED] = fleet.prefix[r, CHAINED, entry]
            at = bucket_of(key, fleet.prefix.shape[2])
            fleet.prefix[r, KEY, entry], fleet.prefix[r, REFERENCES, entry] = key, 1
            fleet.prefix[r, CHAINED, entry] = fleet.prefix[r, BUCKET, at]
            fleet.prefix[r, BUCKET, at] = entry
        else:
            take(fleet, limits, r, entry)
            fleet.counts[r, field.FREE] += limits.unit_blocks
        pool.counts[place, field.SHARED] = i + 1


@compiled
def release_units(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int) -> None:
    """A sequence ends or is preempted: nobody may hold its units any more; the last one becomes idle first."""
    first = pool.counts[place, field.KEYS_AT]
    for i in range(pool.counts[place, field.SHARED] - 1, -1, -1):
        entry = entry_of(fleet, r, pool.keys[first + i])
        fleet.prefix[r, REFERENCES, entry] -= 1
        if fleet.prefix[r, REFERENCES, entry] == 0:
            newest = fleet.counts[r, field.NEWEST]
            fleet.prefix[r, OLDER, entry], fleet.prefix[r, NEWER, entry] = newest, NONE
            if newest == NONE:
                fleet.counts[r, field.OLDEST] = entry
            else:
                fleet.prefix[r, NEWER, newest] = entry
            fleet.counts[r, field.NEWEST] = entry
            fleet.counts[r, field.IDLE] += 1
            fleet.counts[r, field.FREE] += limits.unit_blocks
    pool.counts[place, field.SHARED] = 0


@compiled
def forget(fleet: Fleet, r: int) -> None:
    """A replica whose memory is lost: its table is empty. No sequence may hold a unit of it."""
    size = fleet.prefix.shape[2]
    fleet.prefix[r, BUCKET] = NONE
    for entry in range(size):
        fleet.prefix[r, CHAINED, entry] = entry + 1 if entry + 1 < size else NONE
    fleet.counts[r, field.IDLE] = 0
    fleet.counts[r, field.OLDEST] = fleet.counts[r, field.NEWEST] = NONE
    fleet.counts[r, field.UNUSED] = 0 if size else NONE


@with_arrays  # two tables might overlap, so that Numba copies the part that it assigns
def rehash(old: Counts, new: Counts) -> None:
    """Copy a table [6, S] into a larger one of which nothing is used."""
    size, larger = old.shape[1], new.shape[1]
    new[:BUCKET, :size] = old[:BUCKET]
    new[BUCKET] = NONE
    for at in range(size):
        entry = old[BUCKET, at]
        while entry != NONE:
            following = old[CHAINED, entry]
            to = bucket_of(old[KEY, entry], larger)
            new[CHAINED, entry] = new[BUCKET, to]
            new[BUCKET, to] = entry
            entry = following


def with_larger_tables(fleet: Fleet) -> Fleet:
    """The same replicas with room for twice as many units."""
    replicas, columns, size = fleet.prefix.shape
    prefix = np.full((replicas, columns, 2 * size), NONE, dtype=np.int64)
    prefix[:, REFERENCES] = 0
    for r in range(replicas):
        rehash(fleet.prefix[r], prefix[r])
        prefix[r, CHAINED, size:] = np.append(np.arange(size + 1, 2 * size), fleet.counts[r, field.UNUSED])
        fleet.counts[r, field.UNUSED] = size
    return fleet._replace(prefix=prefix)
