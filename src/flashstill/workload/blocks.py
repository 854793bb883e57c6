"""The operations of one block: mixer and FFN, for a decode step or a prompt.

MLA decodes in its absorbed form: queries are mapped into the latent space, so that h heads share one key of width r + p
and one value of width r (DeepSeek-V2, section 2.1.3).  For prompts keys and values are expanded once a token instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture, LatentAttention, Layer, LinearAttention
from flashstill.arch import Attention as GroupedAttention
from flashstill.workload.operations import Attention, Experts, Matmul, Operation, Quantity, State, Widths


def block(
    model: Architecture,
    layer: Layer,
    batch: Quantity,
    queries: Quantity,
    seen: Quantity,
    pairs: Quantity,
    widths: Widths,
    prompt: bool,
    skew: float,
) -> list[Operation]:
    """`layer.count` blocks on `queries` new tokens for each of `batch` sequences that see `seen` cached ones."""
    tokens = batch * queries
    stream = model.width * widths.activation * tokens
    mixer = layer.attention
    if isinstance(mixer, GroupedAttention):
        mixing = _grouped(model.width, mixer, batch, queries, seen, pairs, widths, prompt)
    elif isinstance(mixer, LatentAttention):
        mixing = _latent(model.width, mixer, batch, queries, seen, pairs, widths, prompt)
    else:
        mixing = _linear(model.width, mixer, batch, queries, widths)
    feeding = _feed_forward(model.width, layer, tokens, widths, skew)
    # A parallel block adds both branches before one sum over the shards; a serial one sums after each branch.
    if not layer.parallel or not feeding:
        mixing[-1] = _reducing(mixing[-1], stream)
    if feeding:
        feeding[-1] = _reducing(feeding[-1], stream)
    norms = Operation(
        name="norms and residuals", activation_bytes=(3.0 if layer.parallel or not feeding else 6.0) * stream
    )
    return [_times(operation, layer.count) for operation in (*mixing, *feeding, norms)]


def _reducing(operation: Operation, size: Quantity) -> Operation:
    return replace(operation, reduce_bytes=size)


def _times(operation: Operation, count: int) -> Operation:
    return replace(operation, count=operation.count * count)


def matmul(
    name: str,
    rows: Quantity,
    columns: Quantity,
    depth: Quantity,
    widths: Widths,
    role: str = "linear",
    split: str = "columns",
) -> Matmul:
    """A product whose weights and activations take their widths by role."""
    return Matmul(
        name=name,
        rows=rows,
        columns=columns,
        depth=depth,
        role=role,
        split=split,
        value_bytes=widths.of(role),
        activation_bytes=(columns + depth) * widths.activation * rows,
    )


def _grouped(
    width: int,
    mixer: GroupedAttention,
    batch: Quantity,
    queries: Quantity,
    seen: Quantity,
    pairs: Quantity,
    widths: Widths,
    prompt: bool,
) -> list[Operation]:
    tokens = batch * queries
    projected = mixer.query_width + mixer.gate_width + mixer.kv_width
    read = mixer.query_width + mixer.output_width
    return [
        matmul("query, key, value", tokens, projected, width, widths, "attention"),
        Attention(
            name="attention",
            sequences=batch,
            queries=queries,
            seen=seen,
            pairs=pairs,
            heads=mixer.heads,
            kv_heads=mixer.kv_heads,
            key_width=mixer.head_width,
            value_width=mixer.value_head_width,
            kv_values=mixer.kv_values_per_token,
            kv_value_bytes=widths.kv,
            activation_bytes=read * widths.activation * tokens,
            prompt=prompt,
        ),
        matmul("attention output", tokens, width, mixer.output_width, widths, "attention", "rows"),
    ]


def _latent(
    width: int,
    mixer: LatentAttention,
    batch: Quantity,
    queries: Quantity,
    seen: Quantity,
    pairs: Quantity,
    widths: Widths,
    prompt: bool,
) -> list[Operation]:
    tokens, heads, rank = batch * queries, mixer.heads, mixer.kv_rank
    key = mixer.nope_width + mixer.rope_width
    down = (mixer.query_rank or heads * key) + rank + mixer.rope_width
    operations: list[Operation] = [
        matmul("latent down", tokens, down, width, widths, "attention", "none" if mixer.query_rank else "columns")
    ]
    if mixer.query_rank:
        operations.append(matmul("query up", tokens, heads * key, mixer.query_rank, widths, "attention"))
    if prompt:
        # Long prompts expand keys and values once a token instead of attending in the latent space.
        expanded = heads * (mixer.nope_width + mixer.value_width)
        operations.append(matmul("key, value up", tokens, expanded, rank, widths, "attention"))
        wide_key, wide_value, kv_heads = key, mixer.value_width, heads
    else:
        operations.append(matmul("query into latent", tokens, heads * rank, mixer.nope_width, widths, "exact"))
        wide_key, wide_value, kv_heads = rank + mixer.rope_width, rank, 1
    operations.append(
        Attention(
            name="attention",
            sequences=batch,
            queries=queries,
            seen=seen,
            pairs=pairs,
            heads=heads,
            kv_heads=kv_heads,
            key_width=wide_key,
            value_width=wide_value,
            kv_values=mixer.kv_values_per_token,
            kv_value_bytes=widths.kv,
            activation_bytes=heads * (wide_key + wide_value) * widths.activation * tokens,
            prompt=prompt,
            latent=not prompt,
        )
    )
    if not prompt:
        operations.append(matmul("value out of latent", tokens, heads * mixer.value_width, rank, widths, "exact"))
    operations.append(
        matmul("attention output", tokens, width, heads * mixer.value_width, widths, "attention", "rows"),
    )
    return operations


def _linear(width: int, mixer: LinearAttention, batch: Quantity, queries: Quantity, widths: Widths) -> list[Operation]:
    tokens = batch * queries
    columns = mixer.weights / width
    return [
        State(
            name="recurrent state",
            sequences=batch,
            state_values=mixer.state_values,
            state_value_bytes=widths.activation,
            state_flops=np.maximum(mixer.flops_per_token - 2.0 * mixer.weights, 0.0) * tokens,
            activation_bytes=2.0 * width * widths.activation * tokens,
        ),
        matmul("recurrent projections", tokens, columns, width, widths, "attention"),
    ]


def _feed_forward(width: int, layer: Layer, tokens: Quantity, widths: Widths, skew: float) -> list[Operation]:
    ffn = layer.ffn
    operations: list[Operation] = []
    matrices = 3 if ffn.gated else 2
    if ffn.experts:
        operations.append(matmul("router", tokens, ffn.experts, width, widths, "exact", "none"))
        operations.append(
            Experts(
                name="experts",
                tokens=tokens,
                experts=ffn.experts,
                chosen=ffn.experts_per_token,
                held=float(ffn.experts),
                width=width,
                ffn_width=ffn.width,
                matrices=matrices,
                value_bytes=widths.of("experts"),
                skew=skew,
                activation_bytes=2.0
                * (width + (matrices - 1.0) * ffn.width * ffn.experts_per_token)
                * widths.activation
                * tokens,
            )
        )
    for name, wide in (("shared expert", ffn.shared_width), ("feed-forward", ffn.dense_width)):
        if wide:
            operations += _dense(name, width, wide, matrices, tokens, widths)
    if not ffn.experts and ffn.width:
        operations += _dense("feed-forward", width, ffn.width, matrices, tokens, widths)
    return operations


def _dense(name: str, width: int, ffn_width: int, matrices: int, tokens: Quantity, widths: Widths) -> list[Operation]:
    return [
        matmul(f"{name} in", tokens, (matrices - 1) * ffn_width, width, widths),
        matmul(f"{name} out", tokens, width, ffn_width, widths, split="rows"),
    ]
