"""Rates at a fixed concurrency in closed form, from the costs of single steps: time per output token and to the first,
throughput and energy.

    T_d   seconds of a decode step of b sequences with S = isl + osl/2 cached tokens
    T_p   seconds of a separate prefill of c prompts: those that arrive in one step, b/osl, within the token budget
    T_m   seconds of a mixed step: b sequences decode and c prompts, or a chunk of each, are prefilled (together.py)
    B     burst share: the part of all requests that arrives at once (Load.burst_share)
    s     = interference (b-1)(1 - B/2)/((osl-1)/E) pieces/(c pp)  prefill passes that delay each decode step: of pp
            stages each does its part of one, and of others at the same time
    n     = min(s, interference) where prompts join decode steps, else s;  q = (s - n) T_p / pieces
    m     = min(n, 1) pp / (1 + min(n, 1) (pp - 1)): what follows a pass in a pipeline cannot overtake it (load.py);
            with (pp - 1) / pieces for pp - 1 where prompts are in pieces, which also shortens their own T_p
    w     = m (T_m - T_d) + (n - min(n, 1)) T_p / pieces where prompts join,
            else max(n T_p / pieces, m (T_p / pieces - T_d))
    tpot  = (T_d + draft steps + w) / E,  E = E[tokens per step]
    a     = (1-B) cohort / c + B, at least 1: passes of the prompts that a request follows closely, its own among them
    ttft  = first_s + (1 + batching steps) step + first a T_p + max(first ((1-B) W + B Q), (osl-1) q / E)
            + waiting for memory (admission.py)

A request decodes for (osl-1)/E steps.  Meanwhile each of the b-1 other requests is prefilled once on average: in mixed
steps, which read the weights once for both, and, if the engine never mixes, in separate steps.  If there are more
prefills than decode steps, an engine that mixes still decodes in every step, with one pass of prompts beside it, so
that the others (q) keep requests from starting, not from going on.  Of requests that come together, each is delayed by
half of the others only.  `interference`, the delay by another's prefill, is the engine's, as are `first` and
`first_s`, which grows with the blocks of experts where an engine launches the kernels of a prompt one by one: they add
to the first token, and to the time per token nothing that measurements show.

The first token waits for the step that runs when the request arrives (step), for its own prefill, and for prefills
ahead, of which k go together within the token budget.  With a share u of the time spent on prefills, a request finds
W = u T_p / (2 (1-u) k) of them left to do (M/D/1, Pollaczek-Khinchine), and never more than those of all others.  In a
burst, all b prompts are prefilled k at a time.  A pass takes P = T_0 + k X seconds: each prompt adds X = (T_m - T_d)
pieces / c, and the weights are read once, in the decode step that the prompts join (T_0 = T_d pieces) or, if the engine
never mixes, in a pass without one (T_0 = T_p / c - X).  The mean request waits for half of the passes before its own
and for the others in it, and later again for some that came with it; at most for prompts that cost a pass each:

    Q = min( LATER ((b/k - 1)/2 P + (k - 1) X),  ((b+k)/2 - 1) T_p / c )

Where answers vary, the rate and the joules are those of a whole run of so many requests that B come at once, with its
end, when fewer and fewer are left (drain.py); lengths.py says what else varying lengths change.

With osl = 1 nothing is decoded: tpot is 0, and ttft is the total latency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.cost.conditions import Conditions
from flashstill.cost.drain import Ending, run_per_steady, scattered_share
from flashstill.cost.load import (
    Load,
    cohort_passes,
    delay_seconds,
    delaying_prompts,
    other_requests,
    passes_of,
    pieces_of,
    prefill_share,
    prefilling_stages,
    prompts_of_a_pass,
)
from flashstill.cost.speculation import Speculation
from flashstill.parallel import Layout
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Paces:
    """Step costs that the closed form needs. Joules are of all chips, host and facility excluded.

    step_s: a decode step of all sequences, drafting included.
    mixed_...: the additional cost of a decode step that also prefills `prompts` prompts, or a chunk of each.
    pass_...: a separate prefill of `prompts` prompts.
    mixed_... and pass_... assume work on every stage of every replica; ..._timed_joules is their static energy.
    cacheless_s: seconds of that separate prefill, if nothing had been found in a cache; None: nothing was.
    ending: decode steps of fewer sequences, as at the end of a run whose answers vary; None: they do not.
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
    ending: Ending | None = None


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


LATER = 1.5
"""The wait that a burst costs in all over that in its first prefills, as requests that came together meet again: they
scatter over some 25 answers, of which a run has ten.  An estimate: of 1, 1.5 and 2, what served first tokens say best;
two simulated loads say 1.1 and 1.25."""


def prefill_queue(conditions: Conditions, load: Load, local: Quantity, paces: Paces, share: Quantity) -> Quantity:
    """Seconds of other requests' prefills before the mean request's own, if prefills take `share` of the time."""
    together = np.minimum(prompts_of_a_pass(conditions, load), local)
    others_s = (local - 1.0) / 2.0 * paces.pass_s / paces.prompts
    steady_s = share / (2.0 * np.maximum(1.0 - share, 1e-9)) * paces.pass_s / together
    steady_s = steady_s * (1.0 + load.isl_cv**2 / together)
    steady_s = np.where(others_s > 0, steady_s * others_s / np.maximum(steady_s + others_s, 1e-30), 0.0)
    burst_s = burst_queue(conditions, load, local, together, paces)
    queue: Quantity = (1.0 - load.burst_share) * steady_s + load.burst_share * burst_s
    return queue


