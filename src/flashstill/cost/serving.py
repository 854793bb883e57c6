"""Serving in closed form: time per output token, time to first token, throughput and energy at a fixed concurrency.

    T_d   seconds of a decode step of b sequences with S = isl + osl/2 cached tokens
    T_p   seconds of a separate prefill of c prompts: those that arrive in one step, b/osl, within the token budget
    T_m   seconds of a mixed step: b sequences decode and c prompts, or a chunk of each, are prefilled (mixed_step.py)
    s     = interference (b-1)/((osl-1)/E) pieces/c  prefill passes that delay each decode step,  m = min(s, 1)
    tpot  = (T_d + draft steps + m (T_m - T_d) + (s - m) T_p / pieces) / E,  E = E[tokens per step]
    ttft  = first T_p + queue (b-1)/c T_p + queueing for a free slot if more requests are in flight than fit

A request decodes for (osl-1)/E steps.  Meanwhile each of the b-1 other requests is prefilled once on average: in mixed
steps, which read the weights once for both, and, if there are more prefills than decode steps, in separate steps.
`interference` is the share of these prefills that delays the request's decoding; it is a property of the engine's
scheduler, as are `first` and `queue`.
With osl = 1 nothing is decoded: tpot is 0, and ttft is the total latency.
Requests hold isl + osl/2 cached tokens on average, which limits how many run at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import most_sequences
from flashstill.cost.phases import Speculation, batch_step, mixed_step, prefill_step, verified_queries, verify_step
from flashstill.cost.step import StepCost
from flashstill.parallel import Layout
from flashstill.workload import Chunks, Decoding, Quantity

PREFILL_TOKENS = 8192
"""the token budget of one prefill pass; the engines' default on large GPUs"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Token lengths, requests in flight, and the most prompt tokens per prefill pass (None: whole prompts)."""

    isl: Quantity
    osl: Quantity
    concurrency: Quantity
    chunk: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """Step costs that the closed form needs. Joules are of all chips, host and facility excluded.

    step_s: a decode step of all sequences, drafting included.
    mixed_...: the additional cost of a decode step that also prefills `prompts` prompts, or a chunk of each.
    pass_...: a separate prefill of `prompts` prompts.
    mixed_... and pass_... assume work on every stage of every replica; ..._timed_joules is their static energy.
    """

    step_s: Quantity
    step_joules: Quantity
    mixed_s: Quantity
    mixed_joules: Quantity
    mixed_timed_joules: Quantity
    pass_s: Quantity
    pass_joules: Quantity
    pass_timed_joules: Quantity
    prompts: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Rates from the closed form. tpot_s: 0 if osl is 1, as there is no token after the first."""

    tpot_s: Quantity
    ttft_s: Quantity
    output_tokens_per_s: Quantity
    joules_per_output_token: Quantity
    watts_per_chip: Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving(Pace):
    """Rates with the two steps behind them. batch: sequences running at once on the whole layout; 0 if none fits."""

    batch: Quantity
    decode: StepCost
    prefill: StepCost


def serve(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    load: Load,
    speculation: Speculation | None = None,
    pue: float = 1.0,
) -> Serving:
    """Price `load` served on `layout`; quantities broadcast. Joules exclude host and facility."""
    alone, fitting = capacity(model, conditions, layout, load, speculation)
    batch = np.minimum(load.concurrency, np.maximum(fitting, 1.0))
    local = layout.local_batch(batch)
    step = batch_step(model, conditions, layout, batch, load.isl + load.osl / 2.0, speculation, pue)
    prompts = prompts_together(load, local)
    passed = prefill_step(model, conditions, layout, prompts, load.isl, pue, load.chunk)
    decoding = Decoding(sequences=local, context=load.isl + load.osl / 2.0, queries=verified_queries(speculation))
    mixed = mixed_step(model, conditions, layout, decoding, chunks_of(load, prompts), pue)
    verified = verify_step(model, conditions, layout, decoding, pue)
    paces = Paces(
        step_s=step.seconds,
        step_joules=step.total_joules,
        mixed_s=mixed.seconds - verified.seconds,
        mixed_joules=mixed.total_joules - verified.total_joules,
        mixed_timed_joules=mixed.timed_joules - verified.timed_joules,
        pass_s=passed.seconds,
        pass_joules=passed.total_joules,
        pass_timed_joules=passed.timed_joules,
        prompts=prompts,
    )
    pace = closed_form(conditions, layout, load, batch, paces, speculation)
    return Serving(
        tpot_s=pace.tpot_s,
        ttft_s=pace.ttft_s,
        output_tokens_per_s=pace.output_tokens_per_s,
        joules_per_output_token=pace.joules_per_output_token,
        watts_per_chip=pace.watts_per_chip,
        batch=np.where(alone >= 1.0, batch, 0.0),
        decode=step,
        prefill=passed,
    )


def capacity(
    model: Architecture, conditions: Conditions, layout: Layout, load: Load, speculation: Speculation | None = None
) -> tuple[Quantity, Quantity]:
    """Sequences that fit at full length, and at mean length; memory of a draft model is included."""
    draft = speculation.draft if speculation else None
    alone = most_sequences(model, conditions, layout, load.isl + load.osl, draft)
    return alone, most_sequences(model, conditions, layout, load.isl + load.osl / 2.0, draft)


def pieces_of(load: Load) -> Quantity:
    """Number of chunks in which a prompt is prefilled."""
    pieces: Quantity = 1.0 if load.chunk is None else np.ceil(load.isl / load.chunk)
    return pieces


def chunks_of(load: Load, prompts: Quantity) -> Chunks:
    """The chunks of `prompts` prompts in one step: one each, with the average number of tokens before it."""
    length = load.isl / pieces_of(load)
    return Chunks(count=prompts, length=length, past=(load.isl - length) / 2.0)


def prompts_together(load: Load, local: Quantity) -> Quantity:
    """Prompts per prefill pass of one tensor-parallel group: those that arrive in a step, within the token budget."""
    prompts: Quantity = np.clip(local / load.osl, 1.0, np.maximum(PREFILL_TOKENS / load.isl, 1.0))
    return prompts


def closed_form(
    conditions: Conditions,
    layout: Layout,
    load: Load,
    batch: Quantity,
    paces: Paces,
    speculation: Speculation | None = None,
) -> Pace:
    """Rates of `batch` sequences on the whole layout from the costs of decode, mixed and prefill steps."""
    software = conditions.software
    local = layout.local_batch(batch)
    prompt_s = paces.pass_s / paces.prompts
    steps = load.osl - 1.0
    drafted = speculation.tokens_per_step if speculation else 1.0
    waits = software.interference_ratio * np.maximum(np.minimum(local * layout.pp, batch) - 1.0, 0.0)
    pieces = pieces_of(load)
    prefills = waits / (np.maximum(steps, 1.0) / drafted) * pieces / paces.prompts
    joined = np.minimum(prefills, 1.0)
    tpot = (paces.step_s + joined * paces.mixed_s + (prefills - joined) / pieces * paces.pass_s) / drafted
    started = software.first_ratio * paces.pass_s + software.queue_ratio * (local - 1.0) * prompt_s
    # Requests with one output token wait for prefills only: those of all requests ahead in the queue.
    started = np.where(steps > 0, started, np.maximum(started, local * prompt_s))
    stay = started + steps * tpot
    rate = batch * load.osl / stay
    decoding = paces.step_joules / batch * (steps / drafted)
    mixed = np.where((prefills > 0) & (steps > 0), joined / np.maximum(prefills, 1e-30), 0.0)
    spent = mixed * pieces * paces.mixed_joules + (1.0 - mixed) * paces.pass_joules
    timed = mixed * pieces * paces.mixed_timed_joules + (1.0 - mixed) * paces.pass_timed_joules
    # A prefill spends work on the prompts of every stage, but its duration delays only the stages of its own replica.
    prompts = paces.prompts * np.minimum(batch, layout.dp)
    working = (spent - timed) / (paces.prompts * layout.pp * layout.dp)
    joules = (decoding + working + timed / prompts) / load.osl
    return Pace(
        tpot_s=np.where(steps > 0, tpot, 0.0),
        ttft_s=started + np.maximum(load.concurrency / batch - 1.0, 0.0) * stay,
        output_tokens_per_s=rate,
        joules_per_output_token=joules,
        watts_per_chip=np.minimum(joules * rate / layout.chips, conditions.chip.power_limit_w),
    )
