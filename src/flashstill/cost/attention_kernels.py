"""Seconds of attention on one chip.

    decode   floor + doubling log2(1 + S/64) + (C^p + M^p + blocks^p)^(1/p)
             blocks = sequences x cached heads x (1 + group_ratio h/(8 g)) (1 + e/128)/2 / units x block
    prompt   floor + C + M + blocks,  causal pairs rounded up to whole tiles of 16 to 128 queries; C includes the
             softmax, and the longest tile, for which idle units wait at the end (Graham 1969)

S cached tokens, h query heads over g cached heads, e the mean width of a key and a value.  C and M: compute and memory
time (timing.py); the coefficients are calibration rows.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from flashstill.cost.timing import Timing, blend, block_seconds
from flashstill.hardware import Chip, Kernel
from flashstill.hardware.present import either, present
from flashstill.workload import Attention, Quantity

_USUAL_WIDTH = 128.0
"""head width to which the coefficients of attention refer"""


def decode_attention(
    chip: Chip, operation: Attention, kernel: Kernel, flops_per_s: float, memory_s: Quantity
) -> Timing:
    """Time of attention of a few queries per sequence over a long KV cache."""
    peak = flops_per_s * kernel.compute_efficiency
    group = operation.heads / operation.kv_heads
    filled = group * operation.queries
    if operation.latent:
        # MLA: all heads share one latent key, so the heads are the rows of one GEMM, padded to whole tiles.
        tile = chip.calibration.tiling.latent_rows
        filled = either(chip.compute_units, lambda: np.ceil(filled / tile) * tile, lambda: filled)
    work = 2.0 * operation.sequences * operation.kv_heads * filled * (operation.key_width + operation.value_width)
    compute_s = work * (operation.seen + operation.queries) / peak
    ratio = operation.heads / 64.0 if operation.latent else group / 8.0
    wide = (
        1.0 if operation.latent else (1.0 + (operation.key_width + operation.value_width) / (2.0 * _USUAL_WIDTH)) / 2.0
    )
    blocks = operation.sequences * operation.kv_heads * (1.0 + kernel.group_ratio * ratio) * wide
    blocks_s = blocks * block_seconds(chip, kernel)
    floor_s = kernel.floor_s + kernel.doubling_s * np.log2(1.0 + operation.seen / 64.0)
    seconds = floor_s + blend(kernel.blend, compute_s, memory_s, blocks_s)
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=np.maximum(memory_s, blocks_s), floor_s=floor_s)


def prompt_attention(
    chip: Chip, operation: Attention, kernel: Kernel, flops_per_s: float, memory_s: Quantity
) -> Timing:
    """Time of causal attention over a prompt (many queries)."""
    widths = operation.key_width + operation.value_width
    softmax = (1.0 + kernel.softmax_ratio * 2.0 * _USUAL_WIDTH / widths) / (1.0 + kernel.softmax_ratio)
    rate = flops_per_s * kernel.compute_efficiency / (softmax * _array_rounding(chip, operation))
    pair_s = 2.0 * widths / rate
    keys = np.minimum(operation.seen + operation.queries, 2.0 * operation.pairs / operation.queries)
    units = either(kernel.block_s, lambda: chip.compute_units, lambda: 0.0)
    compute_s: Quantity = np.inf
    largest = chip.calibration.tiling.prompt_rows
    rows = chip.calibration.tiling.least_rows if present(chip.compute_units) else largest
    while rows <= largest:
        whole = np.ceil(operation.queries / rows) * rows
        # a row of tiles ends at the diagonal, where half of the last tile is masked
        pairs = whole / operation.queries * operation.pairs + whole * (whole - operation.queries + rows - 1.0) / 2.0
        smaller = 1.0 + kernel.tile_penalty * (1.0 / rows - 1.0 / largest)
        longest = rows * keys * units  # as if its unit's share of the rate were the chip's
        tiled_s: Quantity = (operation.sequences * operation.heads * pairs + longest) * smaller * pair_s
        if rows < largest:  # smaller tiles are a choice of chips with compute units
            tiled_s = either(chip.compute_units, partial(np.asarray, tiled_s), lambda: np.inf)
        compute_s = np.minimum(compute_s, tiled_s)
        rows *= 2.0
    blocks_s = operation.sequences * operation.heads * block_seconds(chip, kernel)
    seconds = kernel.floor_s + compute_s + memory_s + blocks_s
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s + blocks_s, floor_s=kernel.floor_s)


def _array_rounding(chip: Chip, operation: Attention) -> Quantity:
    """Factor by which attention slows on a systolic array because head widths are padded to the array's edge."""

    def padded() -> Quantity:
        widths, edge = (operation.key_width, operation.value_width), chip.matrix_edge
        rounding: Quantity = (np.ceil(widths[0] / edge) + np.ceil(widths[1] / edge)) * edge / sum(widths)
        return rounding

    return either(chip.compute_units, lambda: 1.0, lambda: either(chip.matrix_edge, padded, lambda: 1.0))
