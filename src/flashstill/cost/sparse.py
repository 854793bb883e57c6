"""Seconds of the kernels of sparse attention and of the small kernels of latent attention.

    scores      floor + (C^p + M^p)^(1/p)                C in 8 bits, M keys, logits and queries
    attention   (floor^p + C^p + M^p)^(1/p)              over slots = selected + padding (k - selected) tokens a query
                C = 2 queries x groups x whole tiles of heads x slots x (e_k + e_v) / (peak x eff)
                M = (cache read once + passes x (slots of all queries - that)) / (bandwidth x eff)
    small       floor + activations / (bandwidth x eff)

Selected tokens lie anywhere in the cache, so the heads of one query are the rows of one small product: they are rounded
up to whole tiles.  Some kernels compute all k slots whatever was selected (padding 1).  In a prompt the queries share
tokens through the on-chip cache (passes below 1), and the floor is the host's time to launch the mixer's kernels, which
the chip's work hides.
"""

from __future__ import annotations

import numpy as np

from flashstill.cost.timing import Timing, blend
from flashstill.hardware import Chip, Kernel, Memory
from flashstill.hardware.present import either
from flashstill.workload import Attention, IndexScores, Quantity, SmallKernels


def index_scores(operation: IndexScores, kernel: Kernel, flops_per_s: float, memory_s: Quantity) -> Timing:
    """Time of the indexer's scores and selection."""
    compute_s = operation.flops / (flops_per_s * kernel.compute_efficiency)
    seconds = kernel.floor_s + blend(kernel.blend, compute_s, memory_s)
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s, floor_s=kernel.floor_s)


def selected_attention(chip: Chip, operation: Attention, kernel: Kernel, flops_per_s: float, cache: Memory) -> Timing:
    """Time of attention over the tokens that an indexer selects for each query."""
    assert operation.slots is not None
    chosen = operation.pairs / operation.queries
    slots = chosen + kernel.padding * np.maximum(operation.slots - chosen, 0.0)
    tokens, group = operation.sequences * operation.queries, operation.heads / operation.kv_heads
    tile = chip.calibration.tiling.latent_rows
    group = either(chip.compute_units, lambda: np.ceil(group / tile) * tile, lambda: group)
    work = 2.0 * tokens * operation.kv_heads * group * slots * (operation.key_width + operation.value_width)
    compute_s = work / (flops_per_s * kernel.compute_efficiency)
    gathered = tokens * slots * operation.kv_values * operation.kv_value_bytes
    moved = operation.kv_bytes + kernel.passes * np.maximum(gathered - operation.kv_bytes, 0.0)
    memory_s = (moved + operation.activation_bytes) / (cache.bytes_per_s * kernel.memory_efficiency)
    seconds = blend(kernel.blend, kernel.floor_s, compute_s, memory_s)
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s, floor_s=kernel.floor_s)


def small_kernels(operation: SmallKernels, kernel: Kernel, main: Memory) -> Timing:
    """Time of a mixer's small kernels."""
    memory_s = operation.activation_bytes / (main.bytes_per_s * kernel.memory_efficiency)
    return Timing(
        seconds=kernel.floor_s + memory_s, compute_s=0.0 * memory_s, memory_s=memory_s, floor_s=kernel.floor_s
    )
