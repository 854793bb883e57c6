"""Operations of one block: mixer and FFN, in a decode step, a prefill, or a step that mixes both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from flashstill.arch import Architecture, Layer
from flashstill.arch.model import Mixer
from flashstill.workload.experts import Experts
from flashstill.workload.mixers import LATENT_FORMS, mix
from flashstill.workload.operations import Matmul, Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens


def blocks(model: Architecture, new: Sequence[NewTokens], widths: Widths, skew: float) -> list[Operation]:
    """All blocks on new tokens of one or several kinds. skew: of the load of experts (experts.py)."""
    tokens = _total([each.tokens for each in new])
    streams = [model.width * widths.activation * each.tokens for each in new]
    mixing: dict[Mixer, list[Operation]] = {}
    operations: list[Operation] = []
    for layer in model.layers:
        if layer.attention not in mixing:
            mixing[layer.attention] = _mixing(model.width, layer.attention, new, widths)
        operations += _block(model, layer, mixing[layer.attention], tokens, streams, widths, skew)
    return operations


def _block(
    model: Architecture,
    layer: Layer,
    mixing: Sequence[Operation],
    tokens: Quantity,
    streams: Sequence[Quantity],
    widths: Widths,
    skew: float,
) -> list[Operation]:
    """`layer.count` blocks on `tokens` tokens. streams: bytes of the residual stream of each kind of tokens."""
    feeding = _feed_forward(model.width, layer, tokens, widths, skew)
    # A parallel block sums both branches before one all-reduce; a serial block all-reduces after each branch.
    last = (feeding[-1],) if layer.parallel and feeding else (mixing[-1], *feeding[-1:])
    moved = (3.0 if layer.parallel or not feeding else 6.0) * layer.streams
    norms = Operation(name="norms and residuals", activation_bytes=_total([moved * stream for stream in streams]))
    beside = []
    if layer.side_weights:
        beside = [
            matmul("side branches", tokens, layer.side_weights / model.width, model.width, widths, "exact", "none")
        ]
    summed = _total(streams)
    return [
        replace(one, count=one.count * layer.count, reduce_bytes=summed if any(one is each for each in last) else 0.0)
        for one in (*mixing, *feeding, *beside, norms)
    ]


def _total(amounts: Sequence[Quantity]) -> Quantity:
    """Their sum; that of one is itself."""
    first, *others = amounts
    return sum(others, start=first)


def _mixing(width: int, mixer: Mixer, new: Sequence[NewTokens], widths: Widths) -> list[Operation]:
    """A mixer on all kinds of tokens: products that treat them alike on the tokens of all, the others one by one."""
    operations = mix(width, mixer, new[0], widths)
    if len(new) > 1:
        operations = _counted(operations, new[0].tokens)
    for each in new[1:]:
        operations = _joined(operations, _counted(mix(width, mixer, each, widths), each.tokens))
    return operations


def _counted(operations: list[Operation], tokens: Quantity) -> list[Operation]:
    """A mixer's operations on one kind of tokens; without tokens, those that are not shared get count 0."""
    there = np.asarray(tokens) > 0
    if there.all():
        return operations
    return [
        operation if _is_shared(operation) else replace(operation, count=operation.count * there.astype(np.float64))
        for operation in operations
    ]


def _is_shared(operation: Operation) -> TypeGuard[Matmul]:
    """Whether an operation treats all kinds of tokens alike, so that they can share it."""
    return isinstance(operation, Matmul) and operation.name not in LATENT_FORMS


def _joined(ours: Sequence[Operation], theirs: Sequence[Operation]) -> list[Operation]:
    """One mixer on two kinds of tokens, in order: shared products on the tokens of both, others one after another."""
    operations: list[Operation] = []
    rest = iter(theirs)
    for operation in ours:
        if not _is_shared(operation):
            operations.append(operation)
            continue
        for other in rest:
            if _is_shared(other):
                assert other.name == operation.name
                operations.append(replace(operation, rows=operation.rows + other.rows))
                break
            operations.append(other)
    return [*operations, *rest]


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
