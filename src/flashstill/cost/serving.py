"""Serving in closed form: time per output token, time to first token, throughput and energy at a fixed concurrency.

    T_d   seconds of a decode step of b sequences with S = isl + osl/2 cached tokens
    T_p   seconds of a separate prefill of c prompts: those that arrive in one step, b/osl, within the token budget
    T_m   seconds of a mixed step: b sequences decode and c prompts, or a chunk of each, are prefilled (mixed_step.py)
    B     burst share: the part of all requests that arrives at once (Load.burst_share)
    s     = interference (b-1)(1 - B/2)/((osl-1)/E) pieces/(c pp)  prefill passes that delay each decode step: of pp
            stages each does its part of one, and of others at the same time
    n     = min(s, interference) where prompts join decode steps, else s;  q = (s - n) T_p / pieces
    m     = min(n, 1) pp / (1 + min(n, 1) (pp - 1)): what follows a pass in a pipeline cannot overtake it (load.py)
    w     = m (T_m - T_d) + (n - min(n, 1)) T_p / pieces where prompts join,
            else max(n T_p / pieces, m (T_p / pieces - T_d))
    tpot  = (T_d + draft steps + w) / E,  E = E[tokens per step]
    ttft  = first_s + (1 + batching steps) step + first T_p + max(first ((1-B) W + B Q), (osl-1) q / E)
            + waiting for memory

A request decodes for (osl-1)/E steps.  Meanwhile each of the b-1 other requests is prefilled once on average: in mixed
steps, which read the weights once for both, and, if the engine never mixes, in separate steps.  If there are more
prefills than decode steps, an engine that mixes still decodes in every step, with one pass of prompts beside it, so
that the others (q) keep requests from starting, not from going on.  Of requests that come together, each is delayed by
half of the others only.  `interference`, the delay by another's prefill, is the engine's, as are `first` and
`first_s`, which grows with the blocks of experts where an engine launches the kernels of a prompt one by one: they add
to the first token, and to the time per token nothing that measurements show.

The first token waits for the step that runs when the request arrives (step), for its own prefill, and for prefills
ahead.  With a share u of the time spent on prefills, a request finds W = u T_p / (2 (1-u)) of them left to do (M/D/1,
Pollaczek-Khinchine), and never more than those of all others.  In a burst, c prompts are prefilled k at a time within
the token budget, so that the mean request waits for Q = ((c+k)/2 - 1) T_p / c beyond its own.

With osl = 1 nothing is decoded: tpot is 0, and ttft is the total latency.
Requests hold isl + osl/2 cached tokens on average, and more where an engine reserves memory for tokens to come.  As
they are at different points of their answers, the number n that fits varies, so that some of c wait before all memory
is taken: E[max(c - n, 0)] = w ln(1 + exp((c - n)/w)) for n of a logistic distribution with scale w.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import held_tokens, most_sequences
from flashstill.cost.load import (
    Load,
    chunks_of,
    delay_seconds,
    delaying_prompts,
    other_requests,
    passes_of,
    pieces_of,
    prefilling_stages,
    prompts_of_a_pass,
    prompts_together,
)
from flashstill.cost.phases import with_drafts, working_share
from flashstill.cost.prefills import in_sequence, prefill_passes
from flashstill.cost.speculation import Speculation, verified_queries
from flashstill.cost.step import StepCost
from flashstill.cost.together import steps_together
from flashstill.parallel import Layout
from flashstill.workload import Chunks, Decoding, Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """Step costs that the closed form needs. Joules are of all chips, host and facility excluded.

    step_s: a decode step of all sequences, drafting included.
    mixed_...: the additional cost of a decode step that also prefills `prompts` prompts, or a chunk of each.
    pass_...: a separate prefill of `prompts` prompts.
    mixed_... and pass_... assume work on every stage of every replica; ..._timed_joules is their static energy.
    cacheless_s: seconds of that separate prefill, if nothing had been found in a cache; None: nothing was.
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
    cacheless_s: Quantity | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Rates from the closed form. tpot_s: 0 if osl is 1, as there is no token after the first.

    input_share, cached_share: of the seconds that requests take of the chips, what computed prompt tokens cause, and
    what attention to those found in a cache adds; decode steps cause the others.
    """

    tpot_s: Quantity
    ttft_s: Quantity
    output_tokens_per_s: Quantity
    joules_per_output_token: Quantity
    watts_per_chip: Quantity
    input_share: Quantity
    cached_share: Quantity


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
    context = load.isl + load.osl / 2.0
    prompts = prompts_together(conditions, load, local)
    decoding = Decoding(sequences=local, context=context, queries=verified_queries(speculation))
    together, passes = chunks_of(load, prompts), prefill_passes(load.computed, load.chunk, load.cached)
    uncached = prefill_passes(load.computed, load.chunk) if np.any(load.cached) else []
    steps = [(decoding, replace(together, count=0.0)), (decoding, together)]
    nothing = replace(decoding, sequences=0.0)
    steps += [(nothing, Chunks(count=prompts, length=one.length, past=one.past)) for one in (*passes, *uncached)]
    verified, mixed, *prefills = steps_together(model, conditions, layout, steps, pue)
    whole = with_drafts(verified, model, conditions, layout, local, context, speculation, pue)
    step = whole.partly_empty(working_share(model, layout, batch))
    passed = in_sequence(prefills[: len(passes)], passes)
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
        cacheless_s=in_sequence(prefills[len(passes) :], uncached).seconds if uncached else None,
    )
    running = running_requests(conditions, load, fitting)
    pace = closed_form(conditions, layout, load, batch, paces, speculation, running)
    return Serving(
        tpot_s=pace.tpot_s,
        ttft_s=pace.ttft_s,
        output_tokens_per_s=pace.output_tokens_per_s,
        joules_per_output_token=pace.joules_per_output_token,
        watts_per_chip=pace.watts_per_chip,
        input_share=pace.input_share,
        cached_share=pace.cached_share,
        batch=np.where(alone >= 1.0, running, 0.0),
        decode=step,
        prefill=passed,
    )


def capacity(
    model: Architecture, conditions: Conditions, layout: Layout, load: Load, speculation: Speculation | None = None
) -> tuple[Quantity, Quantity]:
    """Sequences that fit at full length, and at the mean length held; memory of a draft model is included."""
    draft = speculation.draft if speculation else None
    longest = load.isl + load.osl
    held = held_tokens(conditions, load.isl + load.osl / 2.0, longest)
    alone = most_sequences(model, conditions, layout, longest, draft)
    return alone, most_sequences(model, conditions, layout, held, draft)


def running_requests(conditions: Conditions, load: Load, fitting: Quantity) -> Quantity:
    """Mean number of requests that run at once, of those in flight, if `fitting` fit on average.

    Each holds isl + osl/2 tokens with a standard deviation of osl/sqrt(12); those of a burst are in phase.  The
    expected number that waits is that of a logistic distribution with the same standard deviation.
    """
    fitting = np.maximum(fitting, 1.0)
    free = 1.0 - conditions.software.reserved_ratio  # memory reserved at admission does not vary
    relative = free * load.osl / 12.0**0.5 / (load.isl + load.osl / 2.0)
    others = np.maximum(np.minimum(load.concurrency, fitting) - 1.0, 0.0)
    deviation = relative * np.sqrt(others * (1.0 - load.burst_share) + others**2 * load.burst_share)
    scale = np.maximum(deviation * 3.0**0.5 / np.pi, 1e-9)
    waiting = scale * np.logaddexp(0.0, (load.concurrency - fitting) / scale)
    running: Quantity = np.maximum(load.concurrency - waiting, 1.0)
    return running


def prefill_queue(conditions: Conditions, load: Load, local: Quantity, paces: Paces, share: Quantity) -> Quantity:
    """Seconds of other requests' prefills before the mean request's own, if prefills take `share` of the time."""
    prompt_s = paces.pass_s / paces.prompts
    others_s = (local - 1.0) / 2.0 * prompt_s
    steady_s = share / (2.0 * np.maximum(1.0 - share, 1e-9)) * paces.pass_s
    steady_s = np.where(others_s > 0, steady_s * others_s / np.maximum(steady_s + others_s, 1e-30), 0.0)
    together = np.minimum(prompts_of_a_pass(conditions, load), local)
    burst_s = np.maximum((local + together) / 2.0 - 1.0, 0.0) * prompt_s
    queue: Quantity = (1.0 - load.burst_share) * steady_s + load.burst_share * burst_s
    return queue


def closed_form(
    conditions: Conditions,
    layout: Layout,
    load: Load,
    batch: Quantity,
    paces: Paces,
    speculation: Speculation | None = None,
    running: Quantity | None = None,
) -> Pace:
    """Rates of `batch` sequences on the whole layout from the costs of decode, mixed and prefill steps.

    running: mean number of requests that run at once, None for `batch`; the others of `load.concurrency` wait.
    """
    software = conditions.software
    running = batch if running is None else running
    local = layout.local_batch(batch)
    prompt_s = paces.pass_s / paces.prompts
    steps = load.osl - 1.0
    drafted = speculation.tokens_per_step if speculation else 1.0
    pieces = pieces_of(load)
    prefills = (
        delaying_prompts(conditions, load, layout, batch) / (np.maximum(steps, 1.0) / drafted) * pieces / paces.prompts
    )
    passes = passes_of(software, layout, prefills, pieces, steps)
    step_s = paces.step_s + passes.joined * paces.mixed_s
    delay_s = delay_seconds(software, layout, passes, pieces, paces.pass_s, paces.step_s)
    queued_s = passes.queued * paces.pass_s
    tpot = (step_s + delay_s) / drafted * software.tpot_ratio
    prefilling = prefills / pieces * paces.pass_s
    share = prefilling / np.maximum(paces.step_s + prefilling, 1e-30)
    queue_s = prefill_queue(conditions, load, local, paces, share)
    # A request alone finds no step running.
    running_s = np.minimum(other_requests(layout, batch), 1.0) * (1.0 + load.batching_steps) * step_s
    waiting_s = np.maximum(software.first_ratio * queue_s, steps * queued_s / drafted)
    started = software.first_token_s + running_s + software.first_ratio * paces.pass_s + waiting_s
    # Requests with one output token wait for prefills only: those of all requests ahead in the queue.
    started = np.where(steps > 0, started, software.first_token_s + np.maximum(software.first_ratio, local) * prompt_s)
    started = started * software.ttft_ratio
    stay = started + steps * tpot
    rate = running * load.osl / stay
    decoding = paces.step_joules / batch * (steps / drafted)
    mixed = passes.mixed
    spent = mixed * pieces * paces.mixed_joules + (1.0 - mixed) * paces.pass_joules
    timed = mixed * pieces * paces.mixed_timed_joules + (1.0 - mixed) * paces.pass_timed_joules
    # A prefill spends work on the prompts of every stage; meanwhile the stages and replicas that have others work too.
    working = (spent - timed) / (paces.prompts * layout.pp * layout.dp)
    timed = timed / (paces.prompts * prefilling_stages(layout, batch))
    joules = (decoding + working + timed) / load.osl
    # Chip time of a request: its share of decode steps, and of prefills, which all stages of all replicas do at once.
    prompt_s = (mixed * pieces * paces.mixed_s + (1.0 - mixed) * paces.pass_s) / (paces.prompts * layout.pp * layout.dp)
    prompt_share = prompt_s / (prompt_s + paces.step_s / batch * (steps / drafted))
    found = 0.0 if paces.cacheless_s is None else np.maximum(1.0 - paces.cacheless_s / paces.pass_s, 0.0)
    return Pace(
        tpot_s=np.where(steps > 0, tpot, 0.0),
        ttft_s=started + np.maximum(load.concurrency / running - 1.0, 0.0) * stay,
        output_tokens_per_s=rate,
        joules_per_output_token=joules,
        watts_per_chip=np.minimum(joules * rate / layout.chips, conditions.chip.power_limit_w),
        input_share=prompt_share * (1.0 - found),
        cached_share=prompt_share * found,
    )
