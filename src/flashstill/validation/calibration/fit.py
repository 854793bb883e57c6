"""Fits of calibration coefficients: robust least squares on the logarithm of predicted over measured.

Symbols: r the log errors of n rows, w = (1 + (r/s)^2)^(-1/2) their robust weights, J the derivatives of r in the
logarithms of the coefficients, c the clusters of rows that share a shape, a model or a machine.

    minimise    sum of soft_l1(r) over the rows, each group of rows weighing the same however many it brings
    covariance  A^-1 (sum over clusters of J_c^T w r r^T w J_c) A^-1,  A = J^T w J     (Cameron and Miller 2015, eq. 11)

Rows of one cluster err together, so thousands of timings of one shape say little more than one; the range of a
coefficient follows from how far clusters disagree, and is never below what independent rows would give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from flashstill.validation.comparison import Values

ROBUST_SCALE = 0.15
"""log errors beyond it pull less than their square"""
IDENTIFIED = float(np.log(2.0))
"""a coefficient that two standard errors do not hold within a factor of two is not identified by the data"""
LARGEST = {"memory_efficiency": 1.0, "compute_efficiency": 1.0, "efficiency": 1.0, "one_shot_efficiency": 1.0}
"""no kernel moves more than the peak; a fit that wants to says that its form is wrong elsewhere"""
_STEP = 1e-4
TOLERANCES = {"ftol": 1e-4, "xtol": 1e-3}
"""a search ends when coefficients change by less than they are printed with"""
NEAR_STEPS = 4
"""of a search that starts from the fit to almost the same rows"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Measured values of one set. group: sets that share one weight.  clusters: which rows err together."""

    group: str
    values: Values
    clusters: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Coefficients, two standard errors of their logarithms, and what they leave: median absolute error over n rows."""

    values: dict[str, float]
    spread: dict[str, float]
    n: int
    median_absolute_error: float
    held: frozenset[str] = frozenset()
    """coefficients that a prior holds, as the data do not identify them"""

    def identified(self, name: str) -> bool:
        """Whether the data hold the coefficient within a factor of two, and away from its largest value."""
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

    predicted: coefficients -> values of each set of `measured`; a row that is no number at the start is left out.
    prior: standard deviations, in logs, that hold a coefficient near its start where the data say little.
    near: where the search begins, if not at the start, which a prior holds on to.
    growth: how the weight of a group grows with its rows, from 0 (every group the same) to 1 (every row the same).
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

    highest = [float(np.log(LARGEST[name] / start[name])) if name in LARGEST else 6.0 for name in names]
    limits = ([-6.0] * len(names), highest)
    first = np.log([(near or start).get(name, start[name]) / start[name] for name in names])
    solution = least_squares(
        residuals,
        np.clip(first, -5.9, np.array(highest) - 1e-3),
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
    """The square root of each row's weight: groups weigh as their rows to the power of `growth`."""
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
    """Clusters numbered through all sets."""
    found, first = [], 0
    for each, kept in zip(measured, answered, strict=True):
        found.append(each.clusters[kept] + first)
        first += int(each.clusters.max(initial=0)) + 1
    return np.concatenate(found)


def _standard_errors(residuals: Callable[[Values], Values], logs: Values, clusters: npt.NDArray[np.int64]) -> Values:
    """Of the logarithms of the coefficients; a direction that the data do not see gets a large one.

    clusters: of each residual; those of a prior are -1 and take no part in the disagreement of clusters.
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
