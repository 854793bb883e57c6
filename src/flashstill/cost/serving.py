"""A load served on a layout: its steps are priced, and the closed form makes rates of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost.admission import capacity, running_requests
from flashstill.cost.closed_form import Pace, Paces, closed_form
from flashstill.cost.conditions import Conditions
from flashstill.cost.drain import Ending
from flashstill.cost.load import Load, chunks_of, prompts_together
from flashstill.cost.phases import batch_step, with_drafts, working_share
from flashstill.cost.prefills import in_sequence, prefill_passes
from flashstill.cost.speculation import Speculation, verified_queries
from flashstill.cost.step import StepCost
from flashstill.cost.together import steps_together
from flashstill.parallel import Layout
from flashstill.workload import Chunks, Decoding, Quantity, is_any


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving(Pace):
    """Rates with the two steps behind them. batch: sequences running at once on the whole layout; 0 if none fits.

    fitting: sequences of the mean length held for which the layout has memory.
    """

    batch: Quantity
    fitting: Quantity
    decode: StepCost
    prefill: StepCost


def serve(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    load: Load,
    speculation: Speculation | None = None,
) -> Serving:
    """Price `load` served on `layout`; quantities broadcast. Joules exclude host and facility."""
    alone, fitting = capacity(model, conditions, layout, load, speculation)
    batch = np.minimum(load.concurrency, np.maximum(fitting, 1.0))
    local = layout.local_batch(batch)
    context = load.context
    prompts = prompts_together(conditions, load, local)
    decoding = Decoding(sequences=local, context=context, queries=verified_queries(speculation))
    together, passes = chunks_of(load, prompts), prefill_passes(load.computed, load.chunk, load.past)
    uncached = prefill_passes(load.computed, load.chunk, load.spread) if is_any(load.cached) else []
    steps = [(decoding, replace(together, count=0.0)), (decoding, together)]
    nothing = replace(decoding, sequences=0.0)
    steps += [(nothing, Chunks(count=prompts, length=one.length, past=one.past)) for one in (*passes, *uncached)]
    verified, mixed, *prefills = steps_together(model, conditions, layout, steps)
    whole = with_drafts(verified, model, conditions, layout, local, context, speculation)
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
        ending=ending_steps(model, conditions, layout, load, batch, speculation),
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
        fitting=fitting,
        decode=step,
        prefill=passed,
    )


def ending_steps(
    model: Architecture,
    conditions: Conditions,
    layout: Layout,
    load: Load,
    batch: Quantity,
    speculation: Speculation | None,
) -> Ending | None:
    """Decode steps of one of `batch` sequences, and of their square root; None where answers do not vary."""
    if not is_any(load.osl_cv):
        return None
    alone, few = (
        batch_step(model, conditions, layout, number, load.context, speculation) for number in (1.0, np.sqrt(batch))
    )
    return Ending(
        alone_s=alone.seconds, alone_joules=alone.total_joules, few_s=few.seconds, few_joules=few.total_joules
    )
