"""Seconds and joules of an engine's steps, tabulated once per layout from the cost model (cost/phases.py).

    decode[b, s]     b sequences decode, each with s cached tokens
    extra[b, p, a]   added by p prompt tokens in the same step, each of which attends to a earlier tokens on average

A step's time is linear between the knots: exact in b up to `DENSE`, and within the knots' distance elsewhere.  Several
chunks in one step count as one of the same attention: of L_i tokens after P_i cached ones,

    p = sum L_i,    a = sum L_i (P_i + L_i / 2) / p

With drafts a decode step includes drafting, and verifies g + 1 tokens per sequence.  Where attention has replicas (dp)
that share experts, b, p and joules are of one replica: `alone` is a step in which the others have no tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.cost.phases import batch_step, mixed_step, verify_step
from flashstill.cost.speculation import verified_queries
from flashstill.parallel import Layout
from flashstill.plan.resolve import Resolved
from flashstill.plan.served import ServedSteps
from flashstill.workload import Chunks, Decoding, Quantity

Values = npt.NDArray[np.float64]
DENSE = 128
"""batches up to this one have a row each; above it every sixteenth, as GEMMs are tiled in sixteens"""
LEAST_TOKENS = 16.0
"""the first knot of prompt tokens and of contexts; further ones are a factor of two (tokens) or four thirds apart"""


class StepTables(NamedTuple):
    """Arrays for the event loop: seconds and joules of all chips of one replica.

    contexts [S], decode_s and decode_j [B + 1, S]: by decoding sequences 0..B and mean cached tokens.
    batches [K], tokens [P], attended [A], extra_s and extra_j [K, P, A]: by sequences, prompt tokens and mean attended.
    accepted [g]: probability that at least 1, 2, ... g drafts of a step are accepted; empty without drafts.
    alone_decode_s, alone_extra_s: as decode_s and extra_s, if only this replica of attention has tokens; else empty.
    """

    contexts: Values
    decode_s: Values
    decode_j: Values
    batches: Values
    tokens: Values
    attended: Values
    extra_s: Values
    extra_j: Values
    accepted: Values = np.zeros(0)
    alone_decode_s: Values = np.zeros((0, 0))
    alone_extra_s: Values = np.zeros((0, 0, 0))


def step_tables(resolved: Resolved, most_sequences: int, most_tokens: int, longest: int) -> StepTables:
    """Tables of a deployment's steps, up to `most_sequences` decoding, `most_tokens` prompt tokens in a step and
    contexts of `longest` tokens."""
    contexts = np.concatenate([[0.0], _spaced(4.0 / 3.0, float(longest))])
    rows = np.unique(
        np.concatenate([np.arange(1, min(DENSE, most_sequences) + 1), np.arange(DENSE, most_sequences, 16)])
    )
    rows = np.unique(np.append(rows, most_sequences)).astype(np.float64)
    batches = np.unique(
        [0.0, *(2.0**power for power in range(0, 20, 2) if 2.0**power < most_sequences), most_sequences]
    )
    tokens = np.unique([0.0, 1.0, *_spaced(2.0**0.5, float(most_tokens))])
    attended = np.concatenate([[0.0], _spaced(2.0, float(longest))])
    tokens, attended = _with_stage_knots(resolved, tokens, attended, most_tokens)
    decode_s, decode_j = _decode(resolved, resolved.layout, rows, contexts)
    extra_s, extra_j = _extra(resolved, resolved.layout, batches, tokens, attended, most_tokens)
    speculation, ranks = resolved.setup.speculation, ranks_of(resolved)
    tables = StepTables(
        contexts=contexts,
        decode_s=decode_s,
        decode_j=decode_j / ranks,
        batches=batches.astype(np.float64),
        tokens=tokens,
        attended=attended,
        extra_s=extra_s,
        extra_j=extra_j / ranks,
        accepted=np.zeros(0) if speculation is None else speculation.accepted_ratios,
    )
    if ranks == 1:
        return tables
    one = replace(resolved.layout, uneven=float(ranks))
    return tables._replace(
        alone_decode_s=_decode(resolved, one, rows, contexts)[0],
        alone_extra_s=_extra(resolved, one, batches, tokens, attended, most_tokens)[0],
    )


def _with_stage_knots(resolved: Resolved, tokens: Values, attended: Values, most_tokens: int) -> tuple[Values, Values]:
    """With knots where a pipeline's step jumps or bends (`extra_cost`), so that nothing is interpolated across: whole
    chunks, one token short of a full step, and either side of the mean that tells one prompt's chunks from several's.
    """
    pp = resolved.degrees.pp
    if pp == 1:
        return tokens, attended
    whole = most_tokens / pp * np.arange(1, pp + 1)
    half = most_tokens / pp * ranks_of(resolved) / 2.0
    sides = np.array([half, half + 0.25])
    return np.unique([*tokens, *whole, most_tokens - 1.0]), np.unique([*attended, *sides[sides < attended[-1]]])


def ranks_of(resolved: Resolved) -> int:
    """Replicas of attention that share experts, and so step together; 1 for a dense model."""
    return int(resolved.degrees.dp) if resolved.model.routed else 1


def _decode(resolved: Resolved, layout: Layout, rows: Values, contexts: Values) -> tuple[Values, Values]:
    """Seconds and joules of decode steps of every batch, [B + 1, S]; batches are of one replica of attention."""
    model, conditions, speculation = resolved.model, resolved.conditions, resolved.setup.speculation
    batch = rows[:, None] * ranks_of(resolved)
    step = batch_step(model, conditions, layout, batch, contexts[None, :], speculation)
    shape = (len(rows), len(contexts))
    seconds, joules = (_every_batch(rows, np.broadcast_to(each, shape)) for each in (step.seconds, step.total_joules))
    return seconds, joules


def with_served_steps(tables: StepTables, served: ServedSteps) -> StepTables:
    """The tables of a stack whose server was measured.

    Prompts alone in a step (batch 0) take its constant as well, and what the step takes beyond that which they add to
    one sequence's is the kernels': a step reads its weights once, whoever is in it.
    """
    if served.several_s:
        tables = _with_batch(tables, 2.0)  # so that what one sequence adds is not spread to more
    batch = np.arange(tables.decode_s.shape[0])[:, None]
    own_s = np.where(batch > 0, served.step_s + batch * served.sequence_s, 0.0) + np.where(
        batch > 1, served.several_s, 0.0
    )
    has_prompts, decoding = (tables.tokens > 0.0)[None, :, None], tables.batches[:, None, None]
    added_s = np.where(decoding == 0.0, served.step_s, 0.0) + np.where(decoding <= 1.0, served.several_s, 0.0)

    def decoded(seconds: Values) -> Values:
        changed_s: Values = served.kernel * seconds + own_s
        return changed_s

    def added(seconds: Values) -> Values:
        changed_s: Values = served.prompt * seconds + np.where(has_prompts, added_s, 0.0)
        changed_s += served.token_s * tables.tokens[None, :, None]
        changed_s[0] += (served.kernel - served.prompt) * (seconds[0] - seconds[1])
        return changed_s

    changed = tables._replace(decode_s=decoded(tables.decode_s), extra_s=added(tables.extra_s))
    if not len(tables.alone_decode_s):
        return changed
    return changed._replace(alone_decode_s=decoded(tables.alone_decode_s), alone_extra_s=added(tables.alone_extra_s))


def _with_batch(tables: StepTables, batch: float) -> StepTables:
    """The same tables with a knot at this number of sequences, if it lies between two knots."""
    after = int(np.searchsorted(tables.batches, batch))
    if after == len(tables.batches) or tables.batches[after] == batch:
        return tables
    before, beyond = tables.batches[after - 1], tables.batches[after]
    share = (batch - before) / (beyond - before)
    extras = {
        name: np.insert(extra, after, (1.0 - share) * extra[after - 1] + share * extra[after], axis=0)
        for name in ("extra_s", "extra_j", "alone_extra_s")
        if len(extra := getattr(tables, name))
    }
    return tables._replace(batches=np.insert(tables.batches, after, batch), **extras)


def _spaced(ratio: float, last: float) -> Values:
    """Whole numbers from `LEAST_TOKENS` to `last`, each about `ratio` times the one before."""
    count = max(int(np.ceil(np.log(last / LEAST_TOKENS) / np.log(ratio))), 0)
    inner = np.round(LEAST_TOKENS * ratio ** np.arange(count))
    return np.unique(np.append(inner[inner < last], last)).astype(np.float64)


def _every_batch(rows: Values, values: Values) -> Values:
    """[len(rows), S] -> [B + 1, S]: a row for every whole batch, by interpolation; row 0 is zero."""
    wanted = np.arange(int(rows[-1]) + 1, dtype=np.float64)
    table = np.stack([np.interp(wanted, rows, column) for column in values.T], axis=1)
    table[0] = 0.0
    return np.ascontiguousarray(table)


def _extra(
    resolved: Resolved, layout: Layout, batches: Values, tokens: Values, attended: Values, most_tokens: int
) -> tuple[Values, Values]:
    """Seconds and joules that prompt tokens add to a step of `batches` decoding sequences and at most `most_tokens`."""
    ranks, queries = ranks_of(resolved), verified_queries(resolved.setup.speculation)
    b, p, a = np.meshgrid(batches * ranks, tokens[1:] * ranks, attended, indexing="ij")
    mean = float(np.median(attended[attended > 0]))
    seconds, joules = extra_cost(
        resolved.model, resolved.conditions, layout, b, p, a, mean, most_tokens * ranks, queries
    )
    first = ((0, 0), (1, 0), (0, 0))
    # compiled code takes tables of one memory order
    return np.ascontiguousarray(np.pad(seconds, first)), np.ascontiguousarray(np.pad(joules, first))


def extra_cost(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    batches: Quantity,
    tokens: Quantity,
    attended: Quantity,
    context: float,
    most_tokens: Quantity,
    queries: float = 1.0,
) -> tuple[Values, Values]:
    """Seconds and joules that `tokens` prompt tokens, each attending to `attended` earlier ones, add to a step of
    `batches` sequences with `context` cached tokens and so many new ones each; quantities broadcast.

    most_tokens: of a step, at most.  An engine's prompts take `first_ratio` times their kernels, as in the closed
    form (cost/closed_form.py); in the time beyond these the chips wait.  A step of a pipeline is a round of its pp
    batches: the stages work on the prompts of all of them side by side, each goes through all stages, and none
    overtakes another, so that the round lasts as long as its fullest batch takes.  Of the chunks of one prompt, in
    batches that follow each other, the last of k leaves the pipeline k - 1 stages later, which only more chunks hide:
    those of a step that has no room left."""
    # one chunk of p tokens attends to p/2 of its own on average; less means several chunks of 2a tokens, more a past
    most = most_tokens / layout.pp
    length = np.clip(2.0 * attended, 1.0, np.minimum(tokens, most))
    past = np.maximum(attended - length / 2.0, 0.0)
    count = tokens / length / layout.dp
    longest = np.maximum(count / layout.pp, np.minimum(count, 1.0))  # chunks of the fullest of the pp batches
    chunks = Chunks(count=longest, length=length, past=past)
    local, decodes = layout.local_batch(batches), np.asarray(batches) > 0
    sequences = np.where(decodes, local, 0.0)
    decoding = Decoding(sequences=sequences, context=context, queries=queries)
    both = mixed_step(model, conditions, layout, decoding, chunks)
    alone = verify_step(model, conditions, layout, replace(decoding, sequences=local))
    seconds = both.seconds - np.where(decodes, alone.seconds, 0.0)
    joules = both.total_joules - np.where(decodes, alone.total_joules, 0.0)
    work_joules = both.work_joules - np.where(decodes, alone.work_joules, 0.0)  # of pp batches with `longest` each
    joules = joules - (1.0 - count / (longest * layout.pp)) * work_joules
    ends = (2.0 * attended > most) & (tokens < most_tokens - queries * np.asarray(batches))
    behind = np.where(ends, np.clip(count, 1.0, layout.pp) - 1.0, 0.0)
    ratio = conditions.software.first_ratio * (1.0 + behind / layout.pp)
    return ratio * seconds, joules + (ratio - 1.0) * seconds * conditions.chip.waiting_w * layout.chips
