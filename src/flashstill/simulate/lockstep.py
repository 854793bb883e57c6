"""Replicas of attention that share experts (attention-DP) step together: each step lasts as long as its busiest rank.

Every rank has sequences, blocks and prompts of its own.  In a step, rank r would need

    t_r = w T_r + (1 - w) A_r,    w = (u - 1/n) / (1 - 1/n),    u = tokens of all / (n times the most tokens of one)

with T_r if all n ranks had its load, A_r if the others had no tokens (tables.py): its attention is its own, and the
experts' share grows with the tokens of all.  The step is the largest t_r.  A rank without requests computes a dummy
token, as in vLLM and SGLang.  A jump of decode steps ends before any rank has something to decide, before another
rank becomes the busiest one, and before any mean context passes a knot of the tables, so that it is the sum of its
steps, and of each rank's row only the two entries around its mean context are needed.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.ahead import last_begins
from flashstill.simulate.compiled import compiled
from flashstill.simulate.settings import Settings
from flashstill.simulate.state import Fleet, Limits
from flashstill.simulate.tables import StepTables
from flashstill.simulate.times import Pair, decode_sum, decode_value, extra_value, knot_before, steps_until


@compiled
def first_rank(settings: Settings, r: int) -> int:
    """The first of the replicas that step with this one; prefill replicas step alone."""
    if r < settings.prefills:
        return r
    return r - (r - settings.prefills) % settings.limits.ranks


@compiled
def prompts_planned(fleet: Fleet, r: int) -> tuple[int, float]:
    """Prompt tokens of a rank's planned step, and tokens times those that they attend to."""
    prompt, work = 0, 0.0
    for slot in range(fleet.counts[r, field.FILLING]):
        chunk = fleet.slots[r, field.FILL_CHUNK, slot]
        prompt += chunk
        work += chunk * (fleet.slots[r, field.FILL_CACHED, slot] + chunk / 2.0)
    return prompt, work


@compiled
def even_share(fleet: Fleet, tables: StepTables, limits: Limits, first: int) -> float:
    """The weight w of the planned steps of ranks `first` and following: 1 if all have as many tokens, 0 if only one."""
    total, most = 0, 1
    for r in range(first, first + limits.ranks):
        tokens = prompts_planned(fleet, r)[0]
        if fleet.counts[r, field.STEPS]:
            tokens += fleet.counts[r, field.DECODING] * (len(tables.accepted) + 1)
        total += tokens
        most = max(most, tokens)
    least = 1.0 / limits.ranks
    return max((total / most * least - least) / (1.0 - least), 0.0)


@compiled
def mean_context(fleet: Fleet, r: int) -> float:
    """Mean cached tokens of the sequences that decode; there is at least one."""
    return float(fleet.counts[r, field.CONTEXT] / fleet.counts[r, field.DECODING])


@compiled
def mixed_pair(tables: StepTables, count: int, context: float, share: float) -> tuple[Pair, Pair]:
    """The two knots around a context, and seconds of a decode step of `count` sequences on a rank at them."""
    knots, all_s, alone_s = tables.contexts, tables.decode_s, tables.alone_decode_s
    i = knot_before(knots, context)
    first_s = share * all_s[count, i] + (1.0 - share) * alone_s[count, i]
    next_s = share * all_s[count, i + 1] + (1.0 - share) * alone_s[count, i + 1]
    return (knots[i], knots[i + 1]), (first_s, next_s)


@compiled
def one_step_s(fleet: Fleet, tables: StepTables, r: int, share: float) -> float:
    """Seconds that the planned step (the first one of a jump) would take on one rank."""
    seconds, count = 0.0, fleet.counts[r, field.DECODING] if fleet.counts[r, field.STEPS] else 0
    if count:
        mean = mean_context(fleet, r)
        knots, pair = mixed_pair(tables, count, mean, share)
        seconds += decode_value(knots, pair, mean)
    prompt, work = prompts_planned(fleet, r)
    if prompt:
        for weight, table in ((share, tables.extra_s), (1.0 - share, tables.alone_extra_s)):
            seconds += weight * extra_value(
                tables.batches, tables.tokens, tables.attended, table, float(count), float(prompt), work / prompt
            )
    return seconds


