"""Operations of a decode step and of a prefill.

Symbols: B sequences, S cached tokens each, q new tokens each (1, or more when drafts are verified), L prompt tokens,
T tokens in the matrix products (decode B q, prefill B L), d width, h/g query/KV heads, f FFN width.

    decode attention    pairs q (S + (q+1)/2), reads S and writes q tokens of cache
    causal prefill      pairs L (L+1)/2

A window w, or an indexer that keeps the best w, replaces S by min(S, w) and removes pairs of a prompt (`attended`).
"""

from __future__ import annotations

from flashstill.arch import Architecture
from flashstill.workload.blocks import blocks
from flashstill.workload.operations import Operation, Quantity, Widths, matmul
from flashstill.workload.seen import NewTokens


def decode(
    model: Architecture,
    batch: Quantity,
    context: Quantity,
    widths: Widths | None = None,
    queries: Quantity = 1.0,
    skew: float = 0.0,
) -> tuple[Operation, ...]:
    """One decode step: `queries` new tokens for each of `batch` sequences with `context` cached tokens."""
    widths = widths or Widths()
    new = NewTokens(sequences=batch, queries=queries, past=context, prompt=False)
    return (*blocks(model, new, widths, skew), *ends(model, new.tokens, new.tokens, widths))


def prefill(
    model: Architecture,
    batch: Quantity,
    length: Quantity,
    widths: Widths | None = None,
    past: Quantity = 0.0,
    skew: float = 0.0,
) -> tuple[Operation, ...]:
    """Prefill of `batch` prompts of `length` tokens after `past` cached ones; logits of the last position only."""
    widths = widths or Widths()
    new = NewTokens(sequences=batch, queries=length, past=past, prompt=True)
    return (*blocks(model, new, widths, skew), *ends(model, new.tokens, batch, widths))


def ends(model: Architecture, tokens: Quantity, sampled: Quantity, widths: Widths) -> tuple[Operation, ...]:
    """Embedding of `tokens` tokens, and the LM head on `sampled` of them."""
    return (
        Operation(name="embedding", activation_bytes=2.0 * model.width * widths.activation * tokens),
        matmul("LM head", sampled, model.vocabulary, model.width, widths, "exact"),
    )
