"""Bytes of a model's weights and cache, without replication; whether they fit on chips is decided in cost/footprint."""

from __future__ import annotations

import numpy as np

from flashstill.arch import Architecture, LinearAttention, Mixer
from flashstill.workload.operations import Quantity, Widths


def cache_bytes(model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None) -> Quantity:
    """Bytes of KV cache and recurrent state for `batch` sequences of `context` tokens, without replication."""
    widths = widths or Widths()
    cache: Quantity = 0.0
    for layer in model.layers:
        window = layer.attention.window
        cached = context if window is None else np.minimum(context, float(window))
        values = layer.attention.kv_values_per_token * widths.kv * cached
        cache = cache + layer.count * batch * (values + state_bytes(layer.attention, widths))
    return cache


def state_bytes(mixer: Mixer, widths: Widths) -> Quantity:
    """Bytes of one sequence's recurrent state in one layer: its matrices in 32 bits, the rest as activations."""
    matrix = mixer.matrix_state.values if isinstance(mixer, LinearAttention) and mixer.matrix_state else 0
    return matrix * widths.state + (mixer.state_values - matrix) * widths.activation


def weight_bytes(model: Architecture, widths: Widths | None = None) -> Quantity:
    """Bytes of all weights, each stored once, in the width of its role; embedding and head count as `exact`."""
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
    """Number of parameters in all routed experts."""
    return sum(
        layer.count * layer.ffn.experts * layer.ffn.expert_parameters(model.width)
        for layer in model.layers
        if layer.ffn.experts
    )


def expert_copy_parameters(model: Architecture) -> int:
    """Number of parameters in one routed expert of every layer that has them: what a redundant expert adds."""
    return sum(layer.count * layer.ffn.expert_parameters(model.width) for layer in model.layers if layer.ffn.experts)


def memory_bytes(model: Architecture, batch: Quantity, context: Quantity, widths: Widths | None = None) -> Quantity:
    """Bytes of weights and KV cache for `batch` sequences of `context` tokens."""
    return weight_bytes(model, widths) + cache_bytes(model, batch, context, widths)