@compiled
def step_together(fleet: Fleet, tables: StepTables, limits: Limits, first: int, now: float) -> None:
    """Give ranks that have each planned by themselves one step, or one jump, of the same length."""
    share, busiest, longest, steps = even_share(fleet, tables, limits, first), first, 0.0, field.ALL
    for r in range(first, first + limits.ranks):
        if fleet.ends[r] == np.inf:
            fleet.clock[r, field.OWN_S] = 0.0
            continue
        seconds = one_step_s(fleet, tables, r, share)
        fleet.clock[r, field.OWN_S] = seconds
        steps = min(steps, max(fleet.counts[r, field.STEPS], 1))
        if seconds > longest:
            busiest, longest = r, seconds
    if longest == 0.0:
        return
    if steps > 1:
        steps = steps_of_the_busiest(fleet, tables, limits, first, busiest, steps, share)
    begun = now
    if steps > 1:
        mean = mean_context(fleet, busiest)
        knots, pair = mixed_pair(tables, fleet.counts[busiest, field.DECODING], mean, share)
        longest = decode_sum(knots, pair, mean, steps)
        begun = last_begins(limits, knots, pair, mean, steps, now)
    for r in range(first, first + limits.ranks):
        fleet.ends[r], fleet.clock[r, field.BEGUN_S] = now + longest, begun
        if fleet.counts[r, field.STEPS] > 1:
            mean = mean_context(fleet, r)
            knots, pair = mixed_pair(tables, fleet.counts[r, field.DECODING], mean, share)
            fleet.clock[r, field.OWN_S] = decode_sum(knots, pair, mean, steps)
            fleet.counts[r, field.STEPS] = steps


@compiled
def steps_of_the_busiest(
    fleet: Fleet, tables: StepTables, limits: Limits, first: int, busiest: int, steps: int, share: float
) -> int:
    """Decode steps, up to `steps`, in which the busiest rank stays so: all are linear in them between two knots."""
    value, slope, last_knot = 0.0, 0.0, tables.contexts[-1]
    for turn in range(limits.ranks):
        r = busiest if turn == 0 else first + turn - 1 if first + turn - 1 < busiest else first + turn
        if fleet.counts[r, field.STEPS] == 0:
            continue
        mean = mean_context(fleet, r)
        knots, pair = mixed_pair(tables, fleet.counts[r, field.DECODING], mean, share)
        if knots[1] < last_knot:
            steps = min(steps, max(int(np.ceil(knots[1] - mean)), 1))
        own_slope = (pair[1] - pair[0]) / (knots[1] - knots[0])
        own_value = pair[0] + own_slope * (mean - knots[0])
        if turn == 0:
            value, slope = own_value, own_slope
        elif own_slope > slope:
            steps = min(steps, int((value - own_value) / (own_slope - slope)) + 1)
    return steps


@compiled
def jump_of_ranks(fleet: Fleet, settings: Settings, r: int) -> tuple[Pair, Pair, float, int]:
    """Of the decode steps of replicas that step together: the two knots, seconds of one of the busiest at them, mean
    context of the first, and their number (below 2: prompts share the only one, or there are none)."""
    tables, limits, first = settings.tables, settings.limits, first_rank(settings, r)
    share, busiest, longest, steps = even_share(fleet, tables, limits, first), first, 0.0, 0
    for rank in range(first, first + limits.ranks):
        if fleet.counts[rank, field.STEPS]:
            seconds = one_step_s(fleet, tables, rank, share)
            steps = int(fleet.counts[rank, field.STEPS])
            if seconds > longest:
                busiest, longest = rank, seconds
    count = int(fleet.counts[busiest, field.DECODING])
    mean = mean_context(fleet, busiest) if count else 0.0
    knots, pair = mixed_pair(tables, count, mean, share)
    return knots, pair, mean, steps


