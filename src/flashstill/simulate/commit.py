"""Carry out the steps that a replica has planned, and count what they give."""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.drafting import accept_drafts
from flashstill.simulate.lines import push
from flashstill.simulate.prefix import evict
from flashstill.simulate.slots import blocks_of, free_blocks, growth, release, remove_decoding, remove_filling
from flashstill.simulate.state import Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import (
    CACHE,
    DONE,
    END_TO_END,
    GAP,
    GOOD,
    PART_SIZE,
    PARTS,
    PREFIX,
    QUEUED,
    RUNNING,
    TOKENS,
    TOKENS_OUT,
    TPOT,
    TTFT,
    WORKING,
    Tally,
    draw_line,
    draw_token,
    note,
    part_of,
)
from flashstill.simulate.times import decode_sum


@compiled
def commit(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, tally: Tally, r: int) -> int:
    """Carry out a replica's planned steps; returns the number of requests that they finished."""
    start, now, steps, count = (
        fleet.clock[r, field.STARTS],
        fleet.ends[r],
        fleet.counts[r, field.STEPS],
        fleet.counts[r, field.DECODING],
    )
    fleet.counts[r, field.STEPS] = 0
    part = min(int(tally.totals[DONE] // tally.totals[PART_SIZE]), PARTS - 1)
    filled = 0
    for slot in range(fleet.counts[r, field.FILLING]):
        filled += fleet.slots[r, field.FILL_CHUNK, slot]
    if steps:
        if filled == 0:
            mean = fleet.counts[r, field.CONTEXT] / count
            fleet.clock[r, field.JOULES] += decode_sum(tables.contexts, tables.decode_j[count], mean, steps)
        step_s = (now - start) / steps
        stalled = min(fleet.counts[r, field.STALLED], count)
        note(tally, GAP, part, fleet.clock[r, field.STALL_S] + step_s, stalled)
        note(tally, GAP, part, step_s, steps * count - stalled)
        fleet.clock[r, field.STALL_S], fleet.counts[r, field.STALLED] = 0.0, 0
        fleet.counts[r, field.FREE] -= growth(fleet, limits, r, steps)
        fleet.counts[r, field.CONTEXT] += steps * count
        fleet.counts[r, field.COUNTER] += steps
        tokens = steps * count
        if len(tables.accepted):
            tokens += accept_drafts(fleet, pool, tables, limits, r)
        if fleet.counts[r, field.IDLE]:
            evict(fleet, limits, tally, r, fleet.counts[r, field.FREE])
        tally.totals[TOKENS_OUT] += tokens
        draw_line(tally, TOKENS, start, now, tokens / (now - start))
    elif count:
        fleet.clock[r, field.STALL_S], fleet.counts[r, field.STALLED] = (
            fleet.clock[r, field.STALL_S] + now - start,
            count,
        )
    draw_line(tally, RUNNING, start, now, float(count + fleet.counts[r, field.FILLING]))
    queued = fleet.counts[r, field.QUEUED] + fleet.counts[r, field.LATE_QUEUED]
    draw_line(tally, QUEUED, start, now, float(queued))
    draw_line(tally, CACHE, start, now, float(limits.blocks - fleet.counts[r, field.FREE]))
    if limits.unit:
        draw_line(tally, PREFIX, start, now, float(fleet.counts[r, field.IDLE] * limits.unit_blocks))
    own_s = now - start if limits.ranks == 1 else fleet.clock[r, field.OWN_S]
    draw_line(tally, WORKING, start, now, own_s / (now - start))
    fleet.clock[r, field.BUSY_S] += own_s
    done, slot = 0, 0
    while steps and slot < fleet.counts[r, field.DECODING]:
        if fleet.slots[r, field.END, slot] == fleet.counts[r, field.COUNTER]:
            place = fleet.slots[r, field.REQUEST, slot]
            remove_decoding(fleet, pool, limits, r, slot)
            finish(fleet, pool, limits, tally, r, place, now)
            done += 1
        else:
            slot += 1
    return done + fill(fleet, pool, limits, tally, r, now)


@compiled
def fill(fleet: Fleet, pool: Pool, limits: Limits, tally: Tally, r: int, now: float) -> int:
    """Carry out the chunks of prompts; a prompt that is complete gives a token. Returns the requests finished."""
    done, slot = 0, 0
    while slot < fleet.counts[r, field.FILLING]:
        chunk = fleet.slots[r, field.FILL_CHUNK, slot]
        cached = fleet.slots[r, field.FILL_CACHED, slot]
        fleet.counts[r, field.FREE] -= blocks_of(cached + chunk, limits.block) - blocks_of(cached, limits.block)
        fleet.slots[r, field.FILL_CACHED, slot] = cached + chunk
        fleet.slots[r, field.FILL_LEFT, slot] -= chunk
        fleet.slots[r, field.FILL_CHUNK, slot] = 0
        if fleet.slots[r, field.FILL_LEFT, slot] > 0:
            slot += 1
            continue
        place, born, cached = (
            fleet.slots[r, field.FILL_REQUEST, slot],
            fleet.slots[r, field.FILL_BORN, slot],
            cached + chunk,
        )
        remove_filling(fleet, r, slot)
        left = pool.counts[place, field.OUTPUT] - pool.counts[place, field.GENERATED] - 1
        if limits.sends and left > 0:
            pool.clock[place, field.HELD_S] = now
            push(fleet.counts, pool, r, field.SEND_HEAD, place)
            fleet.counts[r, field.HELD] += 1
            continue
        give_token(pool, limits, tally, place, now)
        if left == 0:
            free_blocks(fleet, pool, limits, r, place, cached)
            finish(fleet, pool, limits, tally, r, place, now)
            done += 1
        else:
            start_decoding(fleet, pool, limits, r, place, born, cached)
    return done


@compiled
def give_token(pool: Pool, limits: Limits, tally: Tally, place: int, now: float) -> None:
    """Count the token that a complete prompt gives: the first one, or the next one after a preemption or failure."""
    part = part_of(tally, pool.counts[place, field.NUMBER])
    if np.isnan(pool.clock[place, field.FIRST_S]):
        pool.clock[place, field.FIRST_S] = now
        note(tally, TTFT, part, now - pool.clock[place, field.ARRIVAL_S] + limits.first_s, 1)
    else:
        note(tally, GAP, part, now - pool.clock[place, field.LAST_S], 1)
    pool.counts[place, field.GENERATED] += 1
    tally.totals[TOKENS_OUT] += 1
    draw_token(tally, now)


@compiled
def start_decoding(fleet: Fleet, pool: Pool, limits: Limits, r: int, place: int, born: int, cached: int) -> None:
    """Put a request into a slot, to decode from the next step on."""
    at = fleet.counts[r, field.DECODING]
    left = pool.counts[place, field.OUTPUT] - pool.counts[place, field.GENERATED]
    fleet.slots[r, field.REQUEST, at], fleet.slots[r, field.BORN, at] = place, born
    fleet.slots[r, field.BASE, at] = cached - fleet.counts[r, field.COUNTER]
    fleet.slots[r, field.END, at] = fleet.counts[r, field.COUNTER] + left
    fleet.residues[r, fleet.slots[r, field.BASE, at] % limits.block] += 1
    fleet.counts[r, field.CONTEXT] += cached
    fleet.counts[r, field.DECODING] += 1


@compiled
def finish(fleet: Fleet, pool: Pool, limits: Limits, tally: Tally, r: int, place: int, now: float) -> None:
    """Count a finished request and free its place."""
    part = part_of(tally, pool.counts[place, field.NUMBER])
    arrived, first, output = (
        pool.clock[place, field.ARRIVAL_S],
        pool.clock[place, field.FIRST_S],
        pool.counts[place, field.OUTPUT],
    )
    good = first - arrived + limits.first_s <= limits.ttft_s
    if output > 1:
        tpot = (now - first) / (output - 1)
        note(tally, TPOT, part, tpot, 1)
        good = good and tpot <= limits.tpot_s
    note(tally, END_TO_END, part, now - arrived + limits.first_s, 1)
    tally.totals[DONE] += 1
    tally.totals[GOOD] += 1 if good else 0
    fleet.counts[r, field.COMMITTED] -= blocks_of(pool.counts[place, field.PROMPT] + output, limits.block)
    release(fleet, pool, tally, r, place, now)
