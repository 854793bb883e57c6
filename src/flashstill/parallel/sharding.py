"""One chip's part of every operation, and the collectives that the split asks for.

1D weight-stationary    columns then rows: one all-reduce of T d values after each pair (Pope et al. 2022, 3.2.1)
2D weight-stationary    both dimensions: 8 T d / sqrt(n) values at the best aspect (3.2.2, f = 4 d)
weights gathered        every chip gathers the weights and keeps its tokens: 4 d sqrt(T f / n) at the best degree (3.2.3)
experts over dp groups  tokens travel: all-to-all out and back, T k d / n values each way a chip
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from flashstill.parallel.layout import Layout
from flashstill.workload import Attention, Experts, Matmul, Operation, Quantity, State


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A collective among `group` chips. bytes: of the whole array for reductions, sent by one chip for all-to-all.

    passes: how many times one chip sends (group-1)/group of it: 2 for an all-reduce, 1 for a gather.
    tier: "tensor" within a tensor-parallel group, "expert" among all chips of a stage, "stage" to the next stage.
    """

    name: str
    kind: str
    count: Quantity
    bytes: Quantity
    group: Quantity
    tier: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharded:
    """What one chip computes and what it exchanges."""

    operations: tuple[Operation, ...]
    exchanges: tuple[Exchange, ...]


def shard(operations: Iterable[Operation], layout: Layout) -> Sharded:
    """Split `operations`, which hold the tokens of one tensor-parallel group, over its chips."""
    mine, exchanges = [], []
    for operation in operations:
        mine.append(_local(operation, layout))
        exchanges += _exchanges(operation, layout)
    return Sharded(operations=tuple(mine), exchanges=tuple(exchanges))


def _local(operation: Operation, layout: Layout) -> Operation:
    tp = layout.tp
    if isinstance(operation, Matmul):
        if operation.split == "none":
            return operation
        if operation.split == "rows":
            return replace(operation, depth=operation.depth / tp, activation_bytes=operation.activation_bytes)
        return replace(operation, columns=operation.columns / tp)
    if isinstance(operation, Attention):
        return _local_attention(operation, layout)
    if isinstance(operation, Experts):
        tokens = operation.tokens * layout.dp
        return replace(
            operation,
            tokens=tokens,
            held=operation.held / layout.ep,
            ffn_width=operation.ffn_width / layout.expert_tp,
            activation_bytes=operation.activation_bytes * layout.dp / layout.ep,
        )
    if isinstance(operation, State):
        return replace(
            operation,
            state_values=operation.state_values / tp,
            state_flops=operation.state_flops / tp,
        )
    return operation


def _local_attention(operation: Attention, layout: Layout) -> Attention:
    tp = layout.tp
    activation = operation.activation_bytes / tp
    if layout.shard_batch:
        return replace(operation, sequences=operation.sequences / tp, activation_bytes=activation)
    # Fewer key/value heads than chips: each head is held by tp / kv_heads chips.
    kv_share = np.minimum(tp, operation.kv_heads)
    return replace(
        operation,
        heads=operation.heads / tp,
        kv_heads=operation.kv_heads / kv_share,
        kv_values=operation.kv_values / kv_share,
        activation_bytes=activation,
    )


def _exchanges(operation: Operation, layout: Layout) -> list[Exchange]:
    tp, found = layout.tp, []
    if np.any(np.asarray(operation.reduce_bytes) > 0) and np.any(np.asarray(tp) > 1):
        size, kind = operation.reduce_bytes, "all-reduce"
        if layout.ffn == "2d" and isinstance(operation, Matmul):
            # 8 T d / sqrt(n) sent in place of the 2 x 2 T d (n-1)/n of the two 1D sums of a block
            size, kind = size * 2.0 / np.sqrt(tp), "all-reduce"
        found.append(
            Exchange(name=operation.name, kind=kind, count=operation.count, bytes=size, group=tp, tier="tensor")
        )
    if isinstance(operation, Attention) and layout.shard_batch and np.any(np.asarray(tp) > 1):
        found.append(
            Exchange(
                name="heads to sequences",
                kind="all-to-all",
                count=2.0 * operation.count,
                bytes=operation.activation_bytes / tp / 2.0,
                group=tp,
                tier="tensor",
            )
        )
    if isinstance(operation, Experts) and np.any(np.asarray(layout.dp) > 1):
        width_bytes = operation.reduce_bytes if np.any(np.asarray(operation.reduce_bytes) > 0) else 0.0
        sent = np.maximum(width_bytes, operation.tokens * operation.width * 2.0) * operation.chosen / tp
        found.append(
            Exchange(
                name="tokens to experts and back",
                kind="all-to-all",
                count=2.0 * operation.count,
                bytes=np.where(np.asarray(layout.dp) > 1, sent, 0.0),
                group=layout.tp * layout.dp,
                tier="expert",
            )
        )
    return found