@compiled
def is_jump(fleet: Fleet, settings: Settings, r: int) -> bool:
    """Whether the planned steps of a replica that steps alone may be cut short: several, and none with a prompt."""
    return bool(r >= settings.prefills and fleet.counts[r, field.STEPS] > 1)


@compiled
def steps_done(fleet: Fleet, settings: Settings, r: int, now: float) -> int:
    """Steps of a replica's jump that have ended before now."""
    since = now - fleet.clock[r, field.STARTS]
    if r >= settings.prefills and settings.limits.ranks > 1:
        return steps_of_ranks(fleet, settings, r, since) - 1
    if not is_jump(fleet, settings, r):
        return 0
    row, steps = settings.tables.decode_s[fleet.counts[r, field.DECODING]], int(fleet.counts[r, field.STEPS])
    return steps_until(settings.tables.contexts, row, mean_context(fleet, r), steps, since) - 1


@compiled
def planned_together(fleet: Fleet, settings: Settings, r: int) -> int:
    """Decode steps that replicas which step together have planned; below 2 they do not jump."""
    first, steps = first_rank(settings, r), 0
    for rank in range(first, first + settings.limits.ranks):
        steps = max(steps, int(fleet.counts[rank, field.STEPS]))
    return steps


@compiled
def steps_of_ranks(fleet: Fleet, settings: Settings, r: int, seconds: float) -> int:
    """The fewest steps of a jump of replicas that step together that take so long; 1 if they do not jump."""
    if planned_together(fleet, settings, r) < 2:
        return 1
    knots, pair, mean, steps = jump_of_ranks(fleet, settings, r)
    return steps_until(knots, pair, mean, steps, seconds) if steps > 1 else 1


@compiled
def cut_jump(fleet: Fleet, settings: Settings, r: int, now: float) -> None:
    """End a jump at the end of the step that runs now; nothing else that is planned is changed."""
    if r >= settings.prefills and settings.limits.ranks > 1:
        cut_jump_of_ranks(fleet, settings, r, now)
    elif is_jump(fleet, settings, r):
        tables, start, mean = settings.tables, fleet.clock[r, field.STARTS], mean_context(fleet, r)
        row = tables.decode_s[fleet.counts[r, field.DECODING]]
        steps = steps_until(tables.contexts, row, mean, int(fleet.counts[r, field.STEPS]), now - start)
        fleet.counts[r, field.STEPS] = steps
        fleet.ends[r] = start + decode_sum(tables.contexts, row, mean, steps)
        fleet.clock[r, field.BEGUN_S] = last_begins(settings.limits, tables.contexts, row, mean, steps, start)


@compiled
def cut_jump_of_ranks(fleet: Fleet, settings: Settings, r: int, now: float) -> None:
    """The same for replicas that step together."""
    if planned_together(fleet, settings, r) < 2:
        return
    knots, pair, mean, steps = jump_of_ranks(fleet, settings, r)
    if steps < 2:
        return
    tables, first = settings.tables, first_rank(settings, r)
    start = fleet.clock[r, field.STARTS]
    steps = steps_until(knots, pair, mean, steps, now - start)
    share = even_share(fleet, tables, settings.limits, first)
    end = start + decode_sum(knots, pair, mean, steps)
    begun = last_begins(settings.limits, knots, pair, mean, steps, start)
    for rank in range(first, first + settings.limits.ranks):
        fleet.ends[rank], fleet.clock[rank, field.BEGUN_S] = end, begun
        if fleet.counts[rank, field.STEPS]:
            fleet.counts[rank, field.STEPS] = steps
            mean = mean_context(fleet, rank)
            knots, pair = mixed_pair(tables, fleet.counts[rank, field.DECODING], mean, share)
            fleet.clock[rank, field.OWN_S] = decode_sum(knots, pair, mean, steps)
