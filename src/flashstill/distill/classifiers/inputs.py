"""What nets see: examples brought to mean 0 and deviation 1, images moved by some pixels, pairs of them mixed.

A shift is numbered: with a reach of r pixels there are (2 r + 1)^2 of them, row by row, the middle one in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flashstill.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """mean and deviation: [1] for images, all pixels alike; [D] for the columns of a table."""

    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """values [N, H + 2 m, W + 2 m] in bfloat16, with a margin of m pixels of what is outside the image."""

    values: Tensor
    margin: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @property
    def features(self) -> int:
        """D = H W"""
        height, width = self.values.shape[1:]
        return (height - 2 * self.margin) * (width - 2 * self.margin)

    def rows(self, index: Tensor, shifts: Tensor, reach: int) -> Tensor:
        """[M, B, D] of examples index [M, B], moved by shifts [B], which are numbers within `reach`.

        Runs of one shift are copied at once: a gather pixel by pixel took longer than the step of a small net.
        """
        assert reach <= self.margin
        chosen = self.values.index_select(0, index.flatten()).view(*index.shape, *self.values.shape[1:])
        if not self.margin:
            return chosen.flatten(2)
        side, around = 2 * reach + 1, self.margin - reach
        height, width = (size - 2 * self.margin for size in self.values.shape[1:])
        found = chosen.new_empty(*index.shape, height, width)
        begin = 0
        for shift, count in zip(
            *(each.tolist() for each in torch.unique_consecutive(shifts, return_counts=True)), strict=True
        ):
            top, left, run = around + shift // side, around + shift % side, slice(begin, begin + count)
            found[:, run] = chosen[:, run, top : top + height, left : left + width]
            begin += count
        return found.flatten(2)


def shifts_within(reach: int) -> int:
    """How many there are."""
    return (2 * reach + 1) ** 2


def scale_of(examples: npt.NDArray[np.generic]) -> Scale:
    """Of training images [N, H, W] or rows [N, D]."""
    axes = None if examples.ndim == 3 else 0
    deviation = np.atleast_1d(examples.std(axis=axes, dtype=np.float64))
    mean = np.atleast_1d(examples.mean(axis=axes, dtype=np.float64))
    return Scale(mean=mean, deviation=np.where(deviation > 0, deviation, 1.0))


def inputs(examples: npt.NDArray[np.generic], scale: Scale, margin: int = 0) -> Inputs:
    """Images [N, H, W] with a margin, or rows [N, D], which have none."""
    if examples.ndim == 2 and margin:
        raise BadInput("jitter moves images by pixels; rows of a table have none: set jitter and reach to 0")
    mean, deviation = (torch.from_numpy(each).float() for each in (scale.mean, scale.deviation))
    pictures = examples if examples.ndim == 3 else examples[:, None]
    padded = torch.from_numpy(np.pad(pictures, ((0, 0), (margin, margin), (margin, margin))))
    made = torch.empty(padded.shape, dtype=torch.bfloat16)
    for begin in range(0, len(padded), 4096):  # a copy of all in float32 would be twice as large as what is kept
        part = slice(begin, begin + 4096)
        made[part] = ((padded[part].float() - mean) / deviation).to(torch.bfloat16)
    return Inputs(values=made, margin=margin)
