"""The reliability table of a model on a text: how sure it was, and how often it was right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """Bins of a text's tokens, from the least confident to the most (evaluate/calibration.py).

    tokens, confidence, right: of each bin, the latter two as means; error: the expected calibration error;
    if_calibrated: what a calibrated model would show on as many independent tokens."""

    model: str
    domain: str
    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    right: tuple[float, ...]
    error: float
    if_calibrated: float
