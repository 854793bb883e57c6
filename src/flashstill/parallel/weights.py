"""Projections with weights split in both dimensions, or gathered (Pope et al. 2022, section 3.2).

Symbols: n chips, T tokens, d width of the residual stream, f of the hidden layer, X chips over d and n/X over f, N_g
chips that gather.  Values exchanged per chip for one FFN of two matrices:

    2D        2 T (d/X + f X/n),        least at X = sqrt(n d/f):   8 T d / sqrt(n) for f = 4 d
    gathered  2 d f N_g/n + 2 T d/N_g,  least at N_g = sqrt(T n/f): 4 d sqrt(T f / n)

The code sums over the actual matrices (a gate doubles one term, attention heads add theirs) and rounds both degrees to
powers of two.  In 2D the stream between blocks stays split over all chips, so a sum over n/X chips is a reduce-scatter
after one block and an all-gather before the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flashstill.parallel.exchange import Exchange, among
from flashstill.parallel.layout import Layout
from flashstill.parallel.local import (
    part,
    split_attention,
    split_columns,
    split_experts,
    split_scores,
    split_small,
    split_state,
)
from flashstill.workload import (
    Attention,
    Experts,
    IndexScores,
    Matmul,
    Operation,
    Quantity,
    SmallKernels,
    State,
)

Parts = tuple[list[Operation], list[Exchange]]


def two_dimensional(operations: Sequence[Operation], layout: Layout) -> Parts:
    """Every projection split over X chips along the residual width and n/X along the hidden width."""
    chips = layout.tp
    across = width_chips(operations, chips)
    along = chips / across
    mine: list[Operation] = []
    exchanges: list[Exchange] = []
    for operation in operations:
        if isinstance(operation, Matmul) and operation.split != "none" and operation.role != "exact":
            first = operation.split == "columns"
            mine.append(
                part(operation, columns=along, depth=across) if first else part(operation, columns=across, depth=along)
            )
            hidden = _value_bytes(operation) * (operation.columns if first else operation.depth) / along
            kind = "reduce-scatter" if first else "all-gather"
            exchanges += _exchange(operation, kind, hidden, across, 1.0, chips)
        elif isinstance(operation, Matmul):
            mine.append(split_columns(operation, chips))
        else:
            mine.append(_other(operation, layout, chips))
        stream = np.asarray(operation.reduce_bytes / across)
        if np.any(stream > 0):
            exchanges += _exchange(operation, "reduce-scatter", stream, along, across, chips)
            exchanges += _exchange(operation, "all-gather", stream, along, across, chips)
            # RMSNorm of a stream split over chips all-reduces the sum of squares: 4 bytes a token.
            exchanges += _exchange(operation, "all-reduce", 4.0 * _tokens(operation), across, 1.0, chips)
    return mine, exchanges


def width_chips(operations: Sequence[Operation], chips: Quantity) -> Quantity:
    """X: number of chips along the residual width; the power of two nearest to the minimum traffic."""
    stream: Quantity = 0.0
    hidden: Quantity = 0.0
    for operation in operations:
        stream = stream + 2.0 * operation.count * operation.reduce_bytes
        if isinstance(operation, Matmul) and operation.split != "none" and operation.role != "exact":
            wide = operation.columns if operation.split == "columns" else operation.depth
            hidden = hidden + operation.count * _value_bytes(operation) * wide
    return _power_of_two(np.sqrt(chips * stream / np.maximum(hidden, 1e-30)), chips)


def gathered(operations: Sequence[Operation], layout: Layout) -> Parts:
    """Tokens split over N_g chips, which gather the weights; the remaining factor n/N_g splits the weights in 1D."""
    chips = layout.tp
    gather = np.asarray(layout.gather if np.any(np.asarray(layout.gather)) else gather_chips(operations, chips))
    rest = chips / gather
    mine: list[Operation] = []
    exchanges: list[Exchange] = []
    for operation in operations:
        local, weights = _gathering(operation, gather, rest)
        mine.append(local)
        exchanges += _exchange(operation, "all-gather", weights, gather, rest, chips)
        exchanges += _exchange(operation, "all-reduce", operation.reduce_bytes / gather, rest, 1.0, chips)
    return mine, exchanges


def _gathering(operation: Operation, gather: Quantity, rest: Quantity) -> tuple[Operation, Quantity]:
    """One chip's share of an operation, and the bytes of weights it gathers for it."""
    if isinstance(operation, Matmul):
        product = part(split_columns(operation, rest), rows=gather)
        return product, product.weight_bytes
    if isinstance(operation, Attention):
        return split_attention(operation, rest, gather), 0.0
    if isinstance(operation, IndexScores):
        return split_scores(operation, rest, gather), 0.0
    if isinstance(operation, SmallKernels):
        small = split_small(operation, rest)
        headed, shared = small.headed_bytes / gather, small.shared_bytes / gather
        return replace(small, headed_bytes=headed, shared_bytes=shared), 0.0
    if isinstance(operation, Experts):
        width = operation.ffn_width / rest
        routed = replace(operation, tokens=operation.tokens / gather, ffn_width=width)
        # Routing is not known in advance, so the weights of all experts are gathered.
        return routed, operation.matrices * operation.width * width * operation.local_experts * operation.value_bytes
    if isinstance(operation, State):
        mine = split_state(operation, rest)
        return replace(
            mine,
            sequences=mine.sequences / gather,
            state_flops=mine.state_flops / gather,
            activation_bytes=mine.activation_bytes / gather,
        ), 0.0
    return replace(operation, activation_bytes=operation.activation_bytes / gather), 0.0


