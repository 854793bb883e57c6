"""Coefficients of single kernels and collectives, fitted to published timings.

Each coefficient belongs to an operation kind, a precision and the chip that was timed.  A chip class gets the joint fit
over all its timed chips, each with the same weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.hardware import Chip, Collective, Kernel
from flashstill.validation.anchors.tables import KernelSet
from flashstill.validation.calibration.fit import Fit, Measured, least
from flashstill.validation.comparison import Values
from flashstill.validation.kernel_times import exchange_seconds, kernel_seconds
from flashstill.workload import Attention, Experts, Matmul

KERNEL_START: Mapping[str, Mapping[str, float]] = {
    "matmul": {
        "compute_efficiency": 0.72,
        "unit_efficiency": 0.95,
        "unit_bytes_per_s": 1.6e11,
        "memory_efficiency": 0.8,
        "floor_s": 2.3e-6,
        "blend": 2.5,
        "split_s": 3.5e-6,
    },
    "decode-attention": {
        "memory_efficiency": 0.87,
        "floor_s": 8e-6,
        "blend": 1.7,
        "block_s": 1.8e-6,
        "group_ratio": 1.4,
        "doubling_s": 1.2e-6,
    },
    "latent-attention": {
        "compute_efficiency": 0.67,
        "memory_efficiency": 0.9,
        "floor_s": 1.2e-5,
        "blend": 1.4,
        "block_s": 3.8e-6,
        "group_ratio": 3.6,
        "doubling_s": 8e-7,
    },
    "prompt-attention": {
        "compute_efficiency": 0.55,
        "memory_efficiency": 0.4,
        "floor_s": 1.3e-5,
        "block_s": 3.5e-7,
        "softmax_ratio": 0.3,
        "tile_penalty": 16.0,
    },
    "experts": {
        "compute_efficiency": 0.7,
        "memory_efficiency": 0.81,
        "floor_s": 2.6e-5,
        "blend": 1.8,
        "passes": 1.5,
        "remote_passes": 0.3,
        "expert_s": 3e-6,
        "spread_s": 3e-6,
        "tile_penalty": 32.0,
    },
    "expanded-attention": {"compute_efficiency": 0.6, "memory_efficiency": 0.4, "floor_s": 1.5e-5, "block_s": 3.5e-7},
    "state-update": {"memory_efficiency": 0.87, "floor_s": 4.4e-6, "blend": 2.0, "chunk_s": 2e-6},
    "state-scan": {
        "compute_efficiency": 0.1,
        "floor_s": 1e-5,
        "blend": 3.0,
        "block_s": 6e-6,
        "chunk_s": 2.5e-6,
    },
    "channel-scan": {
        "compute_efficiency": 0.05,
        "floor_s": 2e-5,
        "blend": 3.0,
        "block_s": 6e-6,
        "chunk_s": 2.5e-6,
    },
    "convolution": {"memory_efficiency": 0.9, "floor_s": 3e-6, "blend": 2.0, "block_s": 1e-8, "chunk_s": 2e-10},
    "convolution-update": {"memory_efficiency": 0.9, "floor_s": 1.8e-6, "blend": 2.0, "chunk_s": 2e-10},
}
PRIOR: Mapping[str, Mapping[str, float]] = {
    "matmul": {"blend": 0.5, "compute_efficiency": 0.5, "unit_bytes_per_s": 1.0, "split_s": 1.0},
    "decode-attention": {"group_ratio": 0.5, "blend": 0.5, "block_s": 0.5},
    "latent-attention": {"compute_efficiency": 0.15, "memory_efficiency": 0.1, "blend": 0.5},
    "prompt-attention": {"block_s": 1.0, "softmax_ratio": 0.5, "tile_penalty": 0.5, "memory_efficiency": 0.5},
    "experts": {
        "compute_efficiency": 0.15,
        "memory_efficiency": 0.1,
        "blend": 0.5,
        "remote_passes": 1.0,
        "expert_s": 1.0,
        "spread_s": 1.0,
        "tile_penalty": 0.5,
    },
    "expanded-attention": {},
    "state-update": {"blend": 0.5, "chunk_s": 1.0},
    "state-scan": {"compute_efficiency": 1.0, "blend": 0.5, "block_s": 1.0, "chunk_s": 1.0, "floor_s": 1.0},
    "channel-scan": {"compute_efficiency": 1.0, "blend": 0.5, "block_s": 1.0, "chunk_s": 1.0},
    "convolution": {"memory_efficiency": 0.1, "blend": 0.5, "block_s": 1.0},
    "convolution-update": {"memory_efficiency": 0.1, "blend": 0.5, "chunk_s": 1.0},
}
"""Prior standard deviations (in logs, around the start values) for coefficients that a first fit does not identify.
matmul: cuBLAS and CUTLASS agree on them on A100, H100 and B200.  latent attention: FlashMLA (DeepSeek, 2025) has 660
of 989 TFLOP/s and 3000 of 3350 GB/s on Hopper.  experts: the rate of plain products; each expert's last tile of 64 rows
is half empty on average"""
QUANTISED = {"quantise_floor_s": 3e-6, "passes": 1.3, "block_s": 1e-7}
"""where the activations are quantised before the product: one read of 16 bits and one write need 1 / 0.77 passes at the
memory efficiency of long reads; a scale of each token's own takes one block a token"""
COLLECTIVE_START = {"efficiency": 0.75, "floor_s": 5e-6, "rank_s": 1e-6, "blend": 0.7}
ONE_SHOT_START = {
    "efficiency": 0.75,
    "floor_s": 8e-6,
    "rank_s": 3e-7,
    "blend": 1.0,
    "one_shot_floor_s": 3e-6,
    "one_shot_doubling_s": 2e-7,
    "one_shot_efficiency": 0.6,
}
EXPERTS_START = {"efficiency": 0.6, "floor_s": 1e-5, "blend": 1.0}
"""an engine's all-to-all, timed on the 8 GPUs of a node only, which tell nothing of its growth with the group"""
_NO_KERNEL = Kernel(compute_efficiency=0.5, memory_efficiency=0.5, floor_s=0.0)
_NO_COLLECTIVE = Collective(efficiency=0.5, floor_s=0.0)
LONGEST_SPLIT_S = 1e-5
"""a library whose fit has longer splits does not split the depth of products: on A100, H100 and B200 the bf16 and
TensorRT-LLM's fp8 products do (2.5 to 5.5 us), CUTLASS's fp8, DeepGEMM's and the fp4 products do not"""
Timed = Sequence[tuple[Chip, KernelSet]]


