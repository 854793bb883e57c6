"""Tensors with some units of an axis, in a given order: one rule for permuting and for cutting."""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.students.axes import Group, Side


def reordered(tensor: Tensor, side: Side, group: Group, order: Tensor) -> Tensor:
    """A copy of `tensor` with the units `order` [k] along one dimension; [c, k] for c copies with their own units."""
    if not group.copies:
        return tensor.index_select(side.dim, elements(side, group.units, order).to(tensor.device))
    kept = [
        each.index_select(side.dim - 1, elements(side, group.units, own).to(tensor.device))
        for each, own in zip(tensor, order, strict=True)
    ]
    return torch.stack(kept)


def elements(side: Side, units: int, order: Tensor) -> Tensor:
    """Indices of the elements that hold the units `order`, part by part."""
    found, start = [], 0
    for size in side.parts:
        found.append((start + order[:, None] * size + torch.arange(size)[None, :]).flatten())
        start += size * units
    return torch.cat(found)
