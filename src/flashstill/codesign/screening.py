"""Lower bounds of what a token takes on designs: chip-seconds and joules, without pricing each design.

Of a decode step (d), a step that prefills as well (m) and a prefill pass (p), on layout and batch D:

    T(design, D) >= K(multipliers, memory, D) + L(links, D)       kernels and exchanges follow one another
    T(design, D) >= least dynamic joules of a chip(memory, D) / (power limit - waiting watts)        it throttles

K is the cost arm's own time of the same kernels on a chip without links and without a power limit, whose arrays round
nothing up; L its time of the exchanges.  The closed form (cost/closed_form.py) is linear in T_d, T_m and T_p,
with weights that do not depend on the chip, but for the queue of prompts, which is left out as it is never negative:

    stay >= c0 + c_d T_d + c_m T_m + c_p T_p,    chip-seconds a token = chips stay / (running osl)

So the least over D is found for each pair (multipliers with memory, links), and holds for every SRAM, die, package and
wire around them.  joules a token >= least over D of the dynamic joules with wires of no length, + least of the bytes
over wires x joules of a wire of that die's length, + idle watts x least of the chip-seconds that the steps take.
Dynamic joules are those at the lowest voltage of the core, as a design that throttles may reach it (cost/throttle.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.codesign.design_columns import Places
from flashstill.codesign.designs import Values
from flashstill.codesign.loads import DesignLoad
from flashstill.codesign.step_weights import Steps, spread_of, weights_of
from flashstill.cost import Conditions
from flashstill.cost.admission import capacity, running_requests
from flashstill.cost.load import chunks_of, prompts_together
from flashstill.cost.phases import overhead_seconds
from flashstill.cost.step import STATIC_LEVELS, StepCost, step_cost
from flashstill.cost.throttle import CORE_LEVELS
from flashstill.hardware.stacked import AXES
from flashstill.parallel import Sharded, shard, to_next_stages
from flashstill.workload import Decoding, Quantity, decode, mixed, prefill

CLOSE = 1.0 - 1e-9
"""a bound is lowered by its own rounding"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernels:
    """Of chips without links: seconds, least dynamic joules and bytes over wires of a chip, by step.

    running: requests that run at once; 0 where the batch does not fit.
    """

    seconds: Steps
    joules: Steps
    wired: Steps
    running: Values


def kernels_of(conditions: Conditions, load: DesignLoad) -> Kernels:
    """Of a stack of chips: kernels only, with the engine's overhead."""
    seconds, joules, wired = _steps(conditions, load, exchanged=False)
    layout, traffic = load.chosen.layout, load.requests
    alone, fitting = capacity(load.model, conditions, layout, traffic)
    running = running_requests(conditions, traffic, np.where(np.asarray(alone) >= 1.0, fitting, 0.0))
    fits = (np.asarray(alone) >= 1.0) & (fitting >= load.chosen.batches) & (load.chosen.batches >= layout.dp)
    counted = _chips(conditions, np.where(fits, running, 0.0), load)
    return Kernels(seconds=seconds, joules=joules, wired=wired, running=counted)


def links_of(conditions: Conditions, load: DesignLoad) -> tuple[Steps, Steps]:
    """Of a stack of chips: seconds and joules of exchanges only."""
    return _steps(conditions, load, exchanged=True)[:2]


def _chips(conditions: Conditions, values: object, load: DesignLoad) -> Values:
    """An array that broadcasts to (chips, 1, 1, layouts, batches), without the middle axes."""
    lead = conditions.chip.stacked
    shape = (lead, *(1,) * (AXES - 2), *load.chosen.shape)
    return np.broadcast_to(np.asarray(values, dtype=np.float64), shape).reshape(lead, *load.chosen.shape)


def _steps(conditions: Conditions, load: DesignLoad, exchanged: bool) -> tuple[Steps, Steps, Steps]:
    """Seconds, least dynamic joules and bytes over wires of a chip, of three steps; see `kernels_of` and `links_of`.

    As in `plan.tables.priced`, the distinct groups of chips are priced, and looked up for every layout and batch.
    """
    chosen, model, share = load.chosen, load.model, load.share
    traffic, widths, skew = load.requests, conditions.widths, conditions.skew
    group, layout, sequences = chosen.groups.layout, chosen.layout, chosen.groups.sequences
    fewer, back = chosen.groups.alike(np.asarray(prompts_together(conditions, traffic, chosen.groups.numbers)))
    prompts = prompts_together(conditions, traffic, sequences)
    local = layout.local_batch(chosen.batches)
    together = prompts_together(conditions, traffic, local)
    context = share.isl + share.osl / 2.0
    tokens, chunks = Decoding(sequences=sequences, context=context), chunks_of(traffic, prompts)
    few = fewer.sequences
    lead, filled = conditions.chip.stacked, back[chosen.at]
    whole = (
        (decode(model, sequences, context, widths, 1.0, skew), group, sequences, chosen.at, local),
        (mixed(model, tokens, chunks, widths, skew), group, sequences + prompts, chosen.at,
         local + chunks_of(traffic, together).tokens),
        (prefill(model, few, traffic.computed, widths, 0.0, skew), fewer.layout, few, filled,
         together * traffic.computed),
    )  # fmt: skip

    def looked_up(part: Quantity, at: Places, after: Quantity) -> Values:
        table = np.asarray(part, dtype=np.float64)
        values = np.take(table, at, axis=-1) if table.ndim else np.full(at.shape, table)
        shape = (-1, *at.shape) if table.ndim > 1 else (1, *at.shape)
        return values.reshape(shape) + _chips(conditions, after, load) + np.zeros((lead, 1, 1))

    answers: tuple[list[Values], ...] = ([], [], [])
    for operations, placed, requests, at, sent in whole:
        overhead_s = 0.0 if exchanged else overhead_seconds(model, conditions, placed.each(requests))
        step, after = step_cost(conditions, _part(shard(operations, placed), exchanged), 1.0, overhead_s), _NOTHING
        if exchanged:
            after = step_cost(conditions, Sharded(operations=(), exchanges=to_next_stages(layout, model.width, sent)))
        answers[0].append(looked_up(step.seconds, at, after.seconds))
        answers[1].append(looked_up(_least_joules(conditions, step), at, after.dynamic_joules))
        answers[2].append(looked_up(0.0 if exchanged else _wired(conditions, step), at, 0.0))
    seconds, joules, wired = (Steps(decode=part[0], mixed=part[1], filled=part[2]) for part in answers)
    return seconds, joules, wired


