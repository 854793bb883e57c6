"""Tensor parallelism over n chips (1D weight-stationary; Pope et al. 2022, section 3.2.1).

Each chip holds 1/n of every weight matrix and of the KV cache (by heads, then by sequences, so that the cache is never
held twice).  After the attention output and after the FFN the partial sums are all-reduced:

    ring all-reduce of V bytes over n chips: every chip sends 2 V (n-1)/n

Hops: a ring of n takes 2 (n-1) steps, a torus of k axes 2 k (n^(1/k) / 2), a switch 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.workload import Operation, Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One chip's part of an operation, and what it sends."""

    operation: Operation
    sent_bytes: Quantity


def shard(operation: Operation, chips: Quantity) -> Shard:
    """The part of one of `chips` chips; activations that all chips read are not divided."""
    whole = operation
    return Shard(
        operation=Operation(
            name=whole.name,
            count=whole.count,
            flops=whole.flops / chips,
            weight_bytes=whole.weight_bytes / chips,
            kv_bytes=whole.kv_bytes / chips,
            activation_bytes=whole.activation_bytes,
            reduce_bytes=whole.reduce_bytes,
        ),
        sent_bytes=all_reduce_bytes(whole.reduce_bytes, chips),
    )


def all_reduce_bytes(size: Quantity, chips: Quantity) -> Quantity:
    """Bytes that each chip sends to sum `size` bytes over `chips`; nothing for one chip."""
    return 2.0 * size * (chips - 1.0) / chips


def all_reduce_hops(chips: Quantity, torus_axes: int) -> Quantity:
    """Link or switch crossings in a row that an all-reduce waits for."""
    if torus_axes == 0:
        return np.where(np.asarray(chips) > 1, 2.0, 0.0)
    edge = np.asarray(chips, dtype=np.float64) ** (1.0 / torus_axes)
    return np.where(np.asarray(chips) > 1, torus_axes * edge, 0.0)
