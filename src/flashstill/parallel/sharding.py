"""One chip's share of every operation, and the collectives that the sharding requires.

    1D weight-stationary    columns then rows: one all-reduce of T d values after each pair (Pope et al. 2022, 3.2.1)
    2D weight-stationary    both dimensions (3.2.2), in parallel/weights.py
    weights gathered        every chip gathers the weights and keeps its tokens (3.2.3), in parallel/weights.py
    attention by sequences  queries reshard from heads to sequences and back: two all-to-alls of T h e / n values (3.3)
    experts over dp groups  tokens are sent to experts and back: two all-to-alls of T c d / n values per chip

c: expert groups that receive a token: at most its k experts, on average Z (1 - (1 - 1/Z)^k) of Z groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from flashstill.parallel.exchange import Exchange, Sharded, among
from flashstill.parallel.layout import Layout
from flashstill.parallel.local import (
    split_attention,
    split_columns,
    split_experts,
    split_scores,
    split_small,
    split_state,
)
from flashstill.parallel.weights import gathered, two_dimensional
from flashstill.workload import (
    Attention,
    Experts,
    IndexScores,
    Matmul,
    Operation,
    Quantity,
    SmallKernels,
    State,
    is_any,
)


def shard(operations: Iterable[Operation], layout: Layout) -> Sharded:
    """Split `operations`, which hold the tokens of one tensor-parallel group, over its chips.

    Exchanges of experts come last, as do the seconds of experts in a sum of them.
    """
    everything = tuple(operations)
    if layout.dense is not None:
        return _shared(everything, layout, layout.dense)
    if layout.ffn == "2d":
        mine, exchanges = two_dimensional(everything, layout)
    elif layout.ffn == "gathered":
        mine, exchanges = gathered(everything, layout)
    else:
        mine = [_local(operation, layout) for operation in everything]
        exchanges = [exchange for operation in experts_last(everything) for exchange in _sums(operation, layout)]
    for operation in everything:
        if isinstance(operation, Attention) and layout.ffn != "gathered":
            exchanges += _by_sequences(operation, layout)
        if isinstance(operation, Experts):
            exchanges += _to_experts(operation, layout)
    return Sharded(operations=tuple(mine), exchanges=tuple(exchanges))


def experts_last(operations: Iterable[Operation]) -> list[Operation]:
    """Operations in order, but those of experts after the others."""
    return sorted(operations, key=lambda operation: isinstance(operation, Experts))


def _shared(operations: tuple[Operation, ...], layout: Layout, dense: Layout) -> Sharded:
    """The work of experts of all layouts, and that of other operations once for all layouts that share it."""
    routed = [operation for operation in operations if isinstance(operation, Experts)]
    every = [replace(one, tokens=layout.each(one.tokens), reduce_bytes=layout.each(one.reduce_bytes)) for one in routed]
    mine = shard(every, replace(layout, dense=None, at=None, shared=None))
    others = shard([operation for operation in operations if not isinstance(operation, Experts)], dense)
    return replace(mine, dense=others, at=layout.at)


def _local(operation: Operation, layout: Layout) -> Operation:
    if isinstance(operation, Matmul):
        return split_columns(operation, layout.tp)
    if isinstance(operation, Attention | IndexScores):
        heads, sequences = (1.0, layout.tp) if layout.shard_batch else (layout.tp, 1.0)
        if isinstance(operation, IndexScores):
            return split_scores(operation, heads, sequences)
        return split_attention(operation, heads, sequences)
    if isinstance(operation, SmallKernels):
        return split_small(operation, layout.tp)
    if isinstance(operation, Experts):
        return split_experts(operation, layout)
    return split_state(operation, layout.tp) if isinstance(operation, State) else operation


def _sums(operation: Operation, layout: Layout) -> list[Exchange]:
    """Reduction of a layer's partial results; with dp > 1 the all-to-all has already reduced those of experts."""
    size = operation.reduce_bytes
    if not is_any(size):
        return []
    sizes = {"all-reduce": size}
    if isinstance(operation, Experts):
        travelled = np.asarray(layout.dp) > 1
        sizes = {"all-reduce": np.where(travelled, 0.0, size), "all-gather": np.where(travelled, size, 0.0)}
    exchanges = []
    for kind, size in sizes.items():
        if is_any(size):
            exchanges += among(
                layout.tp,
                Exchange(
                    name=operation.name,
                    kind=kind,
                    count=operation.count,
                    bytes=size,
                    group=layout.tp,
                    tier="tensor",
                ),
            )
    return exchanges


def _by_sequences(operation: Attention, layout: Layout) -> list[Exchange]:
    if not layout.shard_batch:
        return []
    return among(
        layout.tp,
        Exchange(
            name="heads to sequences",
            kind="all-to-all",
            count=2.0 * operation.count,
            bytes=operation.activation_bytes / layout.tp / 2.0,
            group=layout.tp,
            tier="tensor",
        ),
    )


def _to_experts(operation: Experts, layout: Layout) -> list[Exchange]:
    # Tokens go out in the format in which experts multiply, and their sums come back in that of activations.
    narrow = (operation.input_value_bytes / operation.activation_value_bytes + 1.0) / 2.0
    stream = np.maximum(operation.reduce_bytes, operation.tokens * operation.width * 2.0) * narrow
    sent = stream * copies(operation.chosen, layout.ep) / layout.tp
    return among(
        layout.dp,
        Exchange(
            name="tokens to experts and back",
            kind="all-to-all",
            count=2.0 * operation.count,
            bytes=np.where(np.asarray(layout.dp) > 1, sent, 0.0),
            group=layout.tp * layout.dp,
            tier="expert",
        ),
    )


def to_next_stages(layout: Layout, width: int, tokens: Quantity) -> tuple[Exchange, ...]:
    """Sends of a step of `tokens` tokens through all stages of a pipeline: 16-bit activations."""
    if not is_any(np.asarray(layout.pp) > 1):
        return ()
    return (
        Exchange(
            name="to the next stage",
            kind="send",
            count=layout.pp - 1.0,
            bytes=tokens * width * 2.0 / layout.tp,
            group=np.where(np.asarray(layout.pp) > 1, 2.0, 1.0),
            tier="stage",
        ),
    )


def copies(chosen: Quantity, groups: Quantity) -> Quantity:
    """Expected number of expert groups, of `groups`, that hold at least one of a token's `chosen` random experts."""
    share = np.maximum(1.0 - 1.0 / np.asarray(groups, dtype=np.float64), 0.0)
    spread = groups * (1.0 - share**chosen)
    return np.minimum(chosen, spread)
