"""Teacher distributions, of one teacher or the mean of several, from final hidden states and LM heads.

    one          softmax(y/T)
    arithmetic   sum_m a_m softmax(y_m/T)                       the mean of the probabilities
    geometric    softmax(sum_m a_m y_m/T)                       the mean of the logits, renormalised

with weights a_m that sum to 1 (Hinton, Vinyals, Dean 2015, section 3, use both).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.distill.losses.logits import Head, as_head
from flashstill.distill.losses.workspace import Workspace, softmax, wide
from flashstill.errors import BadInput, unknown

MEANS = ("arithmetic", "geometric")


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseTeacher:
    """One or more teachers: final hidden states [N, d_m] and heads [V_m, d_m] of each; a plain weight is a linear head.

    shares: weights in the mean, which sum to 1 (None: equal); mean: "arithmetic" or "geometric".
    """

    hidden: tuple[Tensor, ...]
    heads: tuple[Tensor | Head, ...]
    shares: tuple[float, ...] | None = None
    mean: str = "arithmetic"

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise BadInput(unknown("mean of teachers", self.mean, MEANS))
        if self.shares is not None and len(self.shares) != len(self.heads):
            raise BadInput(f"{len(self.heads)} teachers, but {len(self.shares)} weights for them")

    def logits(self, space: Workspace, name: str, part: slice, vocabulary: int) -> list[Tensor]:
        """u [n, V] (losses/logits.py) of each teacher for the tokens `part`, over ids below `vocabulary`, in its head's
        dtype."""
        parts = []
        for member, (hidden, each) in enumerate(zip(self.hidden, self.heads, strict=True)):
            rows, head = hidden[part], as_head(each).first(vocabulary)
            raw = space.take(f"{name}.{member}", (len(rows), vocabulary), head.dtype, head.device)
            parts.append(head.raw(rows, out=raw))
        return parts

    def distribution(
        self, space: Workspace, logits: Sequence[Tensor], temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From u [n, V] of each teacher: scaled logits y [n, V], lse = logsumexp(y) [n] and probabilities
        p [n, V] of the mean; log p = y - lse. The tensors of `logits` may be written over."""
        p = _like(space, "p", logits[0])
        y = logits[0] if len(logits) == 1 and p.dtype == logits[0].dtype else _like(space, "y", logits[0])
        if len(logits) == 1:
            return y, softmax(logits[0], y, p, temperature, as_head(self.heads[0])), p
        shares = self.shares or (1.0 / len(logits),) * len(logits)
        total = _like(space, "mean", logits[0]).zero_()
        for raw, share, head in zip(logits, shares, self.heads, strict=True):
            softmax(raw, y, p, temperature, as_head(head))
            total.add_(p if self.mean == "arithmetic" else y, alpha=share)
        if self.mean == "arithmetic":
            p.copy_(total)
            torch.log(total.clamp_min_(torch.finfo(total.dtype).tiny), out=y)
            return y, y.new_zeros(len(y)), p
        y.copy_(total)
        torch.softmax(y, -1, out=p)
        return y, y.amax(-1) - p.amax(-1).log(), p


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutedTeacher:
    """Several teachers, each responsible for some tokens.

    which [N]: index of the token's teacher; place [N]: row of the token in that teacher's hidden states.
    """

    members: tuple[DenseTeacher, ...]
    which: Tensor
    place: Tensor

    @property
    def heads(self) -> tuple[Tensor | Head, ...]:
        """The LM head of each member."""
        return tuple(member.heads[0] for member in self.members)

    def logits(self, space: Workspace, name: str, part: slice, vocabulary: int) -> list[Tensor]:
        """Logits [n, V]: each row comes from the teacher of its token, scaled and capped as that one's are."""
        heads = [as_head(each).first(vocabulary) for each in self.heads]
        is_linear = all(head.is_linear for head in heads)
        dtype = heads[0].dtype if is_linear else wide(heads[0].dtype)
        which, place = self.which[part], self.place[part]
        logits = space.take(name, (len(which), vocabulary), dtype, heads[0].device)
        for index, (member, head) in enumerate(zip(self.members, heads, strict=True)):
            mine = (which == index).nonzero().squeeze(-1)
            if len(mine):
                logits[mine] = head.finish_(head.raw(member.hidden[0][place[mine]]).to(dtype))
        return [logits]

    def distribution(
        self, space: Workspace, logits: Sequence[Tensor], temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled logits y [n, V], their logsumexp [n] and probabilities [n, V], as for a single teacher."""
        p = _like(space, "p", logits[0])
        y = logits[0] if p.dtype == logits[0].dtype else _like(space, "y", logits[0])
        return y, softmax(logits[0], y, p, temperature), p


def _like(space: Workspace, name: str, raw: Tensor) -> Tensor:
    return space.take(name, raw.shape, wide(raw.dtype), raw.device)
