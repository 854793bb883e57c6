"""Seconds and joules of a training step.

Symbols: m microbatches; p pipeline stages, each of v interleaved pieces; t_f, t_b, t_r seconds of the forward pass, the
backward pass and recomputation of one microbatch on the slowest stage.

    t = m (t_f + t_b + t_r + tensor collectives + sends) + bubble + exposed replica collectives + optimizer
    bubble    (p - 1)/v microbatches (Narayanan et al. 2021, section 2.2), plus the mean wait for the slowest stage
    replicas  time of gradient reduction not overlapped by the last backward pass and, with fsdp, of parameter gathering
              not overlapped by each pass; at least one layer's share is never overlapped
    optimizer bytes of parameters, gradients and moments over the memory bandwidth

Kernels and collectives cost the same as in inference (cost/operations.py, cost/links.py); the software's ratios say how
much slower its kernels are, and what share of the collectives is not overlapped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.arch import Architecture
from flashstill.cost.chip_work import NO_WORK, ChipWork, chip_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.footprint import usable_bytes
from flashstill.cost.step import StepCost, on_chips
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.parallel import Exchange, shard
from flashstill.parallel.training import TrainingPlan
from flashstill.parallel.training_exchanges import replica_exchanges, stage_sends, tensor_exchanges
from flashstill.parallel.training_parameters import split_parameters
from flashstill.workload import Operation, Quantity
from flashstill.workload.training import ENDS, backward, forward, model_flops, streams

OPTIMIZER_BYTES = 30.0
"""Bytes per parameter: Adam reads gradient, parameter and two moments in 32 bits (16) and writes parameter, moments
and a 16-bit copy of the parameter (14)."""
_NO_TIME: Quantity = 0.0
PARTS = ("forward", "backward", "recompute", "tensor", "sends", "bubble", "replicas", "optimizer", "waiting", "power")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingCost:
    """Cost of one optimizer step. parts_s: seconds by PARTS; they sum to `seconds`. Rates are per chip.

    model_flops_per_s counts the FLOPs of the model by definition (attention over all pairs), hardware_flops_per_s the
    FLOPs executed.
    state_bytes, activation_bytes: on the chip that holds most.
    """

    seconds: Quantity
    parts_s: dict[str, Quantity]
    tokens_per_s: Quantity
    model_flops_per_s: Quantity
    hardware_flops_per_s: Quantity
    mfu: Quantity
    state_bytes: Quantity
    activation_bytes: Quantity
    fits: bool | npt.NDArray[np.bool_]
    step: StepCost


def train_step(model: Architecture, conditions: Conditions, plan: TrainingPlan, pue: float = 1.0) -> TrainingCost:
    """The cost of one optimizer step. Joules are of all chips; `step.wall_joules` adds host and facility."""
    widths = conditions.widths
    # Splitting a sequence over cp chips costs as much as 1/cp of the sequences, plus the exchange of keys and values.
    operations = forward(model, plan.microbatch / plan.cp, plan.length, widths, conditions.skew)
    sharded = shard(operations, plan.layout)
    mine = streams(sharded.operations, 1.0 / plan.tp if plan.sequence_parallel else 1.0, plan.fused_attention)
    blocks = [operation for operation in mine if operation.name not in ENDS]
    ends = [operation for operation in mine if operation.name in ENDS]
    again = [operation for operation in blocks if plan.again(operation.name)]
    exchanges = tensor_exchanges(model, plan, sharded.exchanges)
    depth = float(model.depth)
    passes = {
        "forward": _run(conditions, blocks, depth),
        "backward": _run(conditions, _backwards(blocks, plan), depth),
        "recompute": _run(conditions, again, depth if plan.recompute == "full" else 0.0),
        "ends": _run(conditions, [*ends, *_backwards(ends, plan)]),
        "tensor": _run(conditions, (), exchanges=exchanges * (3 if plan.recompute in ("full", "projections") else 2)),
        "sends": _run(conditions, (), exchanges=stage_sends(model, plan)),
    }
    return _assemble(model, conditions, plan, passes, pue)


def _assemble(
    model: Architecture, conditions: Conditions, plan: TrainingPlan, passes: dict[str, ChipWork], pue: float
) -> TrainingCost:
    seconds = {name: work.seconds for name, work in passes.items()}
    m, stages = plan.microbatches, np.asarray(plan.pp, dtype=np.float64)
    middle, last = _stage_layers(model, plan)
    body = seconds["forward"] + seconds["backward"] + seconds["recompute"] + seconds["tensor"]
    # The slowest stage sets the pace: a middle one, or the last one, which also computes the LM head.
    slowest = np.maximum(body * middle, body * last + seconds["ends"])
    mean = (body + seconds["ends"]) / stages
    bubble = (stages - 1.0) / plan.interleave * slowest + m * (slowest - mean)
    parts: dict[str, Quantity] = {
        name: m * seconds[name] / stages for name in ("forward", "backward", "recompute", "tensor")
    }
    parts["forward"] = parts["forward"] + m * seconds["ends"] / stages / 3.0
    parts["backward"] = parts["backward"] + m * seconds["ends"] / stages * 2.0 / 3.0
    parts["sends"] = m * seconds["sends"]
    parts["bubble"] = bubble
    total = NO_WORK
    for name, work in passes.items():
        total = total.plus(work, m / (1.0 if name == "sends" else stages))
    replicas, update = _replicas(model, conditions, plan, parts), _optimizer(model, conditions, plan)
    parts["replicas"], parts["optimizer"] = replicas.seconds, update.seconds
    parts["waiting"] = conditions.software.step_s + _waiting(conditions, plan) * sum(parts.values(), start=0.0)
    total = total.plus(replicas).plus(update).lasting("overhead", bubble + parts["waiting"])
    step = on_chips(conditions, total, plan.chips, pue)
    parts["power"] = step.shares_s["power"]
    return _result(model, conditions, plan, step, parts)


def _result(
    model: Architecture, conditions: Conditions, plan: TrainingPlan, step: StepCost, parts: dict[str, Quantity]
) -> TrainingCost:
    per_chip_s = step.seconds * plan.chips
    model_rate = model_flops(model, plan.batch, plan.length) / per_chip_s
    peak = conditions.chip.flops_per_s[conditions.chip.precision(conditions.precisions.linear)]
    states, kept = state_bytes(model, plan), activation_bytes(model, plan)
    return TrainingCost(
        seconds=step.seconds,
        parts_s=parts,
        tokens_per_s=plan.batch * plan.length / per_chip_s,
        model_flops_per_s=model_rate,
        hardware_flops_per_s=2.0 * step.macs / per_chip_s,
        mfu=model_rate / peak,
        state_bytes=states,
        activation_bytes=kept,
        fits=states + kept <= usable_bytes(conditions, conditions.chip.memory),
        step=step,
    )


def _stage_layers(model: Architecture, plan: TrainingPlan) -> tuple[Quantity, Quantity]:
    """Share of the blocks on the fullest stage, and on the last one, which may take fewer to fit the LM head."""
    places = np.ceil(model.depth / (plan.pp * plan.interleave)) * plan.interleave
    spare = np.maximum(places * plan.pp - model.depth, 0.0)
    return places / model.depth, (places - np.ceil(spare / 2.0)) / model.depth


def _run(
    conditions: Conditions, operations: Iterable[Operation], blocks: float = 0.0, exchanges: tuple[Exchange, ...] = ()
) -> ChipWork:
    return chip_work(conditions, operations, exchanges, conditions.software.layer_s * blocks)


def _backwards(operations: Iterable[Operation], plan: TrainingPlan) -> list[Operation]:
    return [gradient for operation in operations for gradient in backward(operation, plan.frozen)]


def _replicas(model: Architecture, conditions: Conditions, plan: TrainingPlan, parts: dict[str, Quantity]) -> ChipWork:
    """Parameter gathering and gradient reduction: the seconds not overlapped by computation, and all their joules."""
    total, exposed_s = NO_WORK, _NO_TIME
    if plan.frozen:
        return total
    m = plan.microbatches
    cover = {"forward": parts["forward"], "backward": parts["backward"] + parts["recompute"]}
    layers = model.depth / plan.pp
    alone = replace(conditions, software=replace(conditions.software, collective_ratio=1.0))
    for phase, every_pass, exchanges in replica_exchanges(model, plan):
        work = chip_work(alone, exchanges=exchanges)
        times = m if every_pass else 1.0
        least = work.seconds * np.maximum(conditions.software.exposed_ratio, 1.0 / layers)
        exposed_s = exposed_s + times * np.maximum(work.seconds - cover[phase] / m, least)
        total = total.plus(work, times)
    return total.taking({"links": exposed_s})


def _waiting(conditions: Conditions, plan: TrainingPlan) -> Quantity:
    """Share of the step that fast-link domains wait for the slowest one: grows with log2 of the number of domains."""
    domains = plan.chips / conditions.chip.system.joined(plan.joined)
    return conditions.software.sync_ratio * np.log2(domains)


def _optimizer(model: Architecture, conditions: Conditions, plan: TrainingPlan) -> ChipWork:
    if plan.frozen:
        return NO_WORK
    replicas = plan.fsdp * plan.dp if plan.zero1 else plan.fsdp
    moved = OPTIMIZER_BYTES * split_parameters(model, plan, replicas)
    return chip_work(conditions, [Operation(name="optimizer", activation_bytes=moved)])
