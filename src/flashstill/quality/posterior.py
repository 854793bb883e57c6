"""Draws of the coefficients of an additive law from a few runs: Bayesian, as five runs do not determine five numbers.

    ln L_i = ln(E + P (N_i/N_0)^-alpha + Q (D_i/D_0)^-beta) + sigma t_i,     t_i ~ Student's t, 4 degrees of freedom

N_0 and D_0 are geometric means of the runs, so that the prior speaks of what five runs can tell:

    E, P, Q as shares of the loss at (N_0, D_0)     uniform over all shares
    ln alpha, ln beta                                normal around the published exponents (priors.toml)
    ln sigma                                         normal around the scatter of single runs

Heavy tails forgive an outlier, as the Huber loss of Hoffmann et al. 2022 does.  Draws by an ensemble of walkers that
moves affinely (Goodman and Weare 2010), annealed from the prior; several subsets of the runs are sampled side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Generator = np.random.Generator
_WALKERS, _ANNEALED, _SETTLED, _KEPT, _EVERY = 96, 300, 300, 700, 14
_STRETCH = 2.0
DEGREES = 4.0
"""degrees of freedom of the scatter"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Centre and standard deviation of the logarithm of exponents and of the scatter of a single run."""

    exponent: float
    exponent_spread: float
    scatter: float
    scatter_spread: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Draws:
    """Coefficients [subsets, draws] of additive laws, and sigma, the scatter of a single run in ln L."""

    E: Values
    A: Values
    B: Values
    alpha: Values
    beta: Values
    sigma: Values


def draws(parameters: Values, tokens: Values, losses: Values, used: Values, prior: Prior, seed: int = 0) -> Draws:
    """Posterior draws for each row of `used` [subsets, runs], which says which runs count (1) or not (0).

    parameters, tokens, losses: [runs], or [subsets, runs] where the subsets are of different runs.
    """
    numbers = np.random.default_rng(seed)
    runs = np.log(np.stack([np.broadcast_to(amounts, used.shape) for amounts in (parameters, tokens, losses)]))
    at_size, at_tokens, level_there = runs.mean(axis=-1)[..., None]
    runs[0] -= at_size
    runs[1] -= at_tokens

    def log_posterior(walkers: Values, power: float) -> Values:
        return _log_prior(walkers, level_there, prior) + power * _log_likelihood(walkers, runs, used)

    walkers = _from_prior(numbers, level_there, prior)
    height = log_posterior(walkers, 0.0)
    kept = []
    for step in range(_ANNEALED + _SETTLED + _KEPT):
        power = min(1.0, 10.0 ** (-3 * (1 - step / _ANNEALED)))
        if step <= _ANNEALED:
            height = log_posterior(walkers, power)
        walkers, height = _moved(numbers, walkers, height, partial(log_posterior, power=power))
        if step >= _ANNEALED + _SETTLED and step % _EVERY == 0:
            kept.append(walkers)
    level, shares, alpha, beta, sigma = _meaning(np.concatenate(kept, axis=1))
    return Draws(
        E=level * shares[0],
        A=level * shares[1] * np.exp(alpha * at_size),
        B=level * shares[2] * np.exp(beta * at_tokens),
        alpha=alpha,
        beta=beta,
        sigma=sigma,
    )


def _meaning(walkers: Values) -> tuple[Values, tuple[Values, Values, Values], Values, Values, Values]:
    """(loss at the centre, its shares, alpha, beta, sigma) of walkers [..., 6]."""
    level, size, data, alpha, beta, sigma = np.moveaxis(walkers, -1, 0)
    highest = np.maximum(0.0, np.maximum(size, data))
    parts = np.exp(-highest), np.exp(size - highest), np.exp(data - highest)
    whole = parts[0] + parts[1] + parts[2]
    shares = parts[0] / whole, parts[1] / whole, parts[2] / whole
    return np.exp(level), shares, np.exp(alpha), np.exp(beta), np.exp(sigma)


def _log_prior(walkers: Values, level_there: Values, prior: Prior) -> Values:
    level, size, data, alpha, beta, sigma = np.moveaxis(walkers, -1, 0)
    # shares uniform: the density of their logits is the product of the shares
    total = np.logaddexp(0.0, np.logaddexp(size, data))
    shares = size + data - 3 * total
    exponents = (alpha - math.log(prior.exponent)) ** 2 + (beta - math.log(prior.exponent)) ** 2
    scatter = ((sigma - math.log(prior.scatter)) / prior.scatter_spread) ** 2
    centre = (level - level_there) ** 2
    return np.asarray(shares - 0.5 * (exponents / prior.exponent_spread**2 + scatter + centre))


def _log_likelihood(walkers: Values, runs: Values, used: Values) -> Values:
    size, data, log_losses = runs[:, :, None, :]
    level, shares, alpha, beta, sigma = _meaning(walkers[..., None, :])
    predicted = shares[0] + shares[1] * np.exp(-alpha * size) + shares[2] * np.exp(-beta * data)
    scaled = (np.log(level) + np.log(predicted) - log_losses) / sigma
    each = -np.log(sigma) - (DEGREES + 1) / 2 * np.log1p(scaled**2 / DEGREES)
    return np.asarray((each * used[:, None, :]).sum(axis=-1))


def _from_prior(numbers: Generator, level_there: Values, prior: Prior) -> Values:
    shape = (len(level_there), _WALKERS)
    shares = np.log(numbers.dirichlet((1.0, 1.0, 1.0), shape))
    return np.stack(
        [
            level_there + 0.1 * numbers.standard_normal(shape),
            shares[..., 1] - shares[..., 0],
            shares[..., 2] - shares[..., 0],
            math.log(prior.exponent) + prior.exponent_spread * numbers.standard_normal(shape),
            math.log(prior.exponent) + prior.exponent_spread * numbers.standard_normal(shape),
            math.log(prior.scatter) + prior.scatter_spread * numbers.standard_normal(shape),
        ],
        axis=-1,
    )


def _moved(
    numbers: Generator, walkers: Values, height: Values, log_posterior: Callable[[Values], Values]
) -> tuple[Values, Values]:
    """One stretch move of each half of the ensemble along lines through walkers of the other half."""
    walkers, height = walkers.copy(), height.copy()
    half, dimensions = _WALKERS // 2, walkers.shape[-1]
    for mine, theirs in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        current = walkers[:, mine]
        shape = current.shape[:2]
        partner = np.take_along_axis(walkers[:, theirs], numbers.integers(0, half, shape)[..., None], axis=1)
        stretch = ((_STRETCH - 1) * numbers.random(shape) + 1) ** 2 / _STRETCH
        proposed = partner + stretch[..., None] * (current - partner)
        there = log_posterior(proposed)
        accepted = np.log(numbers.random(shape)) < (dimensions - 1) * np.log(stretch) + there - height[:, mine]
        walkers[:, mine] = np.where(accepted[..., None], proposed, current)
        height[:, mine] = np.where(accepted, there, height[:, mine])
    return walkers, height
