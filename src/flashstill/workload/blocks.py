"""Operations of one block: mixer and FFN, in a decode step, a prefill, or a step that mixes both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeGuard

import numpy as np

from flashstill.arch import Architecture, Layer
from flashstill.arch.model import Mixer
from flashstill.workload.experts import Experts
from flashstill.workload.mixers import LATENT_FORMS, mix
from flashstill.workload.operations import Matmul, Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens


class _Part(NamedTuple):
    """An operation of a block, how many times it is done, and whether its partial sums are reduced after it."""

    operation: Operation
    times: Quantity
    is_summed: bool = False


def blocks(model: Architecture, new: NewTokens, widths: Widths, skew: float) -> list[Operation]:
    """All blocks on new tokens, kind by kind. skew: of the load of experts (experts.py)."""
    return _operations(_parts(model, (new,), widths, skew), _streams(model, (new,), widths))


def blocks_once(model: Architecture, new: Sequence[NewTokens], widths: Widths, skew: float) -> list[Operation]:
    """All blocks on new tokens of several kinds; operations that several kinds of blocks share once."""
    found: dict[tuple[int, bool], _Part] = {}
    for part in _parts(model, new, widths, skew):
        key = id(part.operation), part.is_summed
        found[key] = part._replace(times=found[key].times + part.times) if key in found else part
    return _operations(found.values(), _streams(model, new, widths))


def _streams(model: Architecture, new: Sequence[NewTokens], widths: Widths) -> list[Quantity]:
    """Bytes of the residual stream of each kind of tokens."""
    return [model.width * widths.activation * each.tokens for each in new]


def _operations(parts: Iterable[_Part], streams: Sequence[Quantity]) -> list[Operation]:
    summed = _total(streams)
    return [
        replace(one, count=one.count * times, reduce_bytes=summed if is_summed else 0.0)
        for one, times, is_summed in parts
    ]


def _total(amounts: Sequence[Quantity]) -> Quantity:
    """Their sum; that of one is itself."""
    first, *others = amounts
    return sum(others, start=first)


def _parts(model: Architecture, new: Sequence[NewTokens], widths: Widths, skew: float) -> Iterator[_Part]:
    """What all blocks do, block by block; what several kinds of blocks do alike is the same object."""
    tokens = _total([each.tokens for each in new])
    streams, width = _streams(model, new, widths), model.width
    mixers: dict[Mixer, list[_Part]] = {}
    norms: dict[float, Operation] = {}
    for layer in model.layers:
        if layer.attention not in mixers:
            mixers[layer.attention] = _mixing(width, layer.attention, new, widths)
        mixing, feeding = mixers[layer.attention], _feed_forward(width, layer, tokens, widths, skew)
        moved = (3.0 if layer.parallel or not feeding else 6.0) * layer.streams
        if moved not in norms:
            moves = _total([moved * stream for stream in streams])
            norms[moved] = Operation(name="norms and residuals", activation_bytes=moves)
        # A parallel block sums both branches before one all-reduce; a serial block all-reduces after each branch.
        alone = not (layer.parallel and feeding)
        for place, part in enumerate(mixing, start=1):
            yield _Part(part.operation, part.times * layer.count, alone and place == len(mixing))
        for place, one in enumerate(feeding, start=1):
            yield _Part(one, layer.count, place == len(feeding))
        if layer.side_weights:
            wide = layer.side_weights / width
            yield _Part(matmul("side branches", tokens, wide, width, widths, "exact", "none"), layer.count)
        yield _Part(norms[moved], layer.count)


def _mixing(width: int, mixer: Mixer, new: Sequence[NewTokens], widths: Widths) -> list[_Part]:
    """A mixer on all kinds of tokens: products that treat them alike on the tokens of all, the others one by one."""
    parts = _counted(mix(width, mixer, new[0], widths), new[0].tokens if len(new) > 1 else 1.0)
    for each in new[1:]:
        parts = _joined(parts, _counted(mix(width, mixer, each, widths), each.tokens))
    return parts


def _counted(operations: list[Operation], tokens: Quantity) -> list[_Part]:
    """A mixer's operations on one kind of tokens; without tokens, those that are not shared get count 0."""
    there = np.asarray(tokens) > 0
    times: Quantity = 1 if there.all() else there.astype(np.float64)
    return [_Part(operation, 1 if _is_shared(operation) else times) for operation in operations]


def _is_shared(operation: Operation) -> TypeGuard[Matmul]:
    """Whether an operation treats all kinds of tokens alike, so that they can share it."""
    return isinstance(operation, Matmul) and operation.name not in LATENT_FORMS


def _joined(ours: Sequence[_Part], theirs: Sequence[_Part]) -> list[_Part]:
    """One mixer on two kinds of tokens, in order: shared products on the tokens of both, others one after another."""
    parts: list[_Part] = []
    rest = iter(theirs)
    for part in ours:
        mine = part.operation
        if not _is_shared(mine):
            parts.append(part)
            continue
        for other in rest:
            if _is_shared(other.operation):
                assert other.operation.name == mine.name
                parts.append(_Part(replace(mine, rows=mine.rows + other.operation.rows), 1))
                break
            parts.append(other)
    return [*parts, *rest]


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
