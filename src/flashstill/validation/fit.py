"""Fits of calibration coefficients: robust least squares on the logarithm of predicted over measured.

Every coefficient belongs to an operation kind, a precision and a chip class; each chip that has measurements weighs the
same, however many rows it brings, and each row's error counts as a ratio, so that short and long kernels matter alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from flashstill.cost.conditions import Conditions, Precisions, uniform
from flashstill.cost.links import link_cost
from flashstill.cost.operations import operation_seconds
from flashstill.hardware import Calibration, Chip, Collective, Kernel
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.parallel import Exchange
from flashstill.validation.errors import Values
from flashstill.validation.tables import KernelSet
from flashstill.workload import Operation

ROBUST_SCALE = 0.15
"""log errors beyond it pull less than their square"""
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
LARGEST = {"memory_efficiency": 0.97, "compute_efficiency": 1.0, "efficiency": 1.0, "one_shot_efficiency": 1.0}
"""no kernel moves more than the peak; a fit that wants to says that its form is wrong elsewhere"""


_NO_KERNEL = Kernel(compute_efficiency=0.5, memory_efficiency=0.5, floor_s=0.0)
_NO_COLLECTIVE = Collective(efficiency=0.5, floor_s=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Coefficients with two standard errors each, and what they leave: median absolute error over n rows."""

    values: dict[str, float]
    spread: dict[str, float]
    n: int
    median_absolute_error: float


def kernel_seconds(chip: Chip, item: KernelSet, kernel: Kernel | None = None) -> Values:
    """Predicted seconds of a set of kernels, by the chip's own coefficients or by `kernel`."""
    calibration = chip.calibration
    if kernel is not None:
        calibration = replace(calibration, kernels={(item.kind, item.precision): kernel})
    conditions = Conditions(
        chip=chip,
        precisions=_precisions(item),
        weights=chip.memory,
        cache=chip.memory,
        calibration=calibration,
        software=replace(NO_SOFTWARE, quantise_ratio=1.0),
    )
    assert isinstance(item.work, Operation)
    seconds = operation_seconds(conditions, item.work).seconds
    return np.broadcast_to(np.asarray(seconds, dtype=np.float64), item.seconds.shape)


def _precisions(item: KernelSet) -> Precisions:
    return uniform(item.precision, item.precision)


def exchange_seconds(chip: Chip, item: KernelSet, collective: Collective | None = None) -> Values:
    """Predicted seconds of a set of collectives."""
    calibration: Calibration = chip.calibration
    if collective is not None:
        calibration = replace(calibration, collectives={(item.kind, item.engine): collective})
    assert isinstance(item.work, Exchange)
    return np.asarray(link_cost(chip, calibration, item.work, item.engine).seconds, dtype=np.float64)


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


def least(
    start: Mapping[str, float],
    predicted: Callable[[Mapping[str, float]], Sequence[Values]],
    measured: Sequence[tuple[str, Values]],
    prior: Mapping[str, float] | None = None,
    growth: float = 0.0,
) -> Fit:
    """Minimise the robust log error over positive coefficients.

    measured: (group, values) of each set that `predicted` returns.  prior: standard deviations, in logs, that hold a
    coefficient near its start where the data say little.  growth: how the weight of a group grows with its rows, from
    0 (every group the same) to 1 (every row the same).
    """
    names = list(start)
    rows: dict[str, int] = {}
    for group, values in measured:
        rows[group] = rows.get(group, 0) + len(values)
    total = sum(rows.values())
    scale = total / sum(count**growth for count in rows.values())
    weights = [np.full(len(values), np.sqrt(scale * rows[group] ** (growth - 1.0))) for group, values in measured]
    held = prior or {}

    def residuals(logs: Values) -> Values:
        values = {name: start[name] * float(np.exp(log)) for name, log in zip(names, logs, strict=True)}
        found = [
            weight * np.log(np.maximum(one, 1e-12) / values_measured)
            for one, (_, values_measured), weight in zip(predicted(values), measured, weights, strict=True)
        ]
        strength = np.sqrt(total) * ROBUST_SCALE
        pulls = [strength * log / held[name] * 0.1 for name, log in zip(names, logs, strict=True) if name in held]
        return np.concatenate([*found, np.array(pulls)]) if pulls else np.concatenate(found)

    highest = [float(np.log(LARGEST[name] / start[name])) if name in LARGEST else 6.0 for name in names]
    solution = least_squares(
        residuals, np.zeros(len(names)), loss="soft_l1", f_scale=ROBUST_SCALE, bounds=([-6.0] * len(names), highest)
    )
    found = {name: start[name] * float(np.exp(log)) for name, log in zip(names, solution.x, strict=True)}
    errors = np.concatenate(
        [one / values_measured - 1.0 for one, (_, values_measured) in zip(predicted(found), measured, strict=True)]
    )
    spread = _standard_errors(solution.jac, solution.fun, len(names))
    return Fit(
        values=found,
        spread={name: 2.0 * error for name, error in zip(names, spread, strict=True)},
        n=total,
        median_absolute_error=float(np.median(np.abs(errors))),
    )


def _standard_errors(jacobian: Values, residuals: Values, count: int) -> Values:
    """Of the logarithms; a direction that the data do not see gets a large one."""
    variance = float(np.median(np.abs(residuals))) ** 2 * 2.2
    information = jacobian.T @ jacobian
    covariance = np.linalg.pinv(information + 1e-9 * np.eye(count)) * variance
    errors: Values = np.sqrt(np.clip(np.diag(covariance), 0.0, 4.0))
    return errors
