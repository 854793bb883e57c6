"""Clusters of equal size: cosine k-means with an optimal assignment."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

CLUSTER_ROUNDS = 4


def balanced_clusters(rows: Tensor, groups: int, generator: torch.Generator) -> Tensor:
    """Cluster index [N] of each row [N, d]; clusters of equal size."""
    unit = nn.functional.normalize(rows, dim=-1)
    size = len(rows) // groups
    centres = unit[torch.randperm(len(rows), generator=generator)[:groups]]
    owner = torch.zeros(len(rows), dtype=torch.int64)
    for _ in range(CLUSTER_ROUNDS):
        near = (unit @ centres.T).numpy()
        places, seats = linear_sum_assignment(-np.repeat(near, size, axis=1))
        owner[torch.from_numpy(places)] = torch.from_numpy(seats // size)
        centres = nn.functional.normalize(torch.stack([unit[owner == group].sum(0) for group in range(groups)]), dim=-1)
    return owner
