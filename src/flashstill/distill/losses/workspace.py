"""Reusable buffers: allocating them afresh in every call costs about twice as much, because of page faults.

A training loop keeps one `Workspace` and passes it to every call.  Contents are undefined between calls, and a
workspace may be used by only one call at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flashstill.distill.losses.logits import Head

Key = tuple[str, torch.dtype, torch.device]


class Workspace:
    """Named buffers, allocated on first use and reallocated only when a larger one is needed."""

    def __init__(self) -> None:
        self._made: dict[Key, Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A contiguous tensor of this shape with undefined contents."""
        key, elements = (name, dtype, device), math.prod(shape)
        if key not in self._made or self._made[key].numel() < elements:
            self._made.pop(key, None)  # freed before the larger one is made
            self._made[key] = torch.empty(elements, dtype=dtype, device=device)
        return self._made[key][:elements].view(*shape)


def wide(dtype: torch.dtype) -> torch.dtype:
    """dtype for sums and probabilities of tensors of `dtype`: float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def softmax(raw: Tensor, scaled: Tensor, out: Tensor, temperature: float, head: Head | None = None) -> Tensor:
    """Write raw/T to `scaled` and softmax(raw/T) to `out`, both [n, V]; returns logsumexp(raw/T) [n].

    head: scales and caps the raw logits first (None: they are final); scaled: may be `raw` itself.

    The largest probability is exp(max - lse), so lse is found from the two maxima without another exponential pass.
    """
    if scaled is not raw:
        scaled.copy_(raw)
    if head is not None:
        head.finish_(scaled)
    if temperature != 1.0:
        scaled.mul_(1.0 / temperature)
    torch.softmax(scaled, -1, out=out)
    return scaled.amax(-1) - out.amax(-1).log()
