"""Ids of the largest weights, compared as far as they are determined: a GPU orders equal ones as it likes."""

from __future__ import annotations

import torch
from torch import Tensor


def same_but_for_ties(ours: Tensor, theirs: Tensor, weights: Tensor) -> bool:
    """Whether ids [N, k] are the same, given their weights [N, k], largest first.

    Ids of equal weight may stand in any order; of those as light as the last, others may have been kept.
    """
    heavier = (weights[:, :, None] < weights[:, None, :]).sum(-1)  # equal for equal weights
    largest = 1 + int(torch.maximum(ours.max(), theirs.max()))
    first, second = ((heavier * largest + ids).sort(-1).values for ids in (ours, theirs))
    determined = weights != weights[:, -1:]
    return torch.equal(first[determined], second[determined])
