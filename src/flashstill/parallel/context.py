"""One sequence over several groups of chips (context parallelism), and the exchanges that this requires.

Symbols: a sequence of L tokens in c parts, each on a tensor-parallel group; v cached values per token and layer;
B sequences of q new tokens, h heads of key width e_k and value width e_v.

    prefill   a part computes L/c tokens, half of them from either end of the sequence, so that every part has the same
              number of causal pairs, and its share of the cache stays where it was computed
              full attention      all parts need all keys and values:  all-gather of L v values, at once or as a ring
                                  that passes blocks on while they are attended to (Liu et al. 2023, arXiv 2310.01889);
                                  a ring makes c partial results of every query, which are written, read and merged
                                  (Yang et al. 2024, arXiv 2411.01783, appendix B)
              window of w tokens  the w tokens before each of a part's two halves: a send of min(2 w, L (c-1)/c)
              recurrence          the states in which the c parts end: an all-gather of c states
              MLA                 latent vectors are sent; every part expands keys and values of all L tokens
    decode    every part attends to its L/c tokens for all heads of its chips, and the parts' results are summed
              (Bhatia et al. 2025, arXiv 2507.07120):  all-gather of B q h e_k values of queries, reduce-scatter of
              B q h (e_v + 2) values (two for the softmax); everything but attention is split over all chips

Experts are spread over the groups as over data-parallel replicas, which the parts are for all but the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture, Layer, LinearAttention
from flashstill.arch import Attention as GroupedAttention
from flashstill.arch.model import Mixer
from flashstill.parallel.exchange import Exchange, among
from flashstill.parallel.local import split_attention, split_scores
from flashstill.workload import Attention, IndexScores, Matmul, Operation, Quantity, Widths, state_bytes
from flashstill.workload.mixers import LATENT_FORMS

HALVES = 2.0
"""slices of a sequence per part, one from either end"""
SOFTMAX_VALUES = 2.0
"""values per head and query that rescale a partial result: the greatest logit and the sum of exponentials"""
TIER = "context"
KEYS_AND_VALUES = "keys and values"
"""the exchange that a ring hides"""
_EXPANDED = LATENT_FORMS[0]


def cached_before(tokens: Quantity, parts: Quantity) -> Quantity:
    """Tokens before those of a part, on average over its queries' causal pairs: their sum is that of the sequence."""
    return (tokens - tokens / parts) / 2.0


def prefill_of_a_part(operations: Iterable[Operation], parts: Quantity) -> list[Operation]:
    """The operations of a part's tokens, with keys and values of all parts' tokens expanded (MLA)."""
    return [
        replace(operation, rows=operation.rows * parts)
        if isinstance(operation, Matmul) and operation.name == _EXPANDED
        else operation
        for operation in operations
    ]


def prefill_exchanges(
    model: Architecture, widths: Widths, tp: Quantity, parts: Quantity, tokens: Quantity
) -> list[Exchange]:
    """What the parts of a prompt of `tokens` send each other, per chip."""
    exchanges: list[Exchange] = []
    for layer in model.layers:
        mixer = layer.attention
        per_token = mixer.kv_values_per_token * widths.kv / _cache_shards(mixer, tp)
        elsewhere = tokens * (parts - 1.0) / parts
        near = None if mixer.window is None else np.minimum(HALVES * mixer.window, elsewhere)
        candidates = [
            _exchange(KEYS_AND_VALUES, "all-gather", layer.count, tokens * per_token, tp, parts)
            if near is None
            else _exchange("keys and values of the window", "send", layer.count, near * per_token, tp, parts)
        ]
        state = state_bytes(mixer, widths) / tp if isinstance(mixer, LinearAttention) else 0.0
        if np.any(state):
            candidates.append(_exchange("states", "all-gather", layer.count, state * parts, tp, parts))
        exchanges += among(parts, *(each for each in candidates if np.any(np.asarray(each.bytes) > 0)))
    return exchanges


def ring_layers(model: Architecture) -> tuple[Layer, ...]:
    """The layers whose keys and values all parts need: those without a window that cache tokens."""
    return tuple(
        layer
        for layer in model.layers
        if layer.attention.window is None and not isinstance(layer.attention, LinearAttention)
    )


def merging(operation: Attention, parts: Quantity) -> Operation:
    """Writing and reading the partial results of a chip's prompt attention, one of each query and part of a ring."""
    values = operation.sequences * operation.queries * operation.heads * (operation.value_width + SOFTMAX_VALUES)
    moved = 2.0 * parts * values * operation.activation_value_bytes
    return Operation(
        name="merging", count=operation.count, activation_bytes=np.where(np.asarray(parts) > 1, moved, 0.0)
    )


def decode_of_a_part(
    operations: Iterable[Operation], tp: Quantity, parts: Quantity
) -> tuple[list[Operation], list[Operation], list[Exchange]]:
    """A chip's attention over its part of the cache, the operations that are left to split, and the exchanges."""
    attending: list[Operation] = []
    rest: list[Operation] = []
    exchanges: list[Exchange] = []
    for operation in operations:
        if isinstance(operation, Attention):
            part = replace(operation, seen=operation.seen / parts, pairs=operation.pairs / parts)
            attending.append(split_attention(part, tp))
            exchanges += among(parts, *_partial_results(operation, tp, parts))
        elif isinstance(operation, IndexScores):
            part_of_scores = replace(operation, seen=operation.seen / parts, pairs=operation.pairs / parts)
            attending.append(split_scores(part_of_scores, tp))
        else:
            rest.append(operation)
    return attending, rest, exchanges


def _partial_results(operation: Attention, tp: Quantity, parts: Quantity) -> list[Exchange]:
    heads = operation.sequences * operation.queries * operation.heads / tp * operation.activation_value_bytes
    results = heads * (operation.value_width + SOFTMAX_VALUES)
    return [
        _exchange("queries", "all-gather", operation.count, heads * operation.key_width, tp, parts),
        _exchange("partial results", "reduce-scatter", operation.count, results, tp, parts),
    ]


def _exchange(name: str, kind: str, count: Quantity, size: Quantity, tp: Quantity, parts: Quantity) -> Exchange:
    return Exchange(
        name=name,
        kind=kind,
        count=count,
        bytes=np.where(np.asarray(parts) > 1, size, 0.0),
        group=parts,
        tier=TIER,
        stride=tp,
        slice_chips=tp * parts,
    )


def _cache_shards(mixer: Mixer, tp: Quantity) -> Quantity:
    """Chips of a tensor-parallel group that hold different cached values: latent vectors are on all of them."""
    return np.minimum(tp, float(mixer.kv_heads)) if isinstance(mixer, GroupedAttention) else 1.0
