"""Buffers that outlive a call: fresh ones of this size would be paged in anew each time, at twice the cost.

A caller that takes many steps keeps one `Workspace` and hands it to every call; what is in it means nothing between
calls.  It serves one call at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Key = tuple[str, torch.dtype, torch.device]


class Workspace:
    """Named buffers, made when first asked for and made anew only where a larger one is needed."""

    def __init__(self) -> None:
        self._made: dict[Key, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Contiguous, of this shape, with whatever was left in it."""
        key, elements = (name, dtype, device), math.prod(shape)
        if key not in self._made or self._made[key].numel() < elements:
            self._made.pop(key, None)  # freed before the larger one is made
            self._made[key] = torch.empty(elements, dtype=dtype, device=device)
        return self._made[key][:elements].view(*shape)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The format of sums and probabilities where hidden states and heads have this one."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def softmax(raw: Tensor, scaled: Tensor, out: Tensor, temperature: float) -> Tensor:
    """softmax(raw/T) in `out`, raw/T in `scaled`; returns logsumexp(raw/T) [n].

    exp(max - lse) is the largest probability, so that lse costs no pass of its own.
    """
    scaled.copy_(raw)
    if temperature != 1.0:
        scaled.mul_(1.0 / temperature)
    torch.softmax(scaled, -1, out=out)
    return scaled.amax(-1) - out.amax(-1).log()
