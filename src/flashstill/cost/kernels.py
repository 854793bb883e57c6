"""Seconds of matrix products, of routed experts and of recurrences on one chip.

    matmul            floor + (C^p + M^p)^(1/p)
                      C = max(2 m n k / (peak x eff),  min over tiles of  waves x t_m t_n k x MAC)
                      waves = ceil(tiles / units);  a depth split over idle units:  C / parts + split
                      or for few rows on vector units, where these are faster:  2 m n k / (their rate x eff)
                      MAC = 1 / (rate of a unit x unit eff) + (bytes per MAC - those of the largest tile) / load rate
                      M = bytes / (bandwidth x eff)
                      + where activations are quantised:  floor + rows / units x block + passes x bytes / bandwidth
    recurrence        (floor^p + C^p + M^p + chain^p)^(1/p)
                      chain = waves x (block + steps x step),  waves = ceil(sequences x heads / units)
    experts           floor + expert x local experts/100 + spread + (C^p + M^p)^(1/p) + activations + remote traffic

The exponent p blends compute time C and memory time M (timing.py).  Tiles are assigned to compute units in whole waves,
so a GEMM of 129 rows can take as long as one of 256 (wave quantisation), which a plain roofline misses.  A tile of
t_m x t_n loads 1/t_n activations and 1/t_m weights for every MAC, so small tiles are bound by the loads of a compute
unit.  A systolic array of edge e rounds columns and depth up to e, and rows up to its row step.  Sources: the roofline
of Williams et al. 2009, and wave quantisation as in NVIDIA's guide to matrix multiplication; the coefficients are
calibration rows.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from flashstill.cost.timing import Timing, blend, block_seconds
from flashstill.hardware import Chip, Kernel, Memory
from flashstill.hardware.present import either, present
from flashstill.workload import Experts, Matmul, Quantity, State

Edges = npt.NDArray[np.float64]


def peak_seconds(chip: Chip, operation: Matmul, timing: Timing, kernel: Kernel, flops_per_s: float) -> Quantity:
    """Seconds of a matrix product at the chip's peak FLOP/s and peak bandwidth."""
    compute_s = timing.compute_s * kernel.compute_efficiency

    def in_waves() -> Quantity:
        in_tiles = compute_s > operation.flops / flops_per_s * (1.0 + 1e-9)  # waves of tiles, not the whole chip's rate
        return np.where(in_tiles, timing.compute_s * kernel.unit_efficiency, compute_s)

    compute_s = either(chip.compute_units, in_waves, lambda: compute_s)
    return np.maximum(compute_s, timing.memory_s * kernel.memory_efficiency)


def matmul(chip: Chip, operation: Matmul, kernel: Kernel, flops_per_s: float, memory_s: Quantity) -> Timing:
    """Time of a dense matrix product. memory_s: its bytes divided by the effective bandwidth."""
    rows, columns, depth = operation.rows, operation.columns, operation.depth
    peak, tiling = flops_per_s * kernel.compute_efficiency, chip.calibration.tiling

    def in_tiles() -> Quantity:
        tiles_s = _tiles_seconds(chip, operation, kernel, flops_per_s)
        return np.maximum(operation.flops / peak, _or_vectors(chip, kernel, operation.flops, rows, tiles_s))

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


def _or_vectors(chip: Chip, kernel: Kernel, flops: Quantity, rows: Quantity, tiles_s: Quantity) -> Quantity:
    """Seconds in tiles, or on the vector units if these are faster and the rows few: a matrix times vectors."""
    rate = chip.vector_flops_per_s

    def vectors() -> Quantity:
        faster = np.minimum(tiles_s, flops / (rate * kernel.compute_efficiency))
        few = np.less_equal(rows, chip.calibration.tiling.vector_rows)
        return np.where(few, faster, tiles_s)

    return either(rate, vectors, lambda: tiles_s)


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
    return kernel.quantise_floor_s + operation.rows * block_seconds(chip, kernel) + moved / chip.memory.bytes_per_s


def experts(
    chip: Chip, operation: Experts, kernel: Kernel, flops_per_s: float, main: Memory, weights: Memory
) -> Timing:
    """Time of routed FFNs as grouped matrix products."""
    peak = flops_per_s * kernel.compute_efficiency
    memory_s = operation.weight_bytes / (weights.bytes_per_s * kernel.memory_efficiency)
    padded = operation.assignments + kernel.tile_penalty * operation.distinct
    each = 2.0 * operation.matrices * operation.width * operation.ffn_width
    rows = operation.assignments / np.maximum(operation.distinct, 1.0)
    flops = each * operation.assignments
    compute_s = _or_vectors(chip, kernel, flops, rows, each * padded / peak)
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
