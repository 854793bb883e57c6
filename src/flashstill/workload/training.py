"""Operations of a training step: the forward pass with logits of every position, and the backward of each operation.

Symbols: T tokens, m n k of a product, d width, h heads, s length, V vocabulary.

    backward of a product    dX = dY W^T (m k n) and dW = X^T dY (k n m): two products of the forward's FLOPs each
    backward of attention    fused: 5 products instead of the forward's 2 (Dao et al. 2022, section 3.1): 2.5 times
    unfused attention        two batched products over all s^2 pairs and 9 bytes a score for softmax and dropout
    nonlinearity             reads the output of the first product, writes the input of the second
    loss                     12 bytes a logit: read, widened to 32 bits, maximum, exponential and sum
    other backwards          1.5 times the forward's bytes: read the output gradient and the saved input, write one

Model FLOPs (for MFU) are three times those of the forward pass; by the convention of Chowdhery et al. 2022 (PaLM,
appendix B) and of Megatron, attention counts all pairs, masked ones included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture
from flashstill.workload.experts import Experts
from flashstill.workload.operations import Attention, Matmul, Operation, Quantity, Widths
from flashstill.workload.phases import prefill
from flashstill.workload.recurrence import State

FUSED_BACKWARD = 2.5
STREAM_BACKWARD = 1.5
SCORE_BYTES = 9.0
"""bytes per score: softmax reads and writes 2 each, dropout reads and writes 2 each, and its mask takes 1"""
LOGIT_BYTES = 12.0
ENDS = ("embedding", "LM head", "loss")


def forward(
    model: Architecture, batch: Quantity, length: Quantity, widths: Widths | None = None, skew: float = 0.0
) -> tuple[Operation, ...]:
    """Forward pass of `batch` sequences of `length` tokens, before sharding; logits at every position."""
    *blocks, head = prefill(model, batch, length, widths, skew=skew)
    assert isinstance(head, Matmul)
    more = length * np.ones_like(head.rows)
    return (*blocks, replace(head, rows=head.rows * more))


def streams(operations: Sequence[Operation], stream_share: Quantity = 1.0, fused: bool = True) -> list[Operation]:
    """One chip's operations, with the memory traffic of training: nonlinearity, loss, unfused attention scores.

    stream_share: share of norms and residuals per chip (1/tp with sequence parallelism, else 1).
    """
    streamed: list[Operation] = []
    for operation, following in zip(operations, [*operations[1:], None], strict=True):
        if isinstance(operation, Attention) and not fused:
            streamed += unfused(operation)
        elif type(operation) is Operation and operation.name not in ENDS:
            streamed.append(replace(operation, activation_bytes=operation.activation_bytes * stream_share))
        else:
            streamed.append(operation)
        if isinstance(operation, Matmul) and operation.name.endswith(" in") and isinstance(following, Matmul):
            moved = operation.rows * operation.output_value_bytes * (operation.columns + following.depth)
            streamed.append(Operation(name="nonlinearity", count=operation.count, activation_bytes=moved))
        if isinstance(operation, Matmul) and operation.name == "LM head":
            moved = LOGIT_BYTES * operation.rows * operation.columns
            streamed.append(Operation(name="loss", activation_bytes=moved))
    return streamed


def unfused(attention: Attention) -> list[Operation]:
    """Attention that writes its scores to memory: two products, and softmax with dropout between them."""
    rows = attention.sequences * attention.heads * attention.queries
    scores = rows * attention.queries

    def product(name: str, columns: Quantity, depth: Quantity) -> Matmul:
        return Matmul(
            name=name,
            count=attention.count,
            rows=rows,
            columns=columns,
            depth=depth,
            role="exact",
            split="none",
        )

    return [
        product("attention scores", attention.queries, attention.key_width),
        Operation(name="attention softmax", count=attention.count, activation_bytes=SCORE_BYTES * scores),
        product("attention values", attention.value_width, attention.queries),
    ]


def backward(operation: Operation, frozen: bool = False) -> list[Operation]:
    """Operations of the backward pass of one chip's operation. frozen: no weight gradients."""
    if isinstance(operation, Matmul):
        inputs = replace(operation, columns=operation.depth, depth=operation.columns)
        # The weight gradient is a product in which the output gradient, in 16 bits, takes the place of the weights.
        weights = replace(
            operation,
            rows=operation.depth,
            depth=operation.rows,
            value_bytes=operation.input_value_bytes,
        )
        return [inputs] if frozen else [inputs, weights]
    ratio = STREAM_BACKWARD
    if isinstance(operation, Attention):
        ratio = FUSED_BACKWARD
    elif isinstance(operation, Experts | State):
        ratio = 1.0 if frozen else 2.0
    return [replace(operation, count=operation.count * ratio)]


def model_flops(model: Architecture, batch: Quantity, length: Quantity, causal: bool = False) -> Quantity:
    """FLOPs of one step, recomputation excluded. causal: count unmasked pairs only, instead of all pairs."""
    total: Quantity = 0.0
    for operation in forward(model, batch, length):
        everything = isinstance(operation, Attention) and not causal
        total = total + operation.count * operation.flops * (2.0 * length / (length + 1.0) if everything else 1.0)
    return 3.0 * total
