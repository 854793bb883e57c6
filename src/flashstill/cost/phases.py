"""The steps of serving: a decode step (with drafting), the prefill of prompts, and a step that mixes both.

With drafts a step verifies g + 1 tokens per sequence (speculation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.chip_work import chip_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.overlap import two_batches
from flashstill.cost.prefills import in_sequence, prefill_passes
from flashstill.cost.speculation import Speculation, head_share, verified_queries
from flashstill.cost.step import StepCost, on_chips, step_cost
from flashstill.parallel import Layout, Sharded, remembered, shard, to_next_stages
from flashstill.workload import Chunks, Decoding, Quantity, decode, is_any, mixed, prefill


def batch_step(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    batch: Quantity,
    context: Quantity,
    speculation: Speculation | None = None,
    pue: float = 1.0,
) -> StepCost:
    """The decode step that every command prices: each of `batch` sequences on the whole layout gets its next token.

    Seconds are those of a token through all pipeline stages.  With fewer sequences than stages times replicas, some
    chips have no work (`working_share`) and spend static energy only.
    """
    step = decode_step(model, conditions, layout, layout.local_batch(batch), context, speculation, pue)
    return step.partly_empty(working_share(model, layout, batch))


def working_share(model: Architecture, layout: Layout, batch: Quantity) -> Quantity:
    """The share of a layout's stages and replicas that `batch` sequences or prompts keep busy.

    Sequences are assigned to replicas first, then to pipeline stages.  Attention replicas that share experts step
    together: as in the engines, one without a sequence computes a dummy token, so it counts as busy.
    """
    stages = np.minimum(np.maximum(batch / layout.dp, 1.0), layout.pp) / layout.pp
    return stages if model.routed else stages * np.minimum(batch / layout.dp, 1.0)


def decode_step(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    local_batch: Quantity,
    context: Quantity,
    speculation: Speculation | None = None,
    pue: float = 1.0,
) -> StepCost:
    """One decode step with `local_batch` sequences in every tensor-parallel group; drafting included."""
    decoding = Decoding(sequences=local_batch, context=context, queries=verified_queries(speculation))
    step = verify_step(model, conditions, layout, decoding, pue)
    return with_drafts(step, model, conditions, layout, local_batch, context, speculation, pue)


def with_drafts(
    step: StepCost,
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    local_batch: Quantity,
    context: Quantity,
    speculation: Speculation | None,
    pue: float = 1.0,
) -> StepCost:
    """The step that verifies drafts, with the drafting of its tokens before it."""
    if speculation is None:
        return step
    if speculation.draft is not None:
        small = speculation.draft
        drafting = shard(decode(small, local_batch, context, conditions.widths), layout)
        sequences = layout.each(local_batch)
        one = step_cost(
            conditions,
            drafting,
            layout.chips,
            overhead_seconds(small, conditions, sequences),
            pue,
            host_seconds(small, conditions),
        )
        one = with_sampling(one, small, conditions, sequences)
        return step.plus(one, float(speculation.tokens))
    return step.plus(step, speculation.tokens * head_share(model))


def verify_step(
    model: Architecture, conditions: Conditions, layout: Layout, decoding: Decoding, pue: float = 1.0
) -> StepCost:
    """A decode step of the model itself; drafting excluded."""
    sequences, queries = decoding.sequences, decoding.queries

    def part(share: float) -> Sharded:
        mine, how = sequences * share, (decoding.context, widths, queries, conditions.skew)
        return remembered(layout, lambda: decode(model, mine, *how), "decode", model, mine, *how)

    widths = conditions.widths
    overhead_s = overhead_seconds(model, conditions, layout.each(sequences))
    step = _in_batches(model, conditions, layout, part, overhead_s, pue, sequences=sequences)
    step = with_sampling(step, model, conditions, layout.each(sequences * queries))
    return with_sends(step, model, conditions, layout, layout.each(decoding.tokens))


def prefill_step(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    prompts: Quantity,
    length: Quantity,
    pue: float = 1.0,
    chunk: int | None = None,
    past: Quantity = 0.0,
) -> StepCost:
    """Prefill of `length` tokens of each of `prompts` prompts on every tensor-parallel group, at once or in chunks.

    past: tokens of each prompt before these, found in a cache; they are attended to.
    """

    def one(tokens: Quantity, past: Quantity) -> StepCost:
        def part(share: float) -> Sharded:
            mine, how = prompts * share, (tokens, widths, past, conditions.skew)
            return remembered(layout, lambda: prefill(model, mine, *how), "prefill", model, mine, *how)

        widths = conditions.widths
        every = layout.each(prompts)
        overhead_s = overhead_seconds(model, conditions, every)
        step = _in_batches(model, conditions, layout, part, overhead_s, pue, prompts=prompts)
        step = with_sampling(step, model, conditions, every)
        return with_sends(step, model, conditions, layout, every * tokens)

    passes = prefill_passes(length, chunk, past)
    return in_sequence([one(each.length, each.past) for each in passes], passes)


def mixed_step(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    decoding: Decoding,
    chunks: Chunks,
    pue: float = 1.0,
) -> StepCost:
    """One step of every tensor-parallel group that decodes sequences and prefills chunks of prompts together.

    Weights are read once.  Without chunks it equals `decode_step`, without decoding sequences `prefill_step`.
    """

    def part(share: float) -> Sharded:
        mine = replace(decoding, sequences=decoding.sequences * share)
        theirs = replace(chunks, count=chunks.count * share)
        how = (widths, conditions.skew)
        depends = [getattr(each, name) for each in (mine, theirs) for name in each.__slots__]
        return remembered(layout, lambda: mixed(model, mine, theirs, *how), "mixed", model, *depends, *how)

    widths = conditions.widths
    overhead_s = overhead_seconds(model, conditions, layout.each(decoding.sequences + chunks.count))
    mine = decoding.sequences
    step = _in_batches(model, conditions, layout, part, overhead_s, pue, sequences=mine, prompts=chunks.tokens)
    step = with_sampling(step, model, conditions, layout.each(decoding.tokens + chunks.count))
    return with_sends(step, model, conditions, layout, layout.each(decoding.tokens + chunks.tokens))


def _in_batches(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    part: Callable[[float], Sharded],
    overhead_s: Quantity,
    pue: float,
    sequences: Quantity = 0.0,
    prompts: Quantity = 0.0,
) -> StepCost:
    """A step, with two-batch overlap in two halves where it has two sequences or any prompt, whose tokens suffice.

    part: that share of its work.  sequences: those that decode.  prompts: their number, or that of their tokens.
    """
    units, host_s = conditions.overlap_units_ratio, host_seconds(model, conditions)
    if units is None:
        return step_cost(conditions, part(1.0), layout.chips, overhead_s, pue, host_s)
    again_s = overhead_s + block_seconds(model, conditions)
    fills = np.asarray(layout.each(prompts)) > 0
    halves = two_batches(conditions, part(0.5), layout.chips, again_s, pue, np.where(fills, units, 0.0))
    splits = fills | (np.asarray(layout.each(sequences)) >= 2.0)
    if np.all(splits):
        return halves
    return step_cost(conditions, part(1.0), layout.chips, overhead_s, pue).where(splits, halves)


def sends(model: Architecture, conditions: Conditions, layout: Layout, tokens: Quantity) -> StepCost:
    """Cost of sending the activations of `tokens` tokens from stage to stage of a pipeline.

    Each further stage is a step of the engine of its own: its workers take the input, start the graph and pass it on.
    """
    exchanges = to_next_stages(layout, model.width, tokens)
    overhead_s = conditions.software.step_s * (np.asarray(layout.pp) - 1.0)
    return step_cost(conditions, Sharded(operations=(), exchanges=exchanges), layout.chips, overhead_s)


def with_sends(
    step: StepCost, model: Architecture, conditions: Conditions, layout: Layout, tokens: Quantity
) -> StepCost:
    """The step with its `tokens` tokens sent from stage to stage; the step itself where there is one stage."""
    if not is_any(np.asarray(layout.pp) > 1):
        return step
    return step.plus(sends(model, conditions, layout, tokens))


def overhead_seconds(model: Architecture, conditions: Conditions, sequences: Quantity) -> Quantity:
    """Software seconds of a step, in which the chip waits: per step, per block and per sequence."""
    software = conditions.software
    return software.step_s + block_seconds(model, conditions) + software.sequence_s * sequences


def block_seconds(model: Architecture, conditions: Conditions) -> float:
    """Software seconds of all blocks of a step, which two micro-batches need twice."""
    software = conditions.software
    return software.launch_ratio * software.layer_s * (model.depth + software.norm_ratio * model.norm_pairs)


def host_seconds(model: Architecture, conditions: Conditions) -> Quantity:
    """Seconds in which the host launches the kernels of a step one by one; 0 where graphs are recorded."""
    software, launch_s = conditions.software, np.asarray(conditions.software.launch_s)
    if not launch_s.any():
        return 0.0
    routed = sum(layer.count for layer in model.layers if layer.ffn.experts)
    launches = software.step_launches + software.block_launches * model.depth
    launches = launches + software.norm_launches * model.norm_pairs + software.expert_launches * routed
    return software.launch_s * launches


def with_sampling(step: StepCost, model: Architecture, conditions: Conditions, tokens: Quantity) -> StepCost:
    """The step, followed by sorting the logits of `tokens` tokens if they are sampled by top-k or top-p."""
    if not conditions.sampled:
        return step
    work = chip_work(conditions, sampling_s=conditions.software.logit_s * model.vocabulary * tokens)
    return step.plus(on_chips(conditions, work, step.chips))
