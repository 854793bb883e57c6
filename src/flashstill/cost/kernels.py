"""Seconds of one operation on one chip.

    matmul            floor + (C^p + M^p)^(1/p)
                      C = max(2 m n k / (peak x eff),  min over tiles of  waves x t_m t_n k x MAC)
                      waves = ceil(tiles / units);  a depth split over idle units:  C / parts + split
                      MAC = 1 / (rate of a unit x unit eff) + (bytes per MAC - those of the largest tile) / load rate
                      M = bytes / (bandwidth x eff)
                      + where activations are quantised:  floor + rows / units x block + passes x bytes / bandwidth
    decode attention  floor + doubling log2(1 + S/64) + (C^p + M^p + blocks^p)^(1/p)
                      blocks = sequences x cached heads x (1 + group_ratio h/(8 g)) (1 + e/128)/2 / units x block
    prompt attention  floor + C + M + blocks,  causal pairs rounded up to whole tiles of 16 to 128 queries; C includes
                      the softmax, and the longest tile, for which idle units wait at the end (Graham 1969)
    recurrence        (floor^p + C^p + M^p + chain^p)^(1/p)
                      chain = waves x (block + steps x step),  waves = ceil(sequences x heads / units)
    experts           floor + expert x local experts/100 + spread + (C^p + M^p)^(1/p) + activations + remote traffic

The exponent p blends compute time C and memory time M: large p gives their maximum (full overlap), p = 1 their sum (no
overlap).  Tiles are assigned to compute units in whole waves, so a GEMM of 129 rows can take as long as one of 256
(wave quantisation), which a plain roofline misses.  A tile of t_m x t_n loads 1/t_n activations and 1/t_m weights for
every MAC, so small tiles are bound by the loads of a compute unit.  A systolic array of edge e rounds columns and
depth up to e, and rows up to its row step.  Sources: the roofline of Williams et al. 2009, and wave quantisation as in
NVIDIA's guide to matrix multiplication; the coefficients are calibration rows.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from flashstill.hardware import Chip, Kernel, Memory
from flashstill.hardware.present import either, present
from flashstill.workload import Attention, Experts, Matmul, Operation, Quantity, State

Edges = npt.NDArray[np.float64]
_USUAL_WIDTH = 128.0
"""head width to which the coefficients of attention refer"""


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


def peak_seconds(chip: Chip, operation: Matmul, timing: Timing, kernel: Kernel, flops_per_s: float) -> Quantity:
    """Seconds of a matrix product at the chip's peak FLOP/s and peak bandwidth."""
    compute_s = timing.compute_s * kernel.compute_efficiency

    def in_waves() -> Quantity:
        in_tiles = compute_s > operation.flops / flops_per_s * (1.0 + 1e-9)  # waves of tiles, not the whole chip's rate
        return np.where(in_tiles, timing.compute_s * kernel.unit_efficiency, compute_s)

    compute_s = either(chip.compute_units, in_waves, lambda: compute_s)
    return np.maximum(compute_s, timing.memory_s * kernel.memory_efficiency)


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


def matmul(chip: Chip, operation: Matmul, kernel: Kernel, flops_per_s: float, memory_s: Quantity) -> Timing:
    """Time of a dense matrix product. memory_s: its bytes divided by the effective bandwidth."""
    rows, columns, depth = operation.rows, operation.columns, operation.depth
    peak, tiling = flops_per_s * kernel.compute_efficiency, chip.calibration.tiling

    def in_tiles() -> Quantity:
        return np.maximum(operation.flops / peak, _tiles_seconds(chip, operation, kernel, flops_per_s))

    def systolic() -> Quantity:
        edge = chip.matrix_edge * 1.0
        whole = np.ceil(columns / edge) * np.ceil(depth / edge) * edge * edge
        padded: Quantity = 2.0 * np.ceil(rows / tiling.array_rows) * tiling.array_rows * whole / peak
        return padded

    compute_s = either(
        chip.compute_units, in_tiles, lambda: either(chip.matrix_edge, systolic, lambda: operation.flops / peak)
    )
    seconds = kernel.floor_s + blend(kernel.blend, compute_s, memory_s)
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s, floor_s=kernel.floor_s)


def _tiles_seconds(chip: Chip, operation: Matmul, kernel: Kernel, flops_per_s: float) -> Quantity:
    """Seconds of the waves of tiles that a product is cut into, with the best tile size."""
    tiling, units = chip.calibration.tiling, chip.compute_units * 1.0
    rows, columns = operation.rows, operation.columns
    shapes = np.broadcast(rows, columns, operation.depth, operation.value_bytes, units, flops_per_s)
    high, wide = _tile_edges(tiling.tiles, max(shapes.ndim, np.ndim(kernel.unit_bytes_per_s)))
    mac_s: Quantity = 2.0 * units / (flops_per_s * kernel.unit_efficiency)
    if present(kernel.unit_bytes_per_s):
        loads = operation.input_value_bytes / wide + operation.value_bytes / high
        more = loads - loads.min(axis=0)
        mac_s = mac_s + either(kernel.unit_bytes_per_s, lambda: more / kernel.unit_bytes_per_s, lambda: 0.0)
    tiles = np.ceil(rows / high) * np.ceil(columns / wide)
    waves_s = np.ceil(tiles / units) * (high * wide * mac_s)
    deep = np.ceil(operation.depth / tiling.depth) * tiling.depth
    whole: Quantity = waves_s.min(axis=0) * deep
    if not present(kernel.split_s):
        return whole
    most_parts = np.maximum(np.floor(deep / tiling.split_depth), 1.0)
    parts = np.maximum(np.minimum(np.floor(units / np.maximum(tiles, 1.0)), most_parts), 1.0)
    split: Quantity = (waves_s / parts).min(axis=0) * deep + kernel.split_s
    return either(kernel.split_s, lambda: np.minimum(whole, split), lambda: whole)


