"""Operations of a decode step and of a prefill.

Symbols: B sequences, S cached tokens each, L prompt tokens, T tokens that pass through the weights (decode B,
prefill B L), d width, h/g query/KV heads of width e, f FFN width, k of E experts.

    decode attention    4 B h e (S+1) FLOPs, reads B S 2 g e cached values, writes B 2 g e
    causal prefill      4 B h e L (L+1)/2 FLOPs, writes B L 2 g e
    routed experts      FLOPs of k experts a token; weights of the distinct experts that T tokens meet,
                        E (1 - (1 - k/E)^T), under uniform routing

A window w replaces S by min(S, w).
"""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture, Layer
from flashstill.workload.operations import Operation, Quantity, Widths


def decode(
    model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None
) -> tuple[Operation, ...]:
    """One decode step: a new token for each of `batch` sequences that have `context` tokens cached."""
    widths = widths or Widths()
    operations: list[Operation] = []
    for layer in model.layers:
        attention = layer.attention
        seen = context if attention.window is None else np.minimum(context, float(attention.window))
        flops = 4.0 * attention.heads * attention.head_width * batch * (seen + 1.0)
        cached = attention.kv_values_per_token * widths.kv * batch * (seen + 1.0)
        operations += _block(model, layer, batch, flops, cached, widths)
    return (*operations, *_ends(model, batch, batch, widths))


def prefill(
    model: Architecture, batch: Quantity, length: Quantity, widths: Widths | None = None
) -> tuple[Operation, ...]:
    """`batch` prompts of `length` tokens in one pass; logits of the last position only."""
    widths = widths or Widths()
    tokens = batch * length
    operations: list[Operation] = []
    for layer in model.layers:
        attention = layer.attention
        pairs = length * (length + 1.0) / 2.0
        if attention.window is not None:
            beyond = np.maximum(length - float(attention.window), 0.0)
            pairs = pairs - beyond * (beyond + 1.0) / 2.0
        flops = 4.0 * attention.heads * attention.head_width * batch * pairs
        written = attention.kv_values_per_token * widths.kv * tokens
        operations += _block(model, layer, tokens, flops, written, widths)
    return (*operations, *_ends(model, tokens, batch, widths))


def _block(
    model: Architecture, layer: Layer, tokens: Quantity, attention_flops: Quantity, kv_bytes: Quantity, widths: Widths
) -> list[Operation]:
    width, attention, ffn, count = model.width, layer.attention, layer.ffn, layer.count
    queries = attention.heads * attention.head_width
    projected = queries + attention.kv_values_per_token
    stream = width * widths.activation * tokens
    operations = [
        Operation(
            name="query, key, value",
            count=count,
            flops=2.0 * width * projected * tokens,
            weight_bytes=width * projected * widths.weight,
            activation_bytes=stream + projected * widths.activation * tokens,
        ),
        Operation(
            name="attention",
            count=count,
            flops=attention_flops,
            kv_bytes=kv_bytes,
            activation_bytes=2.0 * queries * widths.activation * tokens,
        ),
        Operation(
            name="attention output",
            count=count,
            flops=2.0 * width * queries * tokens,
            weight_bytes=width * queries * widths.weight,
            activation_bytes=stream + queries * widths.activation * tokens,
            reduce_bytes=stream,
        ),
    ]
    matrices = 3.0 if ffn.gated else 2.0
    weights = matrices * width * ffn.width
    if not ffn.experts:
        used, router = 1.0, 0.0
        met: Quantity = 1.0
    else:
        used, router = float(ffn.experts_per_token), float(width * ffn.experts)
        met = _distinct_experts(ffn.experts, ffn.experts_per_token, tokens)
    operations.append(
        Operation(
            name="experts" if ffn.experts else "feed-forward",
            count=count,
            flops=2.0 * (weights * used + router) * tokens,
            weight_bytes=(weights * met + router) * widths.weight,
            activation_bytes=2.0 * stream + 2.0 * (matrices - 1.0) * ffn.width * used * widths.activation * tokens,
            reduce_bytes=stream,
        )
    )
    return operations


def _distinct_experts(experts: int, chosen: int, tokens: Quantity) -> Quantity:
    return experts * (1.0 - (1.0 - chosen / experts) ** np.maximum(tokens, 1.0))


def _ends(model: Architecture, tokens: Quantity, sampled: Quantity, widths: Widths) -> tuple[Operation, ...]:
    rows = model.width * widths.activation * tokens
    head = model.width * model.vocabulary
    logits = model.vocabulary * widths.activation * sampled
    return (
        Operation(name="embedding", count=1, flops=0.0, activation_bytes=2.0 * rows),
        Operation(
            name="LM head",
            count=1,
            flops=2.0 * head * sampled,
            weight_bytes=head * widths.weight,
            activation_bytes=logits + model.width * widths.activation * sampled,
        ),
    )


def memory_bytes(model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None) -> Quantity:
    """Weights and KV cache that must be held for `batch` sequences of `context` tokens."""
    widths = widths or Widths()
    cache: Quantity = 0.0
    for layer in model.layers:
        held = context if layer.attention.window is None else np.minimum(context, float(layer.attention.window))
        cache = cache + layer.count * layer.attention.kv_values_per_token * widths.kv * batch * held
    return model.parameters * widths.weight + cache
