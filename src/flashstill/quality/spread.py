"""What is known about a law's errors, and draws of its coefficients.

covariance        of E, exponents and logarithms of the factors A, B: coefficients are far from independent
standard_errors   alone, where the paper gives no covariance: drawn independently
samples           of a fit on runs (posterior.py): coefficients that belong together, and `noise` of a single run
relative_error    the largest error that the paper tells of its fit: a span, not a confidence interval
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
_FACTORS = ("A", "B")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spread:
    """What is known of the four; the first of samples, covariance, standard errors and relative error is used.

    covariance: rows and columns in the order of `order`.
    """

    standard_errors: Mapping[str, float] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    covariance: tuple[tuple[float, ...], ...] = ()
    covariance_source: str = ""
    samples: Mapping[str, Values] = field(default_factory=dict)
    relative_error: float | None = None

    def draws(self, coefficients: Mapping[str, float], count: int, seed: int) -> dict[str, Any] | None:
        """name -> draws [count], or as many as the fit sampled; None if nothing is known."""
        if self.samples:
            return dict(self.samples)
        order, root = self._root(coefficients)
        if not order:
            return None
        steps = np.random.default_rng(seed).standard_normal((count, len(order))) @ root.T
        drawn: dict[str, Any] = {name: np.full(count, value) for name, value in coefficients.items()}
        for name, step in zip(order, steps.T, strict=True):
            drawn[name] = drawn[name] * np.exp(step) if name in _FACTORS else drawn[name] + step
        return drawn

    def _root(self, coefficients: Mapping[str, float]) -> tuple[tuple[str, ...], Values]:
        """Names, and the lower root of the covariance of their steps; factors step in logarithms."""
        if self.covariance:
            return self.order, np.linalg.cholesky(np.asarray(self.covariance))
        steps = [
            np.sqrt(np.log1p((error / coefficients[name]) ** 2)) if name in _FACTORS else error
            for name, error in self.standard_errors.items()
        ]
        return tuple(self.standard_errors), np.diag(steps)

    def remarks(self) -> Iterator[str]:
        """What the interval is, or that there is none."""
        if self.samples:
            return
        if self.covariance:
            yield f"the interval is that of the mean loss, without the scatter of single runs: {self.covariance_source}"
        elif self.standard_errors:
            yield (
                "interval from the paper's standard errors, drawn independently: correlations are not published, and"
                " with them it would be narrower"
            )
        elif self.relative_error is not None:
            yield (
                f"the interval is the paper's largest error of its fit, {self.relative_error:.0%}, not a confidence"
                " interval"
            )
        else:
            yield "no errors of the coefficients are known: no interval"
