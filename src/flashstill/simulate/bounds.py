"""SLO-aware scheduling: requests that can still keep their bound on TTFT, and prompt tokens that keep that on TPOT.

A waiting request is too late if, started now, its first token comes after the bound: it prefills behind the prompts
that have begun, in steps of the budget B, beside the sequences that decode,

    now + (n // B) T(B) + T(n mod B) + first_s - arrival > ttft_s      n: prompt tokens left of those and of its own

Deadline-aware admission of this kind is that of QLM (Patke et al. 2024) and of SCORPIO (Tang et al. 2025); the budget
that keeps a step within a bound, that of Sarathi-Serve (Agrawal et al. 2024, section 4.3), found in every step anew.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.prefix import cached_tokens
from flashstill.simulate.slots import enqueue, release
from flashstill.simulate.state import NONE, TURNED_DOWN, Fleet, Limits, Pool
from flashstill.simulate.tables import StepTables
from flashstill.simulate.tally import TOO_LATE, Tally
from flashstill.simulate.times import decode_value, extra_value


@compiled
def step_seconds(tables: StepTables, count: int, mean: float, prompt: int, attended: float) -> float:
    """One step: `count` sequences decode at a mean context, and prompt tokens attend to so many others on average."""
    seconds = 0.0
    if count:
        seconds = decode_value(tables.contexts, tables.decode_s[count], mean)
    if prompt:
        seconds += extra_value(
            tables.batches, tables.tokens, tables.attended, tables.extra_s, float(count), float(prompt), attended
        )
    return seconds


@compiled
def prompt_work(fleet: Fleet, pool: Pool, limits: Limits, r: int, budget: int) -> tuple[int, float]:
    """Prompt tokens, and tokens times those that they attend to, of a step with this budget and enough memory."""
    left, prompt, work = budget, 0, 0.0
    for slot in range(fleet.counts[r, field.FILLING]):
        chunk = min(fleet.slots[r, field.FILL_LEFT, slot], left)
        left -= chunk
        prompt += chunk
        work += chunk * (fleet.slots[r, field.FILL_CACHED, slot] + chunk / 2.0)
    place = fleet.counts[r, field.HEAD] if fleet.counts[r, field.QUEUED] else NONE
    while left > 0 and place != NONE:
        cached = cached_tokens(fleet, pool, limits, r, place)
        chunk = min(pool.counts[place, field.PROMPT] + pool.counts[place, field.GENERATED] - cached, left)
        left -= chunk
        prompt += chunk
        work += chunk * (cached + chunk / 2.0)
        place = pool.counts[place, field.FOLLOWING]
    return prompt, work


@compiled
def budget_within(fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, r: int, most: int) -> int:
    """The most prompt tokens, up to `most`, with which a step beside all decoding sequences keeps tpot_s."""
    count = fleet.counts[r, field.DECODING]
    if most <= 0 or limits.tpot_s == np.inf:
        return most
    mean = fleet.counts[r, field.CONTEXT] / count
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        prompt, work = prompt_work(fleet, pool, limits, r, middle)
        if prompt == 0 or step_seconds(tables, count, mean, prompt, work / prompt) <= limits.tpot_s:
            low = middle
        else:
            high = middle - 1
    return int(low)


@compiled
def is_too_late(
    fleet: Fleet, pool: Pool, tables: StepTables, limits: Limits, r: int, place: int, budget: int, now: float
) -> bool:
    """Whether a request that has not begun would get its first token after ttft_s even if it started now."""
    if not np.isnan(pool.clock[place, field.LAST_S]):
        return False
    count, cached = fleet.counts[r, field.DECODING], cached_tokens(fleet, pool, limits, r, place)
    own = pool.counts[place, field.PROMPT] - cached
    total = own
    for slot in range(fleet.counts[r, field.FILLING]):
        total += fleet.slots[r, field.FILL_LEFT, slot]
    mean = fleet.counts[r, field.CONTEXT] / count if count else 0.0
    attended = cached + own / 2.0
    whole, rest = total // budget, total % budget
    seconds = 0.0
    if whole:
        seconds += whole * step_seconds(tables, count, mean, budget, attended)
    if rest:
        seconds += step_seconds(tables, count, mean, rest, attended)
    return bool(now - pool.clock[place, field.ARRIVAL_S] + seconds + limits.first_s > limits.ttft_s)


@compiled
def sort_out_late(
    fleet: Fleet,
    pool: Pool,
    tables: StepTables,
    limits: Limits,
    tally: Tally,
    r: int,
    budget: int,
    now: float,
) -> None:
    """Take requests that are too late off the head of the line; one of them goes on where there is no other."""
    while fleet.counts[r, field.QUEUED]:
        place = fleet.counts[r, field.HEAD]
        if pool.counts[place, field.LATE] or not is_too_late(fleet, pool, tables, limits, r, place, budget, now):
            return
        fleet.counts[r, field.HEAD] = pool.counts[place, field.FOLLOWING]
        fleet.counts[r, field.QUEUED] -= 1
        if limits.late == TURNED_DOWN:
            tally.totals[TOO_LATE] += 1
            release(fleet, pool, tally, r, place, now)
            continue
        pool.counts[place, field.LATE] = 1
        pool.counts[place, field.FOLLOWING] = NONE
        if fleet.counts[r, field.LATE_QUEUED] == 0:
            fleet.counts[r, field.LATE_HEAD] = place
        else:
            pool.counts[fleet.counts[r, field.LATE_TAIL], field.FOLLOWING] = place
        fleet.counts[r, field.LATE_TAIL] = place
        fleet.counts[r, field.LATE_QUEUED] += 1
    if fleet.counts[r, field.LATE_QUEUED]:
        place = fleet.counts[r, field.LATE_HEAD]
        fleet.counts[r, field.LATE_HEAD] = pool.counts[place, field.FOLLOWING]
        fleet.counts[r, field.LATE_QUEUED] -= 1
        enqueue(fleet, pool, r, place)
