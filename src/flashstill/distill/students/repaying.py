"""Weights of a layer that repay what the layers before it have lost, and which layers write to the residual stream.

    V = W + (W mean (x' - x) x^T + b mean (e / c) x^T) (H + r I)^-1,    H = mean x x^T

x is a layer's input in the rounded model and x' in the one that is not rounded, e the error of the residual stream, of
which a share b is repaid by a layer whose output is added to it c times (compensated_model.py).
Of the least-squares fit the share is used that also holds on rows that it was not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIT_DAMPING = 0.1
"""r, of H's mean diagonal; chosen among two or three values on text that no evidence is measured on (docs/log.md)"""
UNEXPLAINED = 0.01
"""most of what a block adds, in squares, that is not a sum of its layers' outputs; in bfloat16 sums are rounded"""
PLACES = 4096
"""about as many places of the text tell which layers these are"""
LEAST_FACTOR = 0.01
"""c of a layer that counts as added to the stream"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Sums over rows: gram [in, in] of x x^T, drift [in, in] of (x' - x) x^T, error [d, in] of e x^T or None."""

    rows: int
    gram: Tensor
    drift: Tensor
    error: Tensor | None

    def lost(self, weight: Tensor, repaid: float) -> Tensor:
        """The sum [out, in] of (W (x' - x) + repaid e) x^T."""
        plain = weight @ self.drift
        return plain if self.error is None or not repaid else plain + repaid * self.error


def sums_of(whole: Tensor, rows: Tensor, error: Tensor | None) -> Sums:
    """The sums over inputs x' [N, in] and x [N, in], and the error [N, d] of the residual stream."""
    owed = None if error is None else error.T @ rows
    return Sums(rows=len(rows), gram=rows.T @ rows, drift=(whole - rows).T @ rows, error=owed)


def fitted(weight: Tensor, halves: Sequence[Sums], repaid: float) -> Tensor:
    """Weights [out, in] whose outputs on x are nearly those of `weight` on x', and `repaid` e more.

    A fit of few rows fits their noise: only the share of it is used, 0 to 1, with which the fit of each half predicts
    best what was lost on the other.
    """
    met = made = 0.0
    for own, other in (halves, reversed(halves)):
        part = _fit(weight, [own], repaid)
        met += float((part * other.lost(weight, repaid)).sum())
        made += float((part @ other.gram * part).sum())
    share = min(1.0, max(0.0, met / made)) if made > 0.0 else 0.0
    return weight + share * _fit(weight, halves, repaid) if share else weight


def _fit(weight: Tensor, parts: Sequence[Sums], repaid: float) -> Tensor:
    """Weights [out, in] that give what was lost on rows, by damped least squares."""
    rows = max(1, sum(part.rows for part in parts))
    gram = torch.stack([part.gram for part in parts]).sum(0) / rows
    lost = torch.stack([part.lost(weight, repaid) for part in parts]).sum(0) / rows
    damping = FIT_DAMPING * gram.diagonal().mean().clamp_min(1e-30)  # rows of zeros say nothing
    solved: Tensor = torch.linalg.solve(gram + damping * torch.eye(len(gram), device=gram.device), lost, left=False)
    return solved


def in_halves(rows: Tensor) -> tuple[slice, slice]:
    """The first half of rows [N, in] and the second."""
    return slice(0, len(rows) // 2), slice(len(rows) // 2, None)


def stream_factors(added: Tensor, returned: dict[str, Tensor]) -> dict[str, float]:
    """The factors c with which outputs [B, L, d], by name, sum up to what a block adds [B, L, d]; empty if they do not.

    Found by least squares; outputs that are not in the sum get no factor."""
    if not returned:
        return {}
    step = max(1, added[..., 0].numel() // PLACES)
    total = added.flatten(0, -2)[::step].flatten().float()
    sums = torch.stack([each.flatten(0, -2)[::step].flatten().float() for each in returned.values()])
    products = (sums @ sums.T).double()
    factors = (torch.linalg.pinv(products, hermitian=True) @ (sums @ total).double()).float()
    left = total - factors @ sums
    if not float(left.square().sum()) <= UNEXPLAINED * float(total.square().sum()):
        return {}
    return {name: c for name, c in zip(returned, factors.tolist(), strict=True) if abs(c) >= LEAST_FACTOR}
