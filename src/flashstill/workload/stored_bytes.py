"""The bytes of weights and cache that a model must be stored in; whether chips have room for them is cost/footprint."""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture
from flashstill.workload.operations import Quantity, Widths


def cache_bytes(model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None) -> Quantity:
    """KV cache and recurrent state of `batch` sequences of `context` tokens, held once."""
    widths = widths or Widths()
    cache: Quantity = 0.0
    for layer in model.layers:
        window = layer.attention.window
        cached = context if window is None else np.minimum(context, float(window))
        cache = cache + layer.count * batch * (
            layer.attention.kv_values_per_token * widths.kv * cached + layer.attention.state_values * widths.activation
        )
    return cache


def weight_bytes(model: Architecture, widths: Widths | None = None) -> Quantity:
    """Every weight, held once: experts in their own width, embedding and head in that of `exact` weights."""
    widths = widths or Widths()
    width = model.width
    routed = routed_parameters(model)
    mixing = sum(layer.count * layer.attention.parameters(width) for layer in model.layers)
    ends = model.embedding_parameters
    return (
        routed * widths.of("experts")
        + mixing * widths.of("attention")
        + ends * widths.of("exact")
        + (model.parameters - routed - mixing - ends) * widths.of("linear")
    )


def routed_parameters(model: Architecture) -> int:
    """Weights of all routed experts."""
    return sum(
        layer.count * layer.ffn.experts * layer.ffn.expert_parameters(model.width)
        for layer in model.layers
        if layer.ffn.experts
    )


def memory_bytes(model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None) -> Quantity:
    """Weights and KV cache that must be held for `batch` sequences of `context` tokens."""
    return weight_bytes(model, widths) + cache_bytes(model, batch, context, widths)
