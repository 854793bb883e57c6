"""One chip's share of an operation.

Symbols: n chips of a tensor-parallel group, ep groups of experts.

    matmul      rows / r, columns / c, depth / d of the whole; activation bytes follow
    attention   heads / n, or sequences / n; if there are fewer than n key/value heads they are replicated
    experts     (E + redundant copies) / ep slots, each split over the chips of its group; the busiest group's load
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.parallel.balance import busiest_load
from flashstill.parallel.layout import Layout
from flashstill.workload import Attention, Experts, IndexScores, Matmul, Quantity, SmallKernels, State, is_any


def part(operation: Matmul, rows: Quantity = 1.0, columns: Quantity = 1.0, depth: Quantity = 1.0) -> Matmul:
    """A matmul with its dimensions divided by `rows`, `columns` and `depth`."""
    return replace(
        operation,
        rows=operation.rows / rows,
        columns=operation.columns / columns,
        depth=operation.depth / depth,
    )


def split_columns(operation: Matmul, chips: Quantity) -> Matmul:
    """One chip's share of a matmul: split by columns or by weight rows, as `operation.split` says."""
    if operation.split == "none":
        return operation
    if operation.split == "rows":
        return replace(operation, depth=operation.depth / chips)
    return replace(operation, columns=operation.columns / chips)


def split_attention(operation: Attention, heads: Quantity, sequences: Quantity = 1.0) -> Attention:
    """Attention split by heads over `heads` chips and by sequences over `sequences`; at least one of each per chip."""
    kv_share = np.minimum(heads, operation.kv_heads)
    most = np.minimum(sequences, np.maximum(operation.sequences, 1.0))
    return replace(
        operation,
        sequences=operation.sequences / most,
        heads=operation.heads / heads,
        kv_heads=operation.kv_heads / kv_share,
        kv_values=operation.kv_values / kv_share,
    )


def split_experts(operation: Experts, layout: Layout) -> Experts:
    """One chip's experts; it receives the tokens of all dp groups of its stage.

    local_experts: of the chip without redundant copies, which share the tokens of an expert; copies: all its slots.
    load: tokens of the busiest group of experts, for which the others wait, relative to the mean.
    remote: with dp = 1 every chip holds all tokens, so its kernels step over the pairs of other chips' experts; with
    dp > 1 an all-to-all brings only those of its own.
    """
    tokens = operation.tokens * layout.dp / layout.uneven
    elsewhere = operation.tokens * operation.chosen * (1.0 - 1.0 / np.asarray(layout.ep, dtype=np.float64))
    mine = replace(
        operation,
        tokens=tokens,
        remote=np.where(np.asarray(layout.dp) == 1, elsewhere, 0.0),
        local_experts=operation.local_experts / layout.ep,
        ffn_width=operation.ffn_width / layout.expert_tp,
    )
    if not is_any(np.asarray(layout.ep) > 1):
        return mine
    return replace(
        mine,
        copies=1.0 + layout.redundant / operation.experts,
        load=1.0 if layout.balanced else busiest_load(operation, tokens, layout.ep, layout.redundant),
    )


def split_state(operation: State, chips: Quantity) -> State:
    """A recurrent mixer split by heads over `chips` chips."""
    return replace(
        operation,
        state_values=operation.state_values / chips,
        weight_values=operation.weight_values / chips,
        blocks=operation.blocks / chips,
        state_flops=operation.state_flops / chips,
        activation_bytes=operation.activation_bytes / chips,
    )


def split_small(operation: SmallKernels, chips: Quantity) -> SmallKernels:
    """The small kernels of one chip's share of the heads."""
    return replace(operation, headed_bytes=operation.headed_bytes / chips)


def split_scores(operation: IndexScores, heads: Quantity, sequences: Quantity = 1.0) -> IndexScores:
    """An indexer split by sequences, and by heads unless all its heads select tokens for every query head."""
    most = np.minimum(sequences, np.maximum(operation.sequences, 1.0))
    over = 1.0 if operation.shared else np.minimum(heads, operation.heads)
    return replace(operation, sequences=operation.sequences / most, heads=operation.heads / over)
