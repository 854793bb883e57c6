"""Operations of a decode step and of a prefill.

Symbols: B sequences, S cached tokens each, q new tokens each (1, or more when drafts are verified), L prompt tokens,
T tokens that pass through the weights (decode B q, prefill B L), d width, h/g query/KV heads, f FFN width.

    decode attention    pairs q (S + (q+1)/2), reads S and writes q tokens of cache
    causal prefill      pairs L (L+1)/2, or less where a window w hides the oldest

A window w replaces S by min(S, w).
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture
from flashstill.workload.blocks import block, matmul
from flashstill.workload.operations import Operation, Quantity, Widths


def decode(
    model: Architecture,
    batch: Quantity,
    context: Quantity,
    widths: Widths | None = None,
    queries: Quantity = 1.0,
    skew: float = 0.0,
) -> tuple[Operation, ...]:
    """One decode step: `queries` new tokens for each of `batch` sequences that have `context` tokens cached."""
    widths = widths or Widths()
    operations: list[Operation] = []
    for layer in model.layers:
        window = layer.attention.window
        seen = context if window is None else np.minimum(context, float(window))
        pairs = queries * (seen + (queries + 1.0) / 2.0)
        operations += block(model, layer, batch, queries, seen, pairs, widths, prompt=False, skew=skew)
    return (*operations, *_ends(model, batch * queries, batch * queries, widths))


def prefill(
    model: Architecture,
    batch: Quantity,
    length: Quantity,
    widths: Widths | None = None,
    past: Quantity = 0.0,
    skew: float = 0.0,
) -> tuple[Operation, ...]:
    """`batch` prompts of `length` tokens in one pass after `past` cached ones; logits of the last position only."""
    widths = widths or Widths()
    operations: list[Operation] = []
    for layer in model.layers:
        window = layer.attention.window
        pairs = length * (length + 1.0) / 2.0 + length * past
        seen = past
        if window is not None:
            seen = np.minimum(past, float(window))
            beyond = np.maximum(length + past - float(window), 0.0)
            earlier = np.maximum(past - float(window), 0.0)
            pairs = pairs - beyond * (beyond + 1.0) / 2.0 + earlier * (earlier + 1.0) / 2.0
        operations += block(model, layer, batch, length, seen, pairs, widths, prompt=True, skew=skew)
    return (*operations, *_ends(model, batch * length, batch, widths))


def _ends(model: Architecture, tokens: Quantity, sampled: Quantity, widths: Widths) -> tuple[Operation, ...]:
    return (
        Operation(name="embedding", activation_bytes=2.0 * model.width * widths.activation * tokens),
        matmul("LM head", sampled, model.vocabulary, model.width, widths, "exact"),
    )
