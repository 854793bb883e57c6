"""GPTQ of one weight matrix: the error of rounding a column is compensated by the later columns.

Frantar et al. 2023, "GPTQ", algorithm 1.  For a layer y = W x whose inputs on training text have the damped Gram
matrix H = mean x x^T, columns are rounded one after another.  With U the upper Cholesky factor of H^-1:

    w_j -= (w_i - q_i) U_ij / U_ii        for every later column j,  q_i = s round(w_i / s)

The result stores w_i as it was just before rounding: round-to-nearest of the result gives q, and quantisation-aware
training can continue from unrounded weights.  A group's scale may end below its largest weight: of some such ends that
with the least error is taken, sum_i (w_i - q_i)^2 / U_ii^2 before later columns make good for it.  Weights beyond are
clipped, and what is stored has its largest weight at the end of the scale, so that rounding it finds the same s again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.students.quantise import LARGEST_INT4, Format, largest

DAMPING = 0.01  # of H's mean diagonal, as in the paper
ENDS = tuple(1.0 - 0.025 * step for step in range(21))
"""ends of the scale that are tried, as shares of a group's largest weight"""
TRIED_AT_ONCE = 2**24
"""most weights that are rounded at once to find a scale, 64 MB; a wide layer's rows take turns"""


def compensate(weight: Tensor, gram: Tensor, format_: Format, dtype: torch.dtype) -> Tensor:
    """A float32 weight [out, in] whose rounding in `dtype` changes outputs little, given the Gram matrix [in, in]."""
    left, size = weight.clone(), weight.shape[1]
    damped = gram + DAMPING * gram.diagonal().mean() * torch.eye(size, device=gram.device)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    for first in range(0, size, format_.group):
        part, rest = slice(first, first + format_.group), slice(first + format_.group, size)
        group, errors = left[:, part], torch.empty(len(weight), format_.group, device=weight.device)
        corner = factor[part, part]
        top = _end_of_scale(group, corner.diagonal(), dtype)
        bottom, end = -top, group.abs().argmax(1, keepdim=True)
        scale = (top / LARGEST_INT4).clamp_min(1e-8)
        stored_scale = scale.to(dtype).float()
        at_end = torch.split(end == torch.arange(format_.group, device=weight.device), 1, 1)
        columns, errors_of = (torch.split(each, 1, 1) for each in (group, errors))
        diagonal = corner.diagonal().unbind()
        for i, column in enumerate(columns):  # a GPU waits for each operation here to be started: as few as possible
            fine = torch.where(at_end[i], top * column.sign(), column.clamp(bottom, top)).to(dtype).float()
            coarse = (fine / scale).round_().mul_(stored_scale).to(dtype).float()
            torch.div(column - coarse, diagonal[i], out=errors_of[i])
            group[:, i + 1 :].addmm_(errors_of[i], corner[i : i + 1, i + 1 :], alpha=-1)
            column.copy_(fine)
        left[:, rest].addmm_(errors, factor[part, rest], alpha=-1)
    return left


def _end_of_scale(group: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """The end of the scale of each row [out, 1] with the least error of rounding group [out, g]; weights [g]: U_ii."""
    rows = max(1, TRIED_AT_ONCE // (len(ENDS) * group.shape[1]))
    return torch.cat([_end_of_rows(part, weights, dtype) for part in torch.split(group, rows)])


def _end_of_rows(group: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """The same of some rows, all ends at once."""
    whole = largest(group)
    ends = torch.stack([(whole * share).to(dtype).float() for share in ENDS])
    scale = (ends / LARGEST_INT4).clamp_min(1e-8)
    coarse = (group / scale).round_().clamp_(-LARGEST_INT4, LARGEST_INT4).mul_(scale.to(dtype).float())
    error = ((group - coarse) / weights).square_().sum(-1, keepdim=True)
    return ends.gather(0, error.argmin(0, keepdim=True))[0]
