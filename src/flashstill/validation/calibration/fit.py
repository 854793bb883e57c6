"""Fits of calibration coefficients: robust least squares on the logarithm of predicted over measured.

Every coefficient belongs to an operation kind, a precision and a chip class; each chip that has measurements weighs the
same, however many rows it brings, and each row's error counts as a ratio, so that short and long kernels matter alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from flashstill.validation.comparison import Values

ROBUST_SCALE = 0.15
"""log errors beyond it pull less than their square"""
LARGEST = {"memory_efficiency": 0.97, "compute_efficiency": 1.0, "efficiency": 1.0, "one_shot_efficiency": 1.0}
"""no kernel moves more than the peak; a fit that wants to says that its form is wrong elsewhere"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Coefficients with two standard errors each, and what they leave: median absolute error over n rows."""

    values: dict[str, float]
    spread: dict[str, float]
    n: int
    median_absolute_error: float


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
