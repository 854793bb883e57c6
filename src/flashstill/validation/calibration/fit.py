"""Fits of calibration coefficients: robust least squares on log(predicted / measured).

Symbols: r the log errors of n rows, w = (1 + (r/s)^2)^(-1/2) their robust weights, J the derivatives of r by the logs
of the coefficients, c the clusters of rows that share a shape, a model or a machine.

    minimise    sum of soft_l1(r) over the rows; by default each group of rows has the same total weight
    covariance  A^-1 (sum over clusters of J_c^T w r r^T w J_c) A^-1,  A = J^T w J     (Cameron and Miller 2015, eq. 11)

Errors within a cluster are correlated, so thousands of timings of one shape carry little more information than one.
The range of a coefficient comes from the disagreement of clusters, and is at least that of independent rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from flashstill.validation.comparison import Values

ROBUST_SCALE = 0.15
"""scale of soft_l1: log errors beyond it count linearly, not squared"""
IDENTIFIED = float(np.log(2.0))
"""a coefficient is identified if its two standard errors (in logs) are within a factor of two"""
LARGEST = dict.fromkeys(
    (
        "memory_efficiency",
        "compute_efficiency",
        "unit_efficiency",
        "efficiency",
        "one_shot_efficiency",
        "padding",
        "exposed_ratio",
    ),
    1.0,
) | {"softmax_ratio": 10.0}
"""upper bounds: no kernel exceeds the peak, no more than all of a collective is exposed, and no softmax takes ten times
the products of heads of 128; a fit at the bound means its formula is wrong elsewhere"""
SMALLEST = {"blend": 0.5}
"""lower bounds: a blend below makes two equal times take more than four times one of them"""
_STEP = 1e-4
TOLERANCES = {"ftol": 1e-4, "xtol": 1e-3}
"""a search ends when coefficients change by less than their printed precision"""
NEAR_STEPS = 4
"""most function evaluations of a search that starts from a fit to almost the same rows"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Measured values of one set. group: sets of the same group share one weight.  clusters: correlated rows."""

    group: str
    values: Values
    clusters: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Coefficients, two standard errors of their logs, and the median absolute relative error over n rows."""

    values: dict[str, float]
    spread: dict[str, float]
    n: int
    median_absolute_error: float
    held: frozenset[str] = frozenset()
    """coefficients constrained by a prior because the data do not identify them"""

    def identified(self, name: str) -> bool:
        """Whether the data determine the coefficient within a factor of two, and below its upper bound."""
        at_the_limit = name in LARGEST and self.values[name] > 0.999 * LARGEST[name]
        return self.spread[name] <= IDENTIFIED and not at_the_limit


def least(
    start: Mapping[str, float],
    predicted: Callable[[Mapping[str, float]], Sequence[Values]],
    measured: Sequence[Measured],
    prior: Mapping[str, float] | None = None,
    growth: float = 0.0,
    near: Mapping[str, float] | None = None,
) -> Fit:
    """Minimise the robust log error over positive coefficients.

    predicted: coefficients -> values of each set of `measured`; rows not finite at the start values are left out.
    prior: standard deviations in logs, around the start values, for coefficients that the data hardly determine.
    near: values at which the search starts, if other than `start`; the prior stays centred on `start`.
    growth: exponent of a group's weight in its number of rows: 0 (all groups equal) to 1 (all rows equal).
    """
    names = list(start)
    answered = [np.isfinite(one) for one in predicted(start)]
    logs_measured = np.concatenate([np.log(each.values[kept]) for each, kept in zip(measured, answered, strict=True)])
    weights = _weights([each.group for each in measured], [int(kept.sum()) for kept in answered], growth)
    total = len(logs_measured)
    clusters = _clusters(measured, answered)
    prior_widths = {name: width for name, width in (prior or {}).items() if name in start}
    strength = 0.1 * ROBUST_SCALE * float(np.sqrt(total))

    def coefficients(logs: Values) -> dict[str, float]:
        return {name: start[name] * float(np.exp(log)) for name, log in zip(names, logs, strict=True)}

    def errors(logs: Values) -> Values:
        values = np.concatenate([one[kept] for one, kept in zip(predicted(coefficients(logs)), answered, strict=True)])
        return np.asarray(np.log(np.maximum(values, 1e-12)) - logs_measured)

    def residuals(logs: Values) -> Values:
        pulls = [
            strength * log / prior_widths[name] for name, log in zip(names, logs, strict=True) if name in prior_widths
        ]
        return np.concatenate([weights * errors(logs), np.array(pulls)])

    bounds = {name: LARGEST.get(name.rpartition(".")[2]) for name in names}
    highest = [float(np.log(bound / start[name])) if bound else 6.0 for name, bound in bounds.items()]
    least_of = {name: SMALLEST.get(name.rpartition(".")[2]) for name in names}
    lowest = [float(np.log(bound / start[name])) if bound else -6.0 for name, bound in least_of.items()]
    limits = (lowest, highest)
    first = np.log([(near or start).get(name, start[name]) / start[name] for name in names])
    solution = least_squares(
        residuals,
        np.clip(first, np.array(lowest) + 1e-3, np.array(highest) - 1e-3),
        loss="soft_l1",
        f_scale=ROBUST_SCALE,
        bounds=limits,
        max_nfev=NEAR_STEPS if near else None,
        **TOLERANCES,
    )
    spread = 2.0 * _standard_errors(residuals, solution.x, np.concatenate([clusters, np.full(len(prior_widths), -1)]))
    return Fit(
        values=coefficients(solution.x),
        spread=dict(zip(names, (float(one) for one in spread), strict=True)),
        n=total,
        median_absolute_error=float(np.median(np.abs(np.expm1(errors(solution.x))))),
    )


def _weights(groups: Sequence[str], counts: Sequence[int], growth: float) -> Values:
    """Square root of each row's weight; a group's total weight is its number of rows to the power `growth`."""
    rows: dict[str, int] = {}
    for group, count in zip(groups, counts, strict=True):
        rows[group] = rows.get(group, 0) + count
    scale = sum(rows.values()) / sum(count**growth for count in rows.values() if count)
    return np.concatenate(
        [
            np.full(count, np.sqrt(scale * max(rows[group], 1) ** (growth - 1.0)))
            for group, count in zip(groups, counts, strict=True)
        ]
    )


def _clusters(measured: Sequence[Measured], answered: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.int64]:
    """Cluster indices, unique over all sets; unanswered rows left out."""
    found, first = [], 0
    for each, kept in zip(measured, answered, strict=True):
        found.append(each.clusters[kept] + first)
        first += int(each.clusters.max(initial=0)) + 1
    return np.concatenate(found)


def _standard_errors(residuals: Callable[[Values], Values], logs: Values, clusters: npt.NDArray[np.int64]) -> Values:
    """Standard errors of the logs of the coefficients; large (up to 2) in directions that the data do not determine.

    clusters: index of each residual; prior residuals have -1 and are excluded from the cluster sums.
    """
    rest = residuals(logs)
    jacobian = np.stack([(residuals(logs + step) - rest) / _STEP for step in _STEP * np.eye(len(logs))], axis=1)
    robust = 1.0 / np.sqrt(1.0 + (rest / ROBUST_SCALE) ** 2)
    inverse = np.linalg.pinv(jacobian.T @ (robust[:, None] * jacobian) + 1e-9 * np.eye(len(logs)))
    data = clusters >= 0
    scores = (robust * rest)[data, None] * jacobian[data]
    _, index = np.unique(clusters[data], return_inverse=True)
    count = int(index.max()) + 1
    sums = np.zeros((count, len(logs)))
    np.add.at(sums, index, scores)
    between = inverse @ (sums.T @ sums) @ inverse * (count / max(count - 1, 1))
    independent = inverse * float(np.median(np.abs(rest[data]))) ** 2 * 2.2
    variances = np.maximum(np.diag(between), np.diag(independent))
    errors: Values = np.sqrt(np.clip(variances, 0.0, 4.0))
    return errors
