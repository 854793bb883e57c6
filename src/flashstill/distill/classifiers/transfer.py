"""Augmented variants of examples, to train nets on and to compute a teacher's soft targets for.

    x = l x_1 + (1 - l) x_2,  l uniform between 1 - m and 1       (Zhang et al. 2018, "mixup", take l from a beta)

Images are first warped: slightly rotated, stretched, sheared and shifted, which leaves them closer to real images than
mixing does.  A teacher gives soft targets for any x; labels have to be mixed like the images.  (Beyer et al. 2022, "A
good teacher is patient and consistent", compute the teacher's targets for such images throughout training.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from flashstill.distill.classifiers.inputs import Inputs
from flashstill.errors import BadInput

DEGREES, STRETCH, SHEAR, PIXELS = 4.0, 0.04, 0.02, 0.5
"""Largest changes for a warp of 1; each is drawn uniformly between this and its negative."""
_CHUNK = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class Variants:
    """copies: of each example, of which `bare` are unchanged; the others are warped by at most `warp` times the
    constants above, and mixed with another example by at most `mix`."""

    copies: int = 1
    bare: int = 0
    warp: float = 0.0
    mix: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """inputs: N examples; labels [N, C]: the share of each class in each example."""

    inputs: Inputs
    labels: Tensor


def transfer_set(data: Inputs, labels: Tensor, chosen: Tensor, how: Variants, seed: int) -> Transfer:
    """Variants of the chosen examples [n], copy by copy; BadInput if rows of a table are to be warped."""
    shape = data.values.shape[1:]
    if how.warp and shape[0] == 1:
        raise BadInput("warp distorts images and cannot be used on rows of a table: set it to 0")
    generator = torch.Generator().manual_seed(seed)
    first = chosen.repeat(how.copies)
    second = chosen[torch.randint(len(chosen), first.shape, generator=generator)]
    share = 1.0 - how.mix * torch.rand(len(first), generator=generator)
    varied = torch.arange(len(first)) >= how.bare * len(chosen)
    share[~varied] = 1.0
    values = torch.empty(len(first), *shape, dtype=data.values.dtype)
    for begin in range(0, len(first), _CHUNK):  # float32 warps of all would be several times as large as the result
        part = slice(begin, begin + _CHUNK)
        one = _varied(data.values[first[part]], varied[part], how.warp, generator)
        if how.mix:
            two = _varied(data.values[second[part]], varied[part], how.warp, generator)
            one = torch.lerp(two, one, share[part, None, None].to(one.dtype))
        values[part] = one
    shares = torch.zeros(len(first), int(labels.max()) + 1)
    shares.scatter_add_(1, labels[first][:, None], share[:, None])
    shares.scatter_add_(1, labels[second][:, None], 1.0 - share[:, None])
    return Transfer(inputs=Inputs(values=values), labels=shares)


def _varied(images: Tensor, varied: Tensor, warp: float, generator: torch.Generator) -> Tensor:
    """Images [n, H, W], warped where the mask `varied` [n] is True."""
    if warp and bool(varied.any()):
        images[varied] = _warped(images[varied], warp, generator)
    return images


def _warped(images: Tensor, warp: float, generator: torch.Generator) -> Tensor:
    """Images [n, H, W], each with its own random warp; pixels from outside take the value of the edge."""
    count, height, width = images.shape

    def drawn(most: float) -> Tensor:
        return warp * most * (2.0 * torch.rand(count, generator=generator) - 1.0)

    angle, size, shear = torch.deg2rad(drawn(DEGREES)), 1.0 + drawn(STRETCH), drawn(SHEAR)
    sine, cosine = size * angle.sin(), size * angle.cos()
    # the grid's axes run from -1 to 1 over width and height, whatever their lengths
    across = torch.stack([cosine, (shear - sine) * height / width, drawn(PIXELS) * 2.0 / width], -1)
    down = torch.stack([sine * width / height, cosine, drawn(PIXELS) * 2.0 / height], -1)
    grid = functional.affine_grid(torch.stack([across, down], 1), [count, 1, height, width], align_corners=False)
    seen = functional.grid_sample(images[:, None].float(), grid, padding_mode="border", align_corners=False)
    return seen[:, 0].to(images.dtype)