def _part(sharded: Sharded, exchanged: bool) -> Sharded:
    """Only the exchanges of one chip's share of a step, or only its kernels."""
    kept: dict[str, Any] = {"operations": ()} if exchanged else {"exchanges": ()}
    shared = None if sharded.dense is None else replace(sharded.dense, **kept)
    return replace(sharded, dense=shared, **kept)


_NOTHING = StepCost(
    seconds=0.0, joules=dict.fromkeys(STATIC_LEVELS, 0.0), shares_s={}, macs=0.0, chips=1.0, wall_ratio=1.0
)


def _least_joules(conditions: Conditions, step: StepCost) -> Quantity:
    """Dynamic joules of one chip with its core at the lowest voltage."""
    core = sum((step.joules[level] for level in CORE_LEVELS), start=0.0)  # without clocks, which draw nothing here
    return step.dynamic_joules - (1.0 - conditions.chip.least_voltage_ratio**2) * core


def _wired(conditions: Conditions, step: StepCost) -> Quantity:
    """Bytes of one chip that cross wires of the die, from the joules of each level over those of a byte.

    Wires of the core carry them at its lowest voltage, which counts as fewer bytes.
    """
    main = conditions.chip.memory
    per_byte = {
        "weights": conditions.weights.joules_per_byte_total,
        "kv": conditions.cache.joules_per_byte_total,
        "activations": main.joules_per_byte_total,
        "far_sram": conditions.chip.on_chip_joules_per_byte / conditions.chip.least_voltage_ratio**2,
    }
    return sum((step.joules[level] / joules for level, joules in per_byte.items()), start=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Lower bounds by (chips with memory, links): chip-seconds and joules of an output token, seconds per token.

    wired: bytes that cross wires, of an output token; with the wires' joules a byte they add to `joules`.
    idle_s: chip-seconds of an output token in which idle watts are drawn.  throttled_j: least dynamic joules that the
    chips must get rid of meanwhile: over the watts of a chip they bound `chip_s` as well.
    """

    chip_s: Values
    throttled_j: Values
    joules: Values
    wired: Values
    idle_s: Values
    tpot_s: Values


def bounds_of(
    conditions: Conditions,
    load: DesignLoad,
    kernels: Kernels,
    links: tuple[Steps, Steps],
    alone: Sequence[bool],
) -> Bounds:
    """The least over all deployments that fit and can keep the bounds; infinite where there is none.

    alone: of each way to link chips, whether it links none.
    """
    weights, spread, share = weights_of(conditions, load), spread_of(conditions, load), load.share
    (seconds, joules), (link_s, link_j) = (kernels.seconds, kernels.joules), links
    chips = np.asarray(np.broadcast_to(load.chosen.layout.chips, load.chosen.shape), dtype=np.float64)
    fits = kernels.running > 0.0
    ease = np.where(fits, chips / (np.where(fits, kernels.running, 1.0) * share.osl), 0.0)
    count, ways = len(ease), len(link_s.decode)
    found = {name: np.full((count, ways), np.inf) for name in Bounds.__dataclass_fields__}
    stays = ease * (weights.once_s + weights.of(seconds)), ease * weights.of(joules)
    spent, wired, idle = spread.work(joules), spread.work(kernels.wired), spread.idle(seconds)
    for way in range(ways):
        more = Steps(*(getattr(link_s, name)[way] for name in Steps.__dataclass_fields__))
        sent = Steps(*(getattr(link_j, name)[way] for name in Steps.__dataclass_fields__))
        tpot = weights.tpot(seconds) + weights.tpot(more)
        late = ~fits | ((chips > 1.0) & alone[way])
        if share.max_tpot_s is not None:
            late |= tpot * CLOSE > share.max_tpot_s
        if share.max_ttft_s is not None:
            first = weights.once_s + weights.ttft_filled * (seconds.filled + more.filled)
            late |= first * CLOSE > share.max_ttft_s
        figures = {
            "chip_s": stays[0] + ease * weights.of(more),
            "throttled_j": stays[1] + ease * weights.of(sent),
            "joules": spent + spread.work(sent),
            "wired": wired,
            "idle_s": idle + spread.idle(more),
            "tpot_s": tpot if share.osl > 1 else weights.once_s + weights.filled * (seconds.filled + more.filled),
        }
        for name, values in figures.items():
            found[name][:, way] = np.where(late, np.inf, values).reshape(count, -1).min(axis=1)
    return Bounds(**{name: values * CLOSE for name, values in found.items()})


def without_limit(conditions: Conditions) -> Conditions:
    """Conditions on the same chips with no links, no limit and no idle power, arrays that round nothing up."""
    chip = conditions.chip
    free = replace(chip, matrix_edge=0, power_limit_w=np.inf, idle_w=0.0, active_w=0.0)
    return replace(conditions, chip=free)
