"""The steps of serving: a decode step (with drafting), the prefill of prompts, and a step that mixes both.

Speculation (Leviathan et al. 2023, equation 1): with g drafted tokens, each accepted with probability a,
E = (1 - a^(g+1)) / (1 - a) tokens per step, and the step verifies g + 1 tokens per sequence.  Heads that draft from
their own drafts (MTP, EAGLE) are accepted less at each further position: a_i = a d^(i-1), E = 1 + sum of a_1 ... a_i.
Where acceptance was measured, the a_i are those of the record (evaluate/drafts).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost.chip_work import chip_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.overlap import two_batches
from flashstill.cost.prefills import in_sequence, prefill_passes
from flashstill.cost.step import StepCost, on_chips, step_cost
from flashstill.parallel import Layout, Sharded, remembered, shard, to_next_stages
from flashstill.workload import Chunks, Decoding, Quantity, decode, mixed, prefill


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """Speculative decoding: `tokens` drafted per step, the first of them accepted with probability `acceptance`.

    decay: factor of the acceptance from one position to the next; 1 if all positions are alike.  measured: acceptance
    at each position given that all before it were accepted, at least `tokens` of them, in place of both; empty if there
    is none.
    draft: a smaller model that drafts; None for the model's own heads, each of one block and the LM head.
    """

    tokens: int
    acceptance: float
    decay: float = 1.0
    draft: Architecture | None = None
    measured: tuple[float, ...] = ()

    @property
    def tokens_per_step(self) -> float:
        """Expected tokens per step: accepted drafts + 1.

        A draft counts if all before it are accepted as well: 1 + sum over i of the product of the first i acceptances.
        """
        rate = self.acceptance
        if self.decay != 1.0 or self.measured:
            return float(1.0 + np.sum(self.accepted_ratios))
        if rate >= 1.0:
            return self.tokens + 1.0
        return (1.0 - rate ** (self.tokens + 1)) / (1.0 - rate)

    @property
    def accepted_ratios(self) -> npt.NDArray[np.float64]:
        """Probability that at least 1, 2, ... `tokens` drafts of a step are accepted."""
        if self.measured:
            products: npt.NDArray[np.float64] = np.multiply.accumulate(np.asarray(self.measured[: self.tokens]))
            return products
        place = np.arange(1.0, self.tokens + 1.0)
        ratios: npt.NDArray[np.float64] = self.acceptance**place * self.decay ** (place * (place - 1.0) / 2.0)
        return ratios


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
    stages = np.clip(batch / layout.dp, 1.0, layout.pp) / layout.pp
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
        one = step_cost(conditions, drafting, layout.chips, overhead_seconds(small, conditions, sequences), pue)
        one = with_sampling(one, small, conditions, sequences)
        return step.plus(one, float(speculation.tokens))
    return step.plus(step, speculation.tokens * head_share(model))


def verified_queries(speculation: Speculation | None) -> float:
    """New tokens per sequence in a step: the next token and the drafted ones."""
    return speculation.tokens + 1.0 if speculation else 1.0


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
    units = conditions.overlap_units_ratio
    if units is None:
        return step_cost(conditions, part(1.0), layout.chips, overhead_s, pue)
    again_s = overhead_s + block_seconds(model, conditions)
    fills = np.asarray(layout.each(prompts)) > 0
    halves = two_batches(conditions, part(0.5), layout.chips, again_s, pue, np.where(fills, units, 0.0))
    splits = fills | (np.asarray(layout.each(sequences)) >= 2.0)
    if np.all(splits):
        return halves
    return step_cost(conditions, part(1.0), layout.chips, overhead_s, pue).where(splits, halves)


def head_share(model: Architecture) -> float:
    """Cost of a drafting head as a share of a step: one block and one more LM head.

    The heads of DeepSeek-V3 (2024, section 2.2) and of EAGLE have this form.
    """
    return 1.0 / model.depth + model.vocabulary * model.width / model.active_parameters


def sends(model: Architecture, conditions: Conditions, layout: Layout, tokens: Quantity) -> StepCost:
    """Cost of sending the activations of `tokens` tokens from stage to stage of a pipeline."""
    exchanges = to_next_stages(layout, model.width, tokens)
    return step_cost(conditions, Sharded(operations=(), exchanges=exchanges), layout.chips)


def with_sends(
    step: StepCost, model: Architecture, conditions: Conditions, layout: Layout, tokens: Quantity
) -> StepCost:
    """The step with its `tokens` tokens sent from stage to stage; the step itself where there is one stage."""
    if not np.any(np.asarray(layout.pp) > 1):
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


def with_sampling(step: StepCost, model: Architecture, conditions: Conditions, tokens: Quantity) -> StepCost:
    """The step, followed by sorting the logits of `tokens` tokens if they are sampled by top-k or top-p."""
    if not conditions.sampled:
        return step
    work = chip_work(conditions, sampling_s=conditions.software.logit_s * model.vocabulary * tokens)
    return step.plus(on_chips(conditions, work, step.chips))
