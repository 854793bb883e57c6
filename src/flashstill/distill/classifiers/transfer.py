"""Transfer sets: more examples from few, moved by some pixels and mixed in pairs, for a teacher to be asked about.

    x = l x_1 + (1 - l) x_2,  l uniform between 1 - m and 1       (Zhang et al. 2018, "mixup", take l from a beta)

A teacher says what it thinks of x; a label has to be shared out as the image was.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.distill.classifiers.inputs import Inputs, shifts_within


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """inputs: N examples; labels [N, C]: the shares of the classes in each."""

    inputs: Inputs
    labels: Tensor


def transfer_set(
    data: Inputs, labels: Tensor, chosen: Tensor, copies: int, reach: int, mix: float, seed: int
) -> Transfer:
    """`copies` of each chosen example, moved by at most `reach` pixels and mixed with another by at most `mix`."""
    generator = torch.Generator().manual_seed(seed)
    first = chosen.repeat(copies)
    second = chosen[torch.randint(len(chosen), first.shape, generator=generator)]
    share = 1.0 - mix * torch.rand(len(first), generator=generator)
    one, two = (_moved(data, index, reach, generator) for index in (first, second))
    shape = [size - 2 * data.margin for size in data.values.shape[1:]]
    values = torch.lerp(two, one, share[:, None].to(one.dtype)).view(-1, *shape)
    shares = torch.zeros(len(first), int(labels.max()) + 1)
    shares.scatter_add_(1, labels[first][:, None], share[:, None])
    shares.scatter_add_(1, labels[second][:, None], 1.0 - share[:, None])
    return Transfer(inputs=Inputs(values=values), labels=shares)


def _moved(data: Inputs, index: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """[N, D], each by a shift of its own."""
    shifts = torch.randint(shifts_within(reach), index.shape, generator=generator)
    order = shifts.argsort()
    found = torch.empty(len(index), data.features, dtype=data.values.dtype)
    found[order] = data.rows(index[order][None], shifts[order], reach)[0]
    return found
