"""Serving in closed form: time per output token, time to first token, throughput and energy at a fixed concurrency.

    T_d   a decode step of b sequences with S = isl + osl/2 cached tokens
    T_p   the prefill of one prompt, in groups that the arrival of b/osl prompts a step allows
    tpot  = (T_d + draft steps) / E[tokens a step] + interference (b-1)/(osl-1) T_p
    ttft  = first T_p + queue (b-1) T_p + waiting for a place, where more are asked for than fit

A request decodes osl - 1 steps, during which each of the b-1 others is prefilled once on average: `interference` is the
share of that work that its decoding waits for, a property of the engine's scheduler, as are `first` and `queue`.
Requests hold isl + osl/2 tokens of cache on average, which is how many of them run at a time.
Speculation (Leviathan et al. 2023, equation 1): with g drafted tokens accepted with rate a,
E = (1 - a^(g+1)) / (1 - a) tokens a step, and the step verifies g + 1 tokens a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.fits import most_sequences
from flashstill.cost.setting import Setting
from flashstill.cost.step import StepCost, step_cost
from flashstill.parallel import Exchange, Layout, Sharded, shard
from flashstill.workload import Quantity, decode, prefill

PREFILL_TOKENS = 8192
"""the token budget of one prefill pass; engines default to it on large GPUs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speculation:
    """Drafting `tokens` ahead, each accepted with rate `acceptance`.

    draft: a smaller model that drafts; None for heads on the model itself, each costing `head_share` of a step.
    """

    tokens: int
    acceptance: float
    draft: Architecture | None = None
    head_share: float = 0.02

    @property
    def tokens_per_step(self) -> float:
        """E[accepted + 1]."""
        rate = self.acceptance
        if rate >= 1.0:
            return self.tokens + 1.0
        return (1.0 - rate ** (self.tokens + 1)) / (1.0 - rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked for: lengths and the number of requests in flight."""

    isl: Quantity
    osl: Quantity
    concurrency: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    """The answer. batch: sequences that run at the same time, on the whole layout; 0 where nothing fits."""

    tpot_s: Quantity
    ttft_s: Quantity
    batch: Quantity
    output_tokens_per_s: Quantity
    joules_per_output_token: Quantity
    watts_per_chip: Quantity
    decode: StepCost
    prefill: StepCost


def serve(
    model: Architecture,
    setting: Setting,
    layout: Layout,
    load: Load,
    speculation: Speculation | None = None,
    pue: float = 1.0,
) -> Serving:
    """Serving `load` on `layout`; quantities broadcast. Joules at the chips, without host and building."""
    software = setting.software
    alone = most_sequences(model, setting, layout, load.isl + load.osl)
    fitting = most_sequences(model, setting, layout, load.isl + load.osl / 2.0)
    batch = np.minimum(load.concurrency, np.maximum(fitting, 1.0))
    local = layout.local_batch(batch)
    step = decode_step(model, setting, layout, local, load.isl + load.osl / 2.0, speculation, pue)
    group = np.clip(local / load.osl, 1.0, np.maximum(PREFILL_TOKENS / load.isl, 1.0))
    passed = prefill_step(model, setting, layout, group, load.isl, pue)
    prompt_s = passed.seconds / group
    steps = np.maximum(load.osl - 1.0, 1.0)
    drafted = speculation.tokens_per_step if speculation else 1.0
    tpot = step.seconds / drafted + software.interference_ratio * (local * layout.pp - 1.0) / steps * prompt_s
    started = software.first_ratio * passed.seconds + software.queue_ratio * (local - 1.0) * prompt_s
    stay = started + steps * tpot
    ttft = started + np.maximum(load.concurrency / batch - 1.0, 0.0) * stay
    rate = batch * load.osl / stay
    per_request = (
        step.total_joules / (local * layout.pp * layout.dp) * steps / drafted + passed.total_joules / group / layout.dp
    )
    joules = per_request / load.osl
    return Serving(
        tpot_s=tpot,
        ttft_s=ttft,
        batch=np.where(alone >= 1.0, batch, 0.0),
        output_tokens_per_s=rate,
        joules_per_output_token=joules,
        watts_per_chip=np.minimum(joules * rate / layout.chips, setting.chip.power_limit_w),
        decode=step,
        prefill=passed,
    )


def decode_step(
    model: Architecture,
    setting: Setting,
    layout: Layout,
    local_batch: Quantity,
    context: Quantity,
    speculation: Speculation | None = None,
    pue: float = 1.0,
) -> StepCost:
    """One decode step of every tensor-parallel group with `local_batch` sequences each; drafting included."""
    queries = speculation.tokens + 1.0 if speculation else 1.0
    operations = decode(model, local_batch, context, setting.precisions.widths, queries, setting.skew)
    sharded = _staged(model, layout, shard(operations, layout), local_batch * queries)
    step = step_cost(setting, sharded, layout.chips, _overhead_s(model, setting, local_batch, queries), pue)
    if speculation is None:
        return step
    if speculation.draft is not None:
        small = speculation.draft
        drafting = shard(decode(small, local_batch, context, setting.precisions.widths), layout)
        one = step_cost(setting, drafting, layout.chips, _overhead_s(small, setting, local_batch), pue)
        return _plus(step, one, float(speculation.tokens))
    return _plus(step, step, speculation.tokens * speculation.head_share)


def prefill_step(
    model: Architecture, setting: Setting, layout: Layout, prompts: Quantity, length: Quantity, pue: float = 1.0
) -> StepCost:
    """One pass of `prompts` whole prompts on every tensor-parallel group."""
    operations = prefill(model, prompts, length, setting.precisions.widths, skew=setting.skew)
    sharded = _staged(model, layout, shard(operations, layout), prompts * length)
    return step_cost(setting, sharded, layout.chips, _overhead_s(model, setting, prompts), pue)


def _overhead_s(model: Architecture, setting: Setting, sequences: Quantity, queries: float = 1.0) -> Quantity:
    """What the software adds to a pass: for the step, for every block, sequence and, where tokens are drawn, logit."""
    software = setting.software
    blocks = model.depth + software.norm_ratio * model.norm_pairs
    drawn = software.logit_s * model.vocabulary * queries if setting.sampled else 0.0
    return software.step_s + software.layer_s * blocks + (software.sequence_s + drawn) * sequences


def _staged(model: Architecture, layout: Layout, sharded: Sharded, tokens: Quantity) -> Sharded:
    """With the sends from stage to stage of a pipeline."""
    if not np.any(np.asarray(layout.pp) > 1):
        return sharded
    hop = Exchange(
        name="to the next stage",
        kind="send",
        count=layout.pp - 1.0,
        bytes=tokens * model.width * 2.0 / layout.tp,
        group=np.where(np.asarray(layout.pp) > 1, 2.0, 1.0),
        tier="stage",
    )
    return Sharded(operations=sharded.operations, exchanges=(*sharded.exchanges, hop))


def _plus(step: StepCost, other: StepCost, times: float) -> StepCost:
    """The cost of a step and of `times` others after it."""
    return StepCost(
        seconds=step.seconds + times * other.seconds,
        joules={level: step.joules[level] + times * other.joules[level] for level in step.joules},
        shares_s={name: step.shares_s[name] + times * other.shares_s[name] for name in step.shares_s},
        macs=step.macs + times * other.macs,
        chips=step.chips,
        wall_ratio=step.wall_ratio,
    )