def burst_queue(conditions: Conditions, load: Load, local: Quantity, together: Quantity, paces: Paces) -> Quantity:
    """Seconds of others' prefills before the mean one's own, of `local` prompts that come at once, some `together`."""
    prompt_s, mixes = paces.pass_s / paces.prompts, conditions.software.mixed_ratio
    most_s = np.maximum((local + together) / 2.0 - 1.0, 0.0) * prompt_s
    added_s = pieces_of(load) * paces.mixed_s / paces.prompts
    base_s = mixes * pieces_of(load) * paces.step_s + (1.0 - mixes) * np.maximum(prompt_s - added_s, 0.0)
    ahead_s = (local / together - 1.0) / 2.0 * (base_s + together * added_s)
    later = LATER - (LATER - 1.0) * scattered_share(load.osl_cv, load.burst_share)  # those that scatter meet no more
    queue: Quantity = np.minimum(most_s, later * (ahead_s + (together - 1.0) * added_s))
    return queue


def waiting_answers(load: Load, running: Quantity) -> Quantity:
    """Answers of others, one after the other, for which the mean request waits until memory takes it.

    Of those in flight concurrency - running wait.  A request of a burst waits only for those before it: on average for
    half as long, if it is of those that wait at all.  Equal ones come back together: all wait as long (measured first
    tokens of served rows say so).
    """
    ahead = np.maximum(load.concurrency / running - 1.0, 0.0)
    first = np.maximum(1.0 - running / load.concurrency, 0.0) / 2.0
    once = load.burst_share * scattered_share(load.osl_cv, load.burst_share)
    waits: Quantity = ahead * (1.0 - once * (1.0 - first))
    return waits


def ended(
    load: Load, running: Quantity, paces: Paces, first_s: Quantity, tpot_s: Quantity, per_step: Quantity
) -> tuple[Quantity, Quantity]:
    """Seconds and joules of decoding of a run with its end, over those while all its requests run.

    per_step: seconds of a token over those of a step without prompts.
    """
    assert paces.ending is not None
    share = load.burst_share * running / load.concurrency
    lengths = load.osl, load.osl_cv, share, running
    # At the end no prompt delays those left, if they have scattered; those of a burst wait for each other's at first.
    scattered = scattered_share(load.osl_cv, share) * (1.0 - share)
    ending_s = tpot_s - np.maximum(tpot_s - paces.step_s * per_step, 0.0) * scattered
    few_s, alone_s = (ending_s * step_s / paces.step_s for step_s in (paces.ending.few_s, paces.ending.alone_s))
    seconds = run_per_steady(*lengths, first_s, tpot_s, (alone_s, few_s, ending_s))
    each = paces.step_joules
    joules = run_per_steady(*lengths, 0.0, each, (paces.ending.alone_joules, paces.ending.few_joules, each))
    return seconds, joules


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
    own_s = prefill_share(layout, pieces) * cohort_passes(load, local, paces.prompts) * paces.pass_s
    started = software.first_token_s + running_s + software.first_ratio * own_s + waiting_s
    # Requests with one output token wait for prefills only: those of all requests ahead in the queue.
    started = np.where(steps > 0, started, software.first_token_s + np.maximum(software.first_ratio, local) * prompt_s)
    started = started * software.ttft_ratio
    stay = started + steps * tpot
    longer, dearer = (
        (1.0, 1.0)
        if paces.ending is None
        else ended(load, running, paces, started, tpot, software.tpot_ratio / drafted)
    )
    rate = running * load.osl / (stay * longer)
    decoding = paces.step_joules / batch * (steps / drafted) * dearer
    mixed = passes.mixed
    spent = mixed * pieces * paces.mixed_joules + (1.0 - mixed) * paces.pass_joules
    timed = mixed * pieces * paces.mixed_timed_joules + (1.0 - mixed) * paces.pass_timed_joules
    # A prefill spends work on the prompts of every stage; meanwhile the stages and replicas that have others work too.
    working = (spent - timed) / (paces.prompts * layout.pp * layout.dp)
    timed = timed / (paces.prompts * prefilling_stages(layout, batch))
    # Stages that wait for others, in steps that a prompt has lengthened, draw the power of waiting as well.
    waiting = conditions.chip.waiting_w * layout.chips / rate
    joules = np.maximum((decoding + working + timed) / load.osl, waiting)
    # Chip time of a request: its share of decode steps, and of prefills, which all stages of all replicas do at once.
    prompt_s = (mixed * pieces * paces.mixed_s + (1.0 - mixed) * paces.pass_s) / (paces.prompts * layout.pp * layout.dp)
    prompt_share = prompt_s / (prompt_s + paces.step_s / batch * (steps / drafted))
    found = 0.0 if paces.cacheless_s is None else np.maximum(1.0 - paces.cacheless_s / paces.pass_s, 0.0)
    return Pace(
        tpot_s=np.where(steps > 0, tpot, 0.0),
        ttft_s=started + waiting_answers(load, running) * stay,
        output_tokens_per_s=rate,
        joules_per_output_token=joules,
        watts_per_chip=np.minimum(joules * rate / layout.chips, conditions.chip.power_limit_w),
        input_share=prompt_share * (1.0 - found),
        cached_share=prompt_share * found,
    )
