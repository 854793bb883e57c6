"""Seconds of an operation by their causes, and how compute and memory time blend.

    (C^p + M^p)^(1/p)     large p gives the maximum of C and M (full overlap), p = 1 their sum (no overlap)

What the kernels of all kinds share (kernels.py, attention_kernels.py, sparse.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.hardware import Chip, Kernel, Memory
from flashstill.hardware.present import either
from flashstill.workload import Operation, Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds of an operation: total, compute time, memory time, and the fixed launch floor."""

    seconds: Quantity
    compute_s: Quantity
    memory_s: Quantity
    floor_s: Quantity


def scaled(timing: Timing, ratio: Quantity, least_s: Quantity, more_s: Quantity = 0.0) -> Timing:
    """The kernel's time multiplied by the engine's `ratio`, plus `more_s` seconds of overhead.

    least_s: the time at the chip's peaks; a ratio below 1 never goes below it.
    """
    seconds = timing.seconds * ratio
    if not isinstance(ratio, float) or ratio < 1.0:
        seconds = np.maximum(seconds, np.minimum(least_s, timing.seconds))
    return Timing(
        seconds=seconds + more_s,
        compute_s=timing.compute_s,
        memory_s=timing.memory_s,
        floor_s=timing.floor_s * ratio + more_s,
    )


def fastest(timings: Sequence[Timing]) -> Timing:
    """For each element the timing with the least seconds."""
    best = timings[0]
    for other in timings[1:]:
        ahead = np.asarray(other.seconds) < best.seconds
        best = Timing(
            seconds=np.where(ahead, other.seconds, best.seconds),
            compute_s=np.where(ahead, other.compute_s, best.compute_s),
            memory_s=np.where(ahead, other.memory_s, best.memory_s),
            floor_s=np.where(ahead, other.floor_s, best.floor_s),
        )
    return best


def blend(exponent: Quantity, *parts: Quantity) -> Quantity:
    """(a^p + b^p)^(1/p) of times: their maximum for large p, their sum at p = 1; zero if all are zero."""
    longest = parts[0]
    for part in parts[1:]:
        longest = np.maximum(longest, part)
    if not isinstance(exponent, np.ndarray) and exponent >= 64.0:
        return longest
    scale = np.maximum(longest, 1e-30)
    total: Quantity = 0.0
    if len(parts) == 2:
        total = 1.0 + (np.minimum(*parts) / scale) ** exponent  # the longer one over itself is 1
    else:
        for part in parts:
            total = total + (part / scale) ** exponent
    mixed: Quantity = longest * np.maximum(total, 1.0) ** (1.0 / exponent)
    return np.where(exponent >= 64.0, longest, mixed) if isinstance(exponent, np.ndarray) else mixed


def memory_seconds(operation: Operation, weights: Memory, cache: Memory, main: Memory, efficiency: float) -> Quantity:
    """Seconds to move weights, cache and activations, each at the bandwidth of the memory tier that holds it."""
    kv: Quantity = operation.kv_bytes / cache.bytes_per_s
    return (operation.weight_bytes / weights.bytes_per_s + kv + operation.activation_bytes / main.bytes_per_s) / (
        efficiency
    )


def block_seconds(chip: Chip, kernel: Kernel) -> Quantity:
    """Seconds per block, averaged over all busy compute units; chips without units run blocks one after another."""
    return either(chip.compute_units, lambda: kernel.block_s / chip.compute_units, lambda: kernel.block_s)