def gather_chips(operations: Sequence[Operation], chips: Quantity) -> Quantity:
    """N_g: number of chips over which weights are gathered; the power of two nearest to the minimum traffic."""
    weights: Quantity = 0.0
    stream: Quantity = 0.0
    for operation in operations:
        weights = weights + operation.count * operation.weight_bytes
        stream = stream + 2.0 * operation.count * operation.reduce_bytes
    return _power_of_two(np.sqrt(chips * stream / np.maximum(weights, 1e-30)), chips)


def _other(operation: Operation, layout: Layout, chips: Quantity) -> Operation:
    if isinstance(operation, Attention):
        heads, sequences = (1.0, chips) if layout.shard_batch else (chips, 1.0)
        return split_attention(operation, heads, sequences)
    if isinstance(operation, IndexScores):
        return split_scores(operation, *((1.0, chips) if layout.shard_batch else (chips, 1.0)))
    if isinstance(operation, SmallKernels):
        return split_small(operation, chips)
    if isinstance(operation, Experts):
        return split_experts(operation, layout)
    if isinstance(operation, State):
        return split_state(operation, chips)
    # Norms and residuals act on the stream, which is split over all chips.
    return replace(operation, activation_bytes=operation.activation_bytes / chips)


def _exchange(
    operation: Operation, kind: str, size: Quantity, group: Quantity, stride: Quantity, chips: Quantity
) -> list[Exchange]:
    if not np.any(np.asarray(size) > 0):
        return []
    return among(
        group,
        Exchange(
            name=operation.name,
            kind=kind,
            count=operation.count,
            bytes=size,
            group=group,
            tier="tensor",
            stride=stride,
            slice_chips=chips,
        ),
    )


def _tokens(operation: Operation) -> Quantity:
    if isinstance(operation, Experts):
        return operation.tokens
    return operation.rows if isinstance(operation, Matmul) else 0.0


def _value_bytes(operation: Matmul) -> Quantity:
    """Bytes of one column of output activations, over all rows."""
    return operation.rows * operation.output_value_bytes


def _power_of_two(degree: Quantity, most: Quantity) -> Quantity:
    rounded: Quantity = np.exp2(np.round(np.log2(np.maximum(degree, 1.0))))
    return np.minimum(rounded, most)
