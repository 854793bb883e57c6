"""The collectives of a training step: within tensor-parallel groups, between stages, and among replicas.

Symbols: T tokens of a pass, d width of the residual stream.

    tensor    an all-reduce over tp of T d values in forward, backward and recomputation; with sequence parallelism an
              all-gather and a reduce-scatter of the same volume (Korthikanti et al. 2022, section 4.2.2)
    context   keys and values of the whole sequence, gathered over cp
    stages    the activations of a microbatch, sent to the next piece, forward and backward
    replicas  fsdp: parameters gathered in every forward and backward pass, gradients reduce-scattered;
              dp: gradients all-reduced once a step (zero1: reduce-scattered, and the new parameters gathered)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.parallel.exchange import Exchange
from flashstill.parallel.training import TrainingPlan
from flashstill.parallel.training_parameters import split_parameters
from flashstill.workload import Quantity

VALUE_BYTES = 2.0


def tensor_exchanges(model: Architecture, plan: TrainingPlan, of_sharding: Sequence[Exchange]) -> tuple[Exchange, ...]:
    """Exchanges of one pass (forward or backward) of all blocks. of_sharding: those of the inference pass."""
    exchanges: list[Exchange] = []
    for exchange in of_sharding:
        exchange = replace(exchange, slice_chips=plan.joined)
        if plan.sequence_parallel and exchange.kind == "all-reduce":
            exchanges += [replace(exchange, kind=kind) for kind in ("all-gather", "reduce-scatter")]
        elif not (plan.sequence_parallel and exchange.kind == "all-gather" and exchange.tier == "tensor"):
            # With sequence parallelism the stream stays split, so no gather is needed after experts.
            exchanges.append(exchange)
    if np.any(np.asarray(plan.cp) > 1):
        values = sum(layer.count * layer.attention.kv_values_per_token for layer in model.layers) / model.depth
        exchanges.append(
            Exchange(
                name="keys and values",
                kind="all-gather",
                count=float(model.depth),
                bytes=plan.microbatch * plan.length * values * VALUE_BYTES / plan.tp,
                group=plan.cp,
                tier="tensor",
                stride=plan.tp,
                slice_chips=plan.joined,
            )
        )
    return tuple(exchanges)


def stage_sends(model: Architecture, plan: TrainingPlan) -> tuple[Exchange, ...]:
    """Activations that one stage sends for one microbatch, forward and backward."""
    if not np.any(np.asarray(plan.pp) > 1):
        return ()
    tokens = plan.microbatch * plan.length / plan.cp
    return (
        Exchange(
            name="to the next stage",
            kind="send",
            count=2.0 * plan.interleave,
            bytes=tokens * model.width * VALUE_BYTES / plan.tp,
            group=np.where(np.asarray(plan.pp) > 1, 2.0, 1.0),
            tier="stage",
            stride=plan.tp * plan.cp * plan.replicas,
            slice_chips=plan.joined,
        ),
    )


def replica_exchanges(model: Architecture, plan: TrainingPlan) -> list[tuple[str, bool, tuple[Exchange, ...]]]:
    """Tuples (phase that overlaps the exchanges, whether they repeat for every microbatch, exchanges)."""
    layers = model.depth / plan.pp
    whole = split_parameters(model, plan, 1.0)
    inner = plan.tp * plan.cp

    def among(name: str, kind: str, size: Quantity, group: Quantity, stride: Quantity) -> Exchange:
        return Exchange(
            name=name,
            kind=kind,
            count=layers,
            bytes=size / layers,
            group=group,
            tier="data",
            stride=stride,
            slice_chips=plan.joined,
        )

    phases: list[tuple[str, bool, tuple[Exchange, ...]]] = []
    if np.any(np.asarray(plan.fsdp) > 1):
        gather = among("parameters", "all-gather", whole * plan.parameter_bytes, plan.fsdp, inner)
        scatter = among("gradients", "reduce-scatter", whole * plan.gradient_bytes, plan.fsdp, inner)
        phases += [("forward", True, (gather,)), ("backward", True, (gather, scatter))]
    over = plan.dp * plan.cp
    if np.any(np.asarray(over) > 1):
        share, stride = whole / plan.fsdp, plan.tp * plan.fsdp
        if plan.zero1:
            scatter = among("gradients", "reduce-scatter", share * plan.gradient_bytes, over, stride)
            gather = among("parameters", "all-gather", share * plan.parameter_bytes, over, stride)
            phases += [("backward", False, (scatter,)), ("forward", False, (gather,))]
        else:
            total = among("gradients", "all-reduce", share * plan.gradient_bytes, over, stride)
            phases.append(("backward", False, (total,)))
    return phases