@functools.cache
def _tile_edges(tiles: tuple[tuple[float, float], ...], dimensions: int) -> tuple[Edges, Edges]:
    """Rows and columns of each tile size, along an axis before the `dimensions` axes of an operation's arrays."""
    edges = np.array(tiles, dtype=np.float64).T.reshape(2, len(tiles), *(1,) * dimensions)
    return edges[0], edges[1]


def quantise_seconds(chip: Chip, operation: Matmul, kernel: Kernel) -> Quantity:
    """Seconds of the separate kernel that reads 16-bit activations and writes them quantised before the product."""
    moved = (2.0 + operation.input_value_bytes) * operation.rows * operation.depth * kernel.passes
    return kernel.quantise_floor_s + operation.rows * _block_seconds(chip, kernel) + moved / chip.memory.bytes_per_s


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
    blocks_s = blocks * _block_seconds(chip, kernel)
    floor_s = kernel.floor_s + kernel.doubling_s * np.log2(1.0 + operation.seen / 64.0)
    seconds = floor_s + blend(kernel.blend, compute_s, memory_s, blocks_s)
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=np.maximum(memory_s, blocks_s), floor_s=floor_s)


def _block_seconds(chip: Chip, kernel: Kernel) -> Quantity:
    """Seconds per block, averaged over all busy compute units; chips without units run blocks one after another."""
    return either(chip.compute_units, lambda: kernel.block_s / chip.compute_units, lambda: kernel.block_s)


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
    blocks_s = operation.sequences * operation.heads * _block_seconds(chip, kernel)
    seconds = kernel.floor_s + compute_s + memory_s + blocks_s
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s + blocks_s, floor_s=kernel.floor_s)


def _array_rounding(chip: Chip, operation: Attention) -> Quantity:
    """Factor by which attention slows on a systolic array because head widths are padded to the array's edge."""

    def padded() -> Quantity:
        widths, edge = (operation.key_width, operation.value_width), chip.matrix_edge
        rounding: Quantity = (np.ceil(widths[0] / edge) + np.ceil(widths[1] / edge)) * edge / sum(widths)
        return rounding

    return either(chip.compute_units, lambda: 1.0, lambda: either(chip.matrix_edge, padded, lambda: 1.0))


def experts(
    chip: Chip, operation: Experts, kernel: Kernel, flops_per_s: float, main: Memory, weights: Memory
) -> Timing:
    """Time of routed FFNs as grouped matrix products."""
    peak = flops_per_s * kernel.compute_efficiency
    memory_s = operation.weight_bytes / (weights.bytes_per_s * kernel.memory_efficiency)
    padded = operation.assignments + kernel.tile_penalty * operation.distinct
    compute_s = 2.0 * operation.matrices * operation.width * operation.ffn_width * padded / peak
    moved = operation.activation_bytes * kernel.passes + operation.remote_bytes * kernel.remote_passes
    moved_s = moved / main.bytes_per_s
    floor_s = kernel.floor_s + kernel.expert_s * operation.local_experts / 100.0
    if present(kernel.spread_s):
        floor_s = floor_s + kernel.spread_s * np.float64(operation.local_experts < operation.experts)
    seconds = floor_s + blend(kernel.blend, compute_s, memory_s) + moved_s
    return Timing(seconds=seconds, compute_s=compute_s, memory_s=memory_s + moved_s, floor_s=floor_s)


def recurrence(chip: Chip, operation: State, kernel: Kernel, flops_per_s: float, memory_s: Quantity) -> Timing:
    """Time of a recurrence or of its convolution: heads side by side, the steps of each one after another."""
    compute_s = operation.flops / (flops_per_s * kernel.compute_efficiency)

    def chain() -> Quantity:
        waves = np.ceil(operation.sequences * operation.blocks / chip.compute_units)
        return waves * (kernel.block_s + operation.chunks * kernel.chunk_s)

    chain_s = either(chip.compute_units, chain, lambda: 0.0)
    seconds = blend(kernel.blend, kernel.floor_s, compute_s, memory_s, chain_s)
    return Timing(
        seconds=seconds,
        compute_s=np.maximum(compute_s, chain_s),
        memory_s=memory_s,
        floor_s=kernel.floor_s,
    )
