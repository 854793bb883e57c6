"""Coefficients of several engines fitted together: each engine deviates from a mean that all share.

Symbols: y predicted and t measured values of n rows, c > 0 the coefficients, e the engine of a row, w its weight.

    log c_e  =  log start + mean + deviation_e      mean ~ N(0, mean_width^2),  deviation ~ N(0, width^2)
    r        =  log y(c_e) - log t                  robust errors of scale `noise`

    minimise    sum of w 2 C^2 (sqrt(1 + (r / noise C)^2) - 1)  +  sum of squared priors           (soft L1)
    covariance  H^-1 (sum over stacks of g g^T + prior precision) H^-1,  H the Hessian, g a stack's gradient

This is the maximum a posteriori estimate of a hierarchical model (Gelman et al. 2013, Bayesian Data Analysis, chapter
5): a coefficient that few rows of an engine determine stays near that of its siblings, and an engine without rows takes
the mean.  The rows of a stack err together, so its gradients enter the covariance as one (Cameron and Miller 2015).

Gauss-Newton: log y is linearised, the robust weights are iterated on the linear problem, and y is priced anew; a step
that does not improve is repeated with damping.  One call prices the rows and all derivatives (see trials.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flashstill.validation.comparison import Values

ROBUST = 2.0
"""scale C of the soft L1 loss, in units of the noise"""
STEP = 1e-3
"""step of the derivatives, in logs"""
ROUNDS = 25
"""most linearisations of one fit"""
GAIN = 2e-4
"""a fit ends when a step lowers the objective by a smaller share"""
_REWEIGHTS = 12
_UNANSWERED = 5.0
"""error in logs of a row that fits at the start but not at trial coefficients"""


class Block(Protocol):
    """Rows of one engine that are priced together (trials.Trial). rows: their places among all rows."""

    @property
    def engine(self) -> str: ...
    @property
    def rows(self) -> npt.NDArray[np.int64]: ...
    def price(self, coefficients: Mapping[str, Values]) -> dict[str, Values]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """Measured values of one quantity, NaN where a row has none.

    names: the coefficients that these values determine; the rest is taken from the other quantities.
    noise: standard deviation of the log error of a row.
    """

    quantity: str
    values: Values
    names: tuple[str, ...]
    noise: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Start values, and standard deviations in logs: of the mean around them, and of an engine around the mean."""

    start: Mapping[str, float]
    mean_width: Mapping[str, float]
    width: Mapping[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        """The coefficients in order."""
        return tuple(self.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooled:
    """A fit. logs: mean, then the deviation of every engine, each by coefficient; flat.

    covariance: of `logs`.  around: the problem linearised at `logs`, from which fits to fewer rows start.
    """

    engines: tuple[str, ...]
    prior: Prior
    logs: Values
    covariance: Values
    around: Linear | None = None

    def values(self, engine: str) -> dict[str, float]:
        """Coefficients of an engine; those of the mean for one that is not among the fitted."""
        total = self._selected(engine) @ self.logs
        return {
            name: self.prior.start[name] * float(np.exp(log)) for name, log in zip(self.prior.names, total, strict=True)
        }

    def spread(self, engine: str) -> dict[str, float]:
        """Two standard errors of the logs of `values`; an engine without rows adds the prior width to the mean's."""
        chosen = self._selected(engine)
        variances = np.einsum("pd,de,pe->p", chosen, self.covariance, chosen)
        if engine not in self.engines:
            variances = variances + np.array([self.prior.width[name] ** 2 for name in self.prior.names])
        return {name: 2.0 * float(np.sqrt(one)) for name, one in zip(self.prior.names, variances, strict=True)}

    def held(self, engine: str) -> frozenset[str]:
        """Coefficients whose uncertainty is mostly that of the prior."""
        spread, prior = self.spread(engine), self.prior
        return frozenset(
            name for name in prior.names if spread[name] > 1.4 * np.hypot(prior.mean_width[name], prior.width[name])
        )

    def _selected(self, engine: str) -> Values:
        """The matrix that adds an engine's deviations to the mean."""
        count = len(self.prior.names)
        blocks = [np.eye(count)] + [np.eye(count) * (name == engine) for name in self.engines]
        return np.concatenate(blocks, axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """The problem around one point: log errors and their derivatives by `logs`, over rows of all quantities."""

    errors: Values
    jacobian: Values


def fit_pooled(
    blocks: Sequence[Block],
    observed: Sequence[Observed],
    weights: Values,
    stacks: npt.NDArray[np.int64],
    prior: Prior,
    near: Pooled | None = None,
) -> Pooled:
    """The coefficients of the engines of `blocks`. weights: of each row, 0 to leave it out.  stacks: index of each row.

    near: a fit to all these rows and more, from which the search starts.
    """
    engines = near.engines if near else tuple(sorted({block.engine for block in blocks}))
    count = len(prior.names)
    widths = np.concatenate(
        [[prior.mean_width[name] for name in prior.names]]
        + [[prior.width[name] for name in prior.names]] * len(engines)
    )
    noise = np.repeat([each.noise for each in observed], len(weights))
    logs = np.zeros(count * (1 + len(engines))) if near is None else near.logs

    def linear(at: Values) -> Linear:
        point = Pooled(engines=engines, prior=prior, logs=at, covariance=np.empty((0, 0)))
        return _linear(blocks, observed, weights, point)

    here = near.around if near is not None and near.around is not None else linear(logs)
    counted = np.tile(weights, len(observed)) * np.isfinite(here.errors)
    objective = _Objective(weights=counted, noise=noise, precision=1.0 / widths**2)
    cost, damping = objective.cost(here, logs), 1e-3
    for _ in range(ROUNDS):
        trial = objective.solved(here, logs, damping)
        there = linear(trial)
        gained = cost - objective.cost(there, trial)
        if gained > 0.0:
            logs, here, cost, damping = trial, there, cost - gained, damping / 6.0
        else:
            damping = max(6.0 * damping, 1.0)
        if 0.0 < gained < GAIN * cost or damping > 1e5:
            break
    covariance = objective.covariance(here, np.tile(stacks, len(observed)))
    return Pooled(engines=engines, prior=prior, logs=logs, covariance=covariance, around=here)


def _linear(blocks: Sequence[Block], observed: Sequence[Observed], weights: Values, point: Pooled) -> Linear:
    """Log errors of all quantities and rows at a point, with derivatives by finite differences; NaN if not priced."""
    names, rows = point.prior.names, len(weights)
    count = len(names)
    errors = np.full((len(observed), rows), np.nan)
    jacobian = np.zeros((len(observed), rows, len(point.logs)))
    steps = np.exp(STEP * np.concatenate([np.zeros((1, count)), np.eye(count)]))
    for block in blocks:
        if not weights[block.rows].any():
            continue
        values, own = point.values(block.engine), 1 + point.engines.index(block.engine)
        priced = block.price({name: values[name] * steps[:, place] for place, name in enumerate(names)})
        for index, each in enumerate(observed):
            with np.errstate(divide="ignore", invalid="ignore"):
                logs = np.log(priced[each.quantity])
            errors[index, block.rows] = logs[0] - np.log(each.values[block.rows])
            by_name = ((logs[1:] - logs[0]) / STEP).T * np.isin(names, each.names)
            jacobian[index, block.rows, :count] = by_name
            jacobian[index, block.rows, own * count : (own + 1) * count] = by_name
    return Linear(errors=errors.ravel(), jacobian=np.nan_to_num(jacobian.reshape(-1, len(point.logs))))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Objective:
    """The robust posterior. weights, noise: of each error.  precision: of the prior of each log coefficient."""

    weights: Values
    noise: Values
    precision: Values

    def cost(self, at: Linear, logs: Values) -> float:
        """The objective at a point."""
        errors = np.where(np.isfinite(at.errors), at.errors, _UNANSWERED) / (self.noise * ROBUST)
        loss = 2.0 * ROBUST**2 * (np.sqrt(1.0 + errors**2) - 1.0)
        return float((self.weights * loss).sum() + (self.precision * logs**2).sum())

    def _robust(self, errors: Values) -> Values:
        """Weights of the equivalent least squares."""
        return self.weights / self.noise**2 / np.sqrt(1.0 + (errors / (self.noise * ROBUST)) ** 2)

    def solved(self, at: Linear, logs: Values, damping: float) -> Values:
        """The minimum of the linearised problem; damping: precision of staying where we are."""
        used = (self.weights > 0.0) & np.isfinite(at.errors)
        errors, jacobian = np.where(used, at.errors, 0.0), at.jacobian
        found = logs
        for _ in range(_REWEIGHTS):
            robust = self._robust(errors + jacobian @ (found - logs)) * used
            hessian = jacobian.T @ (robust[:, None] * jacobian) + np.diag(self.precision + damping)
            pull = jacobian.T @ (robust * (jacobian @ logs - errors)) + damping * logs
            before, found = found, np.asarray(np.linalg.solve(hessian, pull), dtype=np.float64)
            if np.abs(found - before).max() < STEP:
                break
        return found

    def covariance(self, at: Linear, stacks: npt.NDArray[np.int64]) -> Values:
        """Posterior covariance, with the gradients of a stack's rows added up before they are squared."""
        used = (self.weights > 0.0) & np.isfinite(at.errors)
        errors = np.where(used, at.errors, 0.0)
        robust = self._robust(errors) * used
        hessian = at.jacobian.T @ (robust[:, None] * at.jacobian) + np.diag(self.precision)
        gradients = np.zeros((int(stacks.max()) + 1, len(self.precision)))
        np.add.at(gradients, stacks, (robust * errors)[:, None] * at.jacobian)
        inverse = np.linalg.inv(hessian)
        between: Values = inverse @ (gradients.T @ gradients + np.diag(self.precision)) @ inverse
        return between


def priced(blocks: Sequence[Block], fit: Pooled, quantities: Sequence[str], rows: int) -> dict[str, Values]:
    """Predictions of `rows` rows by a fit, NaN where there is none."""
    found = {quantity: np.full(rows, np.nan) for quantity in quantities}
    for block in blocks:
        values = {name: np.array([value]) for name, value in fit.values(block.engine).items()}
        for quantity, predicted in block.price(values).items():
            if quantity in found:
                found[quantity][block.rows] = predicted[0]
    return found
