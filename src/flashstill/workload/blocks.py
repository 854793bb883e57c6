"""Operations of one block: mixer and FFN, in a decode step or a prefill."""

from __future__ import annotations

from dataclasses import replace

from flashstill.arch import Architecture, Layer
from flashstill.workload.experts import Experts
from flashstill.workload.mixers import mix
from flashstill.workload.operations import Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens


def block(
    model: Architecture,
    layer: Layer,
    new: NewTokens,
    widths: Widths,
    skew: float,
) -> list[Operation]:
    """`layer.count` blocks on new tokens. skew: of the load of experts (experts.py)."""
    tokens = new.tokens
    stream = model.width * widths.activation * tokens
    mixing = mix(model.width, layer.attention, new, widths)
    feeding = _feed_forward(model.width, layer, tokens, widths, skew)
    # A parallel block sums both branches before one all-reduce; a serial block all-reduces after each branch.
    summed = (feeding[-1],) if layer.parallel and feeding else (mixing[-1], *feeding[-1:])
    moved = (3.0 if layer.parallel or not feeding else 6.0) * layer.streams
    norms = Operation(name="norms and residuals", activation_bytes=moved * stream)
    beside = []
    if layer.side_weights:
        beside = [
            matmul("side branches", tokens, layer.side_weights / model.width, model.width, widths, "exact", "none")
        ]
    return [
        replace(one, count=one.count * layer.count, reduce_bytes=stream if any(one is last for last in summed) else 0.0)
        for one in (*mixing, *feeding, *beside, norms)
    ]


def _feed_forward(width: int, layer: Layer, tokens: Quantity, widths: Widths, skew: float) -> list[Operation]:
    ffn = layer.ffn
    operations: list[Operation] = []
    matrices = 3 if ffn.gated else 2
    if ffn.experts:
        operations.append(matmul("router", tokens, ffn.experts, width, widths, "exact", "none"))
        inner = ffn.latent_width or width
        if ffn.latent_width:
            operations.append(matmul("latent in", tokens, inner, width, widths, split="none"))
        operations.append(
            Experts(
                name="experts",
                tokens=tokens,
                experts=ffn.experts,
                chosen=ffn.experts_per_token,
                local_experts=float(ffn.experts),
                width=inner,
                ffn_width=ffn.width,
                matrices=matrices,
                value_bytes=widths.of("experts"),
                skew=skew,
                activation_value_bytes=widths.activation,
                input_value_bytes=widths.inputs_of("experts"),
            )
        )
        if ffn.latent_width:
            operations.append(matmul("latent out", tokens, width, inner, widths, split="none"))
    for name, wide in (("shared expert", ffn.shared_width), ("feed-forward", ffn.dense_width)):
        if wide:
            operations += _dense(name, width, wide, matrices, tokens, widths)
    if not ffn.experts and ffn.width:
        operations += _dense("feed-forward", width, ffn.width, matrices, tokens, widths)
    return operations


def _dense(name: str, width: int, ffn_width: int, matrices: int, tokens: Quantity, widths: Widths) -> list[Operation]:
    return [
        matmul(f"{name} in", tokens, (matrices - 1) * ffn_width, width, widths),
        matmul(f"{name} out", tokens, width, ffn_width, widths, split="rows"),
    ]
