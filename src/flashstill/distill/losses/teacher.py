"""What one teacher or several say of a chunk of tokens, from final hidden states and heads; and the buffers for it.

    one          softmax(y/T)
    arithmetic   sum_m a_m softmax(y_m/T)                       the mean of the probabilities
    geometric    softmax(sum_m a_m y_m/T)                       the mean of the logits, scaled anew

with weights a_m that sum to 1 (Hinton, Vinyals, Dean 2015, section 3, use both).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.errors import BadInput, unknown

MEANS = ("arithmetic", "geometric")


class Scratch:
    """Buffers reused by every chunk: fresh ones of this size would be paged in anew each time, at twice the cost.

    narrow: the format of hidden states and heads; wide: that of sums and probabilities.
    """

    def __init__(self, rows: int, vocabulary: int, like: Tensor) -> None:
        self.narrow = like.dtype
        self.wide = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.rows, self.vocabulary, self.device = rows, vocabulary, like.device
        self._made: dict[tuple[str, torch.dtype], Tensor] = {}

    def buffer(self, name: str, rows: int, dtype: torch.dtype | None = None) -> Tensor:
        """[rows, V] by any name, wide unless told, made when first asked for."""
        key = (name, dtype or self.wide)
        if key not in self._made:
            self._made[key] = torch.empty(self.rows, self.vocabulary, dtype=key[1], device=self.device)
        return self._made[key][:rows]

    def logits(self, name: str, hidden: Tensor, head: Tensor) -> Tensor:
        """hidden @ head.T over the vocabulary that all share, in the head's format."""
        raw = self.buffer(name, hidden.shape[0], head.dtype)
        return torch.mm(hidden, head[: self.vocabulary].T, out=raw)

    def softmax(self, raw: Tensor, scaled: Tensor, out: Tensor, temperature: float) -> Tensor:
        """softmax(raw/T) in `out`, raw/T in `scaled`; returns logsumexp(raw/T) [n].

        exp(max - lse) is the largest probability, so that lse costs no pass of its own.
        """
        scaled.copy_(raw)
        if temperature != 1.0:
            scaled.mul_(1.0 / temperature)
        torch.softmax(scaled, -1, out=out)
        return scaled.amax(-1) - out.amax(-1).log()


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseTeacher:
    """Teachers by their final hidden states [N, d_m] and heads [V_m, d_m]; shares sum to 1, None for equal ones."""

    hidden: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]
    shares: tuple[float, ...] | None = None
    mean: str = "arithmetic"

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise BadInput(unknown("mean of teachers", self.mean, MEANS))
        if self.shares is not None and len(self.shares) != len(self.heads):
            raise BadInput(f"{len(self.heads)} teachers, but {len(self.shares)} weights for them")

    def distribution(self, scratch: Scratch, part: slice, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled logits [n, V] and their logsumexp [n], and probabilities [n, V]: three views of the same thing."""
        rows = part.stop - part.start
        y, p = scratch.buffer("y", rows), scratch.buffer("p", rows)
        if len(self.heads) == 1:
            return y, self._softmax(scratch, 0, part, y, p, temperature), p
        shares = self.shares or (1.0 / len(self.heads),) * len(self.heads)
        total = scratch.buffer("mean", rows).zero_()
        for member, share in enumerate(shares):
            self._softmax(scratch, member, part, y, p, temperature)
            total.add_(p if self.mean == "arithmetic" else y, alpha=share)
        if self.mean == "arithmetic":
            p.copy_(total)
            torch.log(total.clamp_min_(torch.finfo(total.dtype).tiny), out=y)
            return y, torch.zeros(rows, dtype=scratch.wide, device=y.device), p
        y.copy_(total)
        torch.softmax(y, -1, out=p)
        return y, y.amax(-1) - p.amax(-1).log(), p

    def _softmax(self, scratch: Scratch, member: int, part: slice, y: Tensor, p: Tensor, temperature: float) -> Tensor:
        raw = scratch.logits("teacher", self.hidden[member][part], self.heads[member])
        return scratch.softmax(raw, y, p, temperature)
