"""A language model's head: from final hidden states to logits.

    u = h W^T + b                     a linear head, with or without a bias
    z = s u                           Cohere, Granite, Falcon-H1: a multiplier of the logits
    z = c tanh(s u / c)               Gemma 2 and later: a soft cap (Gemma 2 report, section 2)
    dz/du = s (1 - (z/c)^2)           used by the fused head (losses/head.py)

The fields of a `Head` are measured on the model itself (models/head.py).

A CPU multiplies in float32 by parts of the head that stay in its cache, an eighth faster than by all of it, with the
same bits (docs/log.md).  A teacher's head can be kept in bfloat16 then: its parts are widened as they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

PART_ELEMENTS, PART_ROWS = 2**19, 256
"""of a part of a head: as many elements, and no fewer rows"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """weight W [V, d], bias b [V] or None, multiplier s and soft cap c (None: no cap) of the logits.

    multiplied_in: of the product and its results, if it is wider than the weight's dtype (`kept_narrow`); no gradient.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None
    multiplied_in: torch.dtype | None = None

    @property
    def rows(self) -> int:
        """Number of logits V; a head can be padded beyond its vocabulary."""
        return self.weight.shape[0]

    @property
    def shape(self) -> torch.Size:
        """[V, d]."""
        return self.weight.shape

    @property
    def device(self) -> torch.device:
        """The device of the weight."""
        return self.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the logits u: that of the weight, or the wider one that it is multiplied in."""
        return self.multiplied_in or self.weight.dtype

    @property
    def is_linear(self) -> bool:
        """Whether the logits are u itself."""
        return self.scale == 1.0 and self.cap is None

    def __len__(self) -> int:
        return self.rows

    def to(self, to: Any) -> Head:
        """The head on another device or, whole, in another dtype."""
        bias = None if self.bias is None else self.bias.to(to)
        wider = None if isinstance(to, torch.dtype) else self.multiplied_in
        return replace(self, weight=self.weight.to(to), bias=bias, multiplied_in=wider)

    def kept_narrow(self, dtype: torch.dtype) -> Head:
        """The head with its weight as it is, and logits in `dtype`."""
        if dtype == self.weight.dtype:
            return replace(self, multiplied_in=None)
        return replace(self, bias=None if self.bias is None else self.bias.to(dtype), multiplied_in=dtype)

    def widened(self) -> Head:
        """The head in float32; in float64 it stays so."""
        return self if self.dtype == torch.float64 else self.to(torch.float32)

    def detach(self) -> Head:
        """The head without gradients."""
        return replace(self, weight=self.weight.detach(), bias=None if self.bias is None else self.bias.detach())

    def first(self, vocabulary: int | None) -> Head:
        """The head's first `vocabulary` rows; None: all."""
        if vocabulary in (None, self.rows):
            return self
        bias = None if self.bias is None else self.bias[:vocabulary]
        return replace(self, weight=self.weight[:vocabulary], bias=bias)

    def raw(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """u [N, V] of hidden states [N, d], in the head's dtype."""
        rows = hidden.to(self.dtype)
        if self.multiplied_in or (rows.dtype == torch.float32 and rows.is_cpu and not torch.is_grad_enabled()):
            return self._in_parts(rows, out)
        if self.bias is None:
            return torch.mm(rows, self.weight.T, out=out)
        return torch.addmm(self.bias, rows, self.weight.T, out=out)

    def _in_parts(self, rows: Tensor, out: Tensor | None) -> Tensor:
        out = rows.new_empty(len(rows), self.rows) if out is None else out
        step = max(PART_ROWS, PART_ELEMENTS // self.shape[1])
        space = rows.new_empty(min(step, self.rows), self.shape[1]) if self.multiplied_in else None
        for first in range(0, self.rows, step):
            part = slice(first, min(first + step, self.rows))
            weight = self.weight[part]
            if space is not None:
                weight = space[: len(weight)].copy_(weight)
            if self.bias is None:
                torch.mm(rows, weight.T, out=out[:, part])
            else:
                torch.addmm(self.bias[part], rows, weight.T, out=out[:, part])
        return out

    def finish_(self, raw: Tensor) -> Tensor:
        """z from u, in place."""
        if self.cap is None:
            return raw if self.scale == 1.0 else raw.mul_(self.scale)
        return raw.mul_(self.scale / self.cap).tanh_().mul_(self.cap)

    def slope(self, logits: Tensor) -> Tensor | float:
        """dz/du at the logits z."""
        return self.scale if self.cap is None else (logits / self.cap).square_().neg_().add_(1.0).mul_(self.scale)

    def logits(self, hidden: Tensor) -> Tensor:
        """z [..., V] of hidden states [..., d], in the head's dtype; no gradient flows back through it."""
        with torch.no_grad():
            flat = self.finish_(self.raw(hidden.reshape(-1, hidden.shape[-1])))
        return flat.view(*hidden.shape[:-1], self.rows)


def as_head(head: Tensor | Head) -> Head:
    """A plain linear head from its weight [V, d]; a Head as it is."""
    return head if isinstance(head, Head) else Head(weight=head)
