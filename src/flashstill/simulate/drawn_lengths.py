"""Lengths of prompts and answers that are drawn, in tokens, and what prefix caches hold of prompts."""

from __future__ import annotations

import numpy as np

from flashstill.simulate.state import Counts


def uniform_lengths(numbers: np.random.Generator, nominal: int, least_ratio: float, count: int) -> Counts:
    """Whole lengths from `least_ratio` to 1 times the nominal one, all as likely; at least 1."""
    least = max(round(nominal * least_ratio), 1)
    return numbers.integers(least, nominal, count, endpoint=True).astype(np.int64)


def gamma_lengths(numbers: np.random.Generator, mean: int, varied: float, count: int) -> Counts:
    """Lengths with a coefficient of variation `varied`, at least 1: what is above 1 is drawn, so that the mean holds.

    mean: above 1.
    """
    above, deviation = mean - 1.0, max(varied, 1e-6) * mean
    drawn = numbers.gamma((above / deviation) ** 2, deviation**2 / above, count)
    return np.rint(1.0 + drawn).astype(np.int64)


def cached_tokens(prompt: Counts, ratio: float) -> Counts:
    """Prompt tokens found in a prefix cache; at least one token is always computed."""
    found: Counts = np.minimum((prompt * ratio).astype(np.int64), prompt - 1)
    return found
