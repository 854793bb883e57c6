"""Inputs of the nets: examples normalised to mean 0 and standard deviation 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Mean and standard deviation: [1] for images, over all pixels; [D] for a table, per column."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """values [N, H, W] in bfloat16; rows of a table have H = 1."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    @property
    def features(self) -> int:
        """Features per example, D = H W."""
        return self.values[0].numel()

    def rows(self, index: Tensor) -> Tensor:
        """The examples of the indices [M, B], flattened: [M, B, D]."""
        return self.values.index_select(0, index.flatten()).view(*index.shape, self.features)

    def moved(self, index: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
        """As `rows`, each image moved by up to so many whole pixels down and across, drawn anew; what comes in from
        outside takes the value of the edge."""
        height, width = self.values.shape[1:]
        down, across = torch.randint(-pixels, pixels + 1, (2, index.numel(), 1), generator=generator)
        lines = (torch.arange(height) - down).clamp_(0, height - 1)
        columns = (torch.arange(width) - across).clamp_(0, width - 1)
        seen = self.values[index.flatten()[:, None, None], lines[:, :, None], columns[:, None, :]]
        return seen.view(*index.shape, self.features)


def scale_of(examples: npt.NDArray[np.generic]) -> Scale:
    """Mean and deviation of training images [N, H, W] or rows [N, D]."""
    axes = None if examples.ndim == 3 else 0
    deviation = np.atleast_1d(examples.std(axis=axes, dtype=np.float64))
    mean = np.atleast_1d(examples.mean(axis=axes, dtype=np.float64))
    return Scale(mean=mean, deviation=np.where(deviation > 0, deviation, 1.0))


def inputs(examples: npt.NDArray[np.generic], scale: Scale) -> Inputs:
    """Normalise images [N, H, W] or rows [N, D]."""
    mean, deviation = (torch.from_numpy(each).float() for each in (scale.mean, scale.deviation))
    pictures = examples if examples.ndim == 3 else examples[:, None]
    made = torch.empty(pictures.shape, dtype=torch.bfloat16)
    for begin in range(0, len(pictures), 4096):  # a float32 copy of all would be twice as large as the result
        part = slice(begin, begin + 4096)
        made[part] = ((torch.from_numpy(pictures[part].astype(np.float32)) - mean) / deviation).to(torch.bfloat16)
    return Inputs(values=made)
