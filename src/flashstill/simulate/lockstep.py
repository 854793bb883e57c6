"""Replicas of attention that share experts (attention-DP) step together: each step lasts as long as its busiest rank.

Every rank has sequences, blocks and prompts of its own.  In a step, rank r would need

    t_r = w T_r + (1 - w) A_r,    w = (u - 1/n) / (1 - 1/n),    u = tokens of all / (n times the most tokens of one)

with T_r if all n ranks had its load, A_r if the others had no tokens (tables.py): its attention is its own, and the
experts' share grows with the tokens of all.  The step is the largest t_r.  A rank without requests computes a dummy
token, as in vLLM and SGLang.  A jump of decode steps ends before any rank has something to decide, and before another
rank becomes the busiest one, so that it is the sum of its steps.
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.settings import Settings
from flashstill.simulate.state import Fleet, Limits
from flashstill.simulate.tables import StepTables, Values
from flashstill.simulate.times import decode_sum, decode_value, extra_value, knot_before, steps_until


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
def mixed_row(tables: StepTables, count: int, share: float) -> Values:
    """Seconds of a decode step of `count` sequences on a rank, by context."""
    row: Values = share * tables.decode_s[count] + (1.0 - share) * tables.alone_decode_s[count]
    return row


@compiled
def one_step_s(fleet: Fleet, tables: StepTables, r: int, share: float) -> float:
    """Seconds that the planned step (the first one of a jump) would take on one rank."""
    seconds, count = 0.0, fleet.counts[r, field.DECODING] if fleet.counts[r, field.STEPS] else 0
    if count:
        seconds += decode_value(tables.contexts, mixed_row(tables, count, share), mean_context(fleet, r))
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
    if steps > 1:
        row = mixed_row(tables, fleet.counts[busiest, field.DECODING], share)
        longest = decode_sum(tables.contexts, row, mean_context(fleet, busiest), steps)
    for r in range(first, first + limits.ranks):
        fleet.ends[r] = now + longest
        if fleet.counts[r, field.STEPS] > 1:
            row = mixed_row(tables, fleet.counts[r, field.DECODING], share)
            fleet.clock[r, field.OWN_S] = decode_sum(tables.contexts, row, mean_context(fleet, r), steps)
            fleet.counts[r, field.STEPS] = steps


@compiled
def steps_of_the_busiest(
    fleet: Fleet, tables: StepTables, limits: Limits, first: int, busiest: int, steps: int, share: float
) -> int:
    """Decode steps, up to `steps`, in which the busiest rank stays so: all are linear in them between two knots."""
    contexts, last = tables.contexts, len(tables.contexts) - 2
    value, slope = 0.0, 0.0
    for turn in range(limits.ranks):
        r = busiest if turn == 0 else first + turn - 1 if first + turn - 1 < busiest else first + turn
        if fleet.counts[r, field.STEPS] == 0:
            continue
        mean, row = mean_context(fleet, r), mixed_row(tables, fleet.counts[r, field.DECODING], share)
        i = knot_before(contexts, mean)
        if i < last:
            steps = min(steps, max(int(np.ceil(contexts[i + 1] - mean)), 1))
        own_slope = (row[i + 1] - row[i]) / (contexts[i + 1] - contexts[i])
        own_value = row[i] + own_slope * (mean - contexts[i])
        if turn == 0:
            value, slope = own_value, own_slope
        elif own_slope > slope:
            steps = min(steps, int((value - own_value) / (own_slope - slope)) + 1)
    return steps


@compiled
def jump_of(fleet: Fleet, settings: Settings, r: int) -> tuple[Values, float, int]:
    """Of a replica's decode steps: seconds of one by context, mean context of the first, and their number (0: there are
    none, or prompts share the only one). They are those of the busiest of the replicas that step together."""
    tables, limits, first = settings.tables, settings.limits, first_rank(settings, r)
    if r < settings.prefills or (limits.ranks == 1 and fleet.counts[r, field.STEPS] < 2):
        return tables.decode_s[0], 0.0, 0
    if limits.ranks == 1:
        return (
            tables.decode_s[fleet.counts[r, field.DECODING]],
            mean_context(fleet, r),
            int(fleet.counts[r, field.STEPS]),
        )
    share, busiest, longest, steps = even_share(fleet, tables, limits, first), first, 0.0, 0
    for rank in range(first, first + limits.ranks):
        if fleet.counts[rank, field.STEPS]:
            seconds = one_step_s(fleet, tables, rank, share)
            steps = int(fleet.counts[rank, field.STEPS])
            if seconds > longest:
                busiest, longest = rank, seconds
    if steps < 2:
        return tables.decode_s[0], 0.0, 0
    row = mixed_row(tables, fleet.counts[busiest, field.DECODING], share)
    return row, mean_context(fleet, busiest), steps


@compiled
def steps_done(fleet: Fleet, settings: Settings, r: int, now: float) -> int:
    """Steps of a replica's jump that have ended before now."""
    row, mean, steps = jump_of(fleet, settings, r)
    if steps == 0:
        return 0
    return steps_until(settings.tables.contexts, row, mean, steps, now - fleet.clock[r, field.STARTS]) - 1


@compiled
def cut_jump(fleet: Fleet, settings: Settings, r: int, now: float) -> None:
    """End a jump at the end of the step that runs now; nothing else that is planned is changed."""
    row, mean, steps = jump_of(fleet, settings, r)
    if steps == 0:
        return
    tables, first = settings.tables, first_rank(settings, r)
    start = fleet.clock[r, field.STARTS]
    steps = steps_until(tables.contexts, row, mean, steps, now - start)
    share = 1.0 if settings.limits.ranks == 1 else even_share(fleet, tables, settings.limits, first)
    end = start + decode_sum(tables.contexts, row, mean, steps)
    for rank in range(first, first + settings.limits.ranks):
        fleet.ends[rank] = end
        if fleet.counts[rank, field.STEPS]:
            fleet.counts[rank, field.STEPS] = steps
            if settings.limits.ranks > 1:
                own = mixed_row(tables, fleet.counts[rank, field.DECODING], share)
                fleet.clock[rank, field.OWN_S] = decode_sum(tables.contexts, own, mean_context(fleet, rank), steps)