def fit_kernel(kind: str, items: Timed) -> Fit:
    """Coefficients of one kernel kind in one precision, over all chips of `items`; priors hold those not identified."""
    start, always = dict(KERNEL_START[kind]), {"unit_efficiency": 0.2} if kind == "matmul" else {}
    if kind == "matmul" and items[0][1].precision != "bf16":
        start |= QUANTISED
        # only the sum of the GEMM's and the quantisation's launch floors is identifiable
        always = {"floor_s": 0.3, "unit_efficiency": 0.2}

    def predicted(values: Mapping[str, float]) -> list[Values]:
        return [kernel_seconds(chip, item, _kernel(values)) for chip, item in items]

    measured = [
        Measured(group=f"{chip.name} {item.anchor}", values=item.seconds, clusters=_shapes(item))
        for chip, item in items
    ]
    first = least(start, predicted, measured, always)
    if first.values.get("split_s", 0.0) > LONGEST_SPLIT_S:
        del start["split_s"]
        first = least(start, predicted, measured, always)
    held = {name: width for name, width in PRIOR[kind].items() if name in start and not first.identified(name)}
    return replace(least(start, predicted, measured, always | held), held=frozenset(held)) if held else first


def collective_start(kind: str, engine: str) -> Mapping[str, float]:
    """Where the fit of a collective starts: the library's, an engine's all-reduce, or its exchange among experts."""
    if not engine:
        return COLLECTIVE_START
    return ONE_SHOT_START if kind == "all-reduce" else EXPERTS_START


def fit_collective(items: Timed, start: Mapping[str, float]) -> Fit:
    """Coefficients of one collective."""

    def predicted(values: Mapping[str, float]) -> list[Values]:
        made = _collective(values)
        return [exchange_seconds(chip, item, made) for chip, item in items]

    measured = [Measured(group=chip.name, values=item.seconds, clusters=_shapes(item)) for chip, item in items]
    return least(start, predicted, measured)


def _shapes(item: KernelSet) -> npt.NDArray[np.int64]:
    """Cluster index of each row by shape: weights of a product, heads of an attention, group size of a collective."""
    work = item.work
    if isinstance(work, Matmul):
        shape = np.stack([work.columns, work.depth])
    elif isinstance(work, Attention):
        shape = np.stack(np.broadcast_arrays(work.heads, work.kv_heads, item.seconds)[:2])
    elif isinstance(work, Experts):
        shape = np.stack([work.width, work.experts])
    else:  # collectives: by group size
        shape = np.atleast_2d(getattr(work, "group", np.zeros_like(item.seconds)))
    index = np.unique(shape, axis=1, return_inverse=True)[1]
    return np.asarray(index, dtype=np.int64).reshape(-1)


def _kernel(values: Mapping[str, Any]) -> Kernel:
    return replace(_NO_KERNEL, **values)


def _collective(values: Mapping[str, Any]) -> Collective:
    return replace(_NO_COLLECTIVE, **values)
