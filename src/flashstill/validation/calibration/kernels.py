"""Coefficients of single kernels and collectives, fitted to published timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flashstill.hardware import Chip, Collective, Kernel
from flashstill.validation.anchors.tables import KernelSet
from flashstill.validation.calibration.fit import Fit, least
from flashstill.validation.comparison import Values
from flashstill.validation.kernel_times import exchange_seconds, kernel_seconds

KERNEL_START: Mapping[str, Mapping[str, float]] = {
    "matmul": {
        "compute_efficiency": 0.8,
        "memory_efficiency": 0.83,
        "floor_s": 3e-6,
        "blend": 2.5,
        "tile_penalty": 2.0,
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
        "compute_efficiency": 0.9,
        "memory_efficiency": 0.95,
        "floor_s": 1.2e-5,
        "blend": 1.4,
        "block_s": 3.8e-6,
        "group_ratio": 3.6,
        "doubling_s": 8e-7,
    },
    "prompt-attention": {"compute_efficiency": 0.55, "memory_efficiency": 0.4, "floor_s": 1.3e-5, "block_s": 3.5e-7},
    "experts": {
        "compute_efficiency": 0.7,
        "memory_efficiency": 0.81,
        "floor_s": 2.6e-5,
        "blend": 1.8,
        "passes": 3.0,
        "expert_s": 3e-6,
        "tile_penalty": 5.0,
    },
}
QUANTISED = {"quantise_floor_s": 5e-6, "passes": 2.0}
COLLECTIVE_START = {"efficiency": 0.75, "floor_s": 5e-6, "rank_s": 1e-6, "blend": 0.7}
ONE_SHOT_START = {
    "efficiency": 0.75,
    "floor_s": 8e-6,
    "one_shot_floor_s": 3e-6,
    "one_shot_doubling_s": 2e-7,
    "one_shot_efficiency": 0.6,
}
_NO_KERNEL = Kernel(compute_efficiency=0.5, memory_efficiency=0.5, floor_s=0.0)
_NO_COLLECTIVE = Collective(efficiency=0.5, floor_s=0.0)


def fit_kernel(kind: str, items: Sequence[tuple[Chip, KernelSet]]) -> Fit:
    """The coefficients of one kind in one precision over all chips that measured it."""
    start = dict(KERNEL_START[kind])
    if kind == "matmul" and items[0][1].precision != "bf16":
        start |= QUANTISED

    def predicted(values: Mapping[str, float]) -> list[Values]:
        return [kernel_seconds(chip, item, _kernel(values)) for chip, item in items]

    prior = {"floor_s": 0.3} if "quantise_floor_s" in start else None  # the two floors only show as a sum
    return least(start, predicted, [(f"{chip.name} {item.anchor}", item.seconds) for chip, item in items], prior)


def fit_collective(items: Sequence[tuple[Chip, KernelSet]], start: Mapping[str, float]) -> Fit:
    """The coefficients of one collective."""

    def predicted(values: Mapping[str, float]) -> list[Values]:
        made = _collective(values)
        return [exchange_seconds(chip, item, made) for chip, item in items]

    return least(start, predicted, [(chip.name, item.seconds) for chip, item in items])


def _kernel(values: Mapping[str, Any]) -> Kernel:
    return replace(_NO_KERNEL, **values)


def _collective(values: Mapping[str, Any]) -> Collective:
    return replace(_NO_COLLECTIVE, **values)
