"""Losses over spans (span_terms.py) fused with the student's head.

Gradients are autograd's, made with the values for a few hundred tokens at a time: logits of all tokens are never in
memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from flashstill.distill.losses.dense import Divergence
from flashstill.distill.losses.logits import Head
from flashstill.distill.losses.span_terms import Distributions, SpanTeacher, distributions, over_events
from flashstill.distill.losses.workspace import Workspace, wide

LOGITS_AT_A_TIME = 2**23


class SpanTerm(Protocol):
    """A term of a loss whose teacher is a `SpanTeacher` (losses/head.py: Term)."""

    @property
    def teacher(self) -> Any: ...
    @property
    def divergence(self) -> Any: ...
    @property
    def temperature(self) -> float: ...
    @property
    def weight(self) -> float: ...


class _SpanHead(torch.autograd.Function):
    """The weighted sum of terms over spans; gradients are made with the values, a chunk of spans at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        weights: Tensor,
        terms: Sequence[SpanTerm],
        rule: Head,
    ) -> Tensor:
        high = wide(hidden.dtype)
        total = torch.zeros((), dtype=high, device=hidden.device)
        grads: list[Tensor | None] = [
            torch.zeros_like(hidden),
            torch.zeros_like(weight, dtype=high) if weight.requires_grad else None,
            torch.zeros_like(bias, dtype=high) if bias is not None and bias.requires_grad else None,
        ]
        for chunk in chunks_of(terms[0].teacher, weight.shape[0]):
            rows = hidden[chunk.own].detach().requires_grad_()
            leaves = [rows, weight.detach().requires_grad_(grads[1] is not None)]
            leaves += [] if bias is None else [bias.detach().requires_grad_(grads[2] is not None)]
            with torch.enable_grad():
                head = replace(rule, weight=leaves[1], bias=leaves[2] if bias is not None else None)
                values = sum(_term_values(term, rows, head, chunk) for term in terms)
                value = (values * weights[chunk.last].to(high)).sum()
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            made = iter(torch.autograd.grad(value, wanted))
            grads[0].index_copy_(0, chunk.own, next(made))  # type: ignore[union-attr]
            for grad in grads[1:]:
                if grad is not None:
                    grad.add_(next(made))
            total += value.detach()
        ctx.grads = [None if grad is None else grad.to(hidden.dtype) for grad in grads]
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if each is None else each.mul_(grads[0].to(each.dtype)) for each in ctx.grads]
        return scaled[0], scaled[1], scaled[2], None, None, None


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Some whole spans. own [n], known [m]: rows of their tokens; last [S]: row of the last student token of each."""

    own: Tensor
    known: Tensor
    last: Tensor


def chunks_of(teacher: Any, vocabulary: int) -> Iterator[Chunk]:
    """The spans of a batch in chunks whose logits fit into memory."""
    own, known = ((each >= 0).nonzero().squeeze(-1) for each in (teacher.span, teacher.known_span))
    if not len(own):
        return
    numbers, known_numbers = teacher.span[own], teacher.known_span[known]
    ends = torch.cat([(numbers[1:] != numbers[:-1]).nonzero().squeeze(-1), numbers.new_tensor([len(numbers) - 1])])
    known_ends = torch.cat(
        [
            (known_numbers[1:] != known_numbers[:-1]).nonzero().squeeze(-1),
            known_numbers.new_tensor([len(known_numbers) - 1]),
        ]
    )
    assert len(ends) == len(known_ends), "both sides have the same spans"
    most = max(16, LOGITS_AT_A_TIME // max(vocabulary, teacher.teacher.heads[0].shape[0]))
    sizes = (ends + known_ends).tolist()
    first, before, own_first, known_first = 0, -2, 0, 0
    for place, size in enumerate(sizes):
        is_full = place + 1 < len(sizes) and sizes[place + 1] - before > most
        if is_full or place + 1 == len(sizes):
            stop, known_stop = int(ends[place]) + 1, int(known_ends[place]) + 1
            yield Chunk(
                own=own[own_first:stop], known=known[known_first:known_stop], last=own[ends[first : place + 1]]
            )  # fmt: skip
            first, before, own_first, known_first = place + 1, size, stop, known_stop


def _term_values(term: SpanTerm, rows: Tensor, head: Head, chunk: Chunk) -> Tensor:
    """Values [S] of one term on the spans of a chunk, times its weight."""
    teacher: Any = term.teacher
    known, own = both_sides(teacher, rows, head, chunk, term.temperature)
    loss: Any = term.divergence
    value = over_events(loss, known, own, teacher) if isinstance(loss, Divergence) else loss.spans(known, own, teacher)
    weighted: Tensor = value * (term.weight * loss.scale(term.temperature))
    return weighted


def both_sides(
    teacher: SpanTeacher, rows: Tensor, head: Head, chunk: Chunk, temperature: float
) -> tuple[Distributions, Distributions]:
    """The distributions of teacher and student on the spans of a chunk; rows: hidden states of the student's tokens."""
    high = wide(rows.dtype)
    own = distributions(finished(head, rows).to(high), teacher.targets[chunk.own], teacher.span[chunk.own], temperature)
    with torch.no_grad():
        part = replace(teacher.teacher, hidden=tuple(each[chunk.known] for each in teacher.teacher.hidden))
        space, whole = Workspace(), slice(0, len(chunk.known))
        raw = part.logits(space, "teacher", whole, teacher.teacher.heads[0].shape[0])
        y, log_z, _ = part.distribution(space, raw, temperature)
        # y - log_z is a log-probability at this temperature already, which another softmax leaves as it is
        log_p = (y - log_z[:, None]).to(high)
        known = distributions(log_p, teacher.known_targets[chunk.known], teacher.known_span[chunk.known], 1.0)
    return known, own


def finished(head: Head, rows: Tensor) -> Tensor:
    """Logits [n, V] of hidden states, with gradients (`Head.logits` has none)."""
    raw = rows.to(head.dtype) @ head.weight.T
    raw = raw if head.bias is None else raw + head.bias
    scaled = raw if head.scale == 1.0 else raw * head.scale
    return scaled if head.cap is None else torch.tanh(scaled / head.cap) * head.cap


def span_loss(hidden: Tensor, head: Head, terms: Sequence[SpanTerm], weights: Tensor) -> Tensor:
    """Weighted sum of terms to one `SpanTeacher` over its spans, in nats; a span has the weight of its last token.

    hidden [N, d], weights [N].
    """
    total: Tensor = _SpanHead.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, weights, tuple(terms), replace(head.detach(), bias=None)
    )
    return total
