"""Distillation losses fused with the LM head, without storing logits of all tokens for either model.

The functions take final hidden states and head weights instead of logits, and compute the gradient together with the
value.  Tokens are processed at the three nested sizes of chunk_sizes.py.

    loss = sum_n w_n sum_i weight_i D_i(n),   dloss/dz = w_n sum_i weight_i T_i^k slope_i / T_i

with a `Term` for each divergence D_i; slope_i is its closed-form gradient (losses/dense.py, losses/sparse.py) and k its
order.  Where a head scales or caps its logits, dloss/du = dloss/dz dz/du (losses/logits.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.losses.chunk_sizes import Chunks, usual_chunks
from flashstill.distill.losses.dense import Divergence, forward_kl
from flashstill.distill.losses.logits import Head, as_head
from flashstill.distill.losses.span_terms import SpanTeacher
from flashstill.distill.losses.spans import span_loss
from flashstill.distill.losses.sparse import Sparse, sparse_value_and_slope
from flashstill.distill.losses.teacher import DenseTeacher, RoutedTeacher
from flashstill.distill.losses.workspace import Workspace, softmax, wide


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One weighted divergence of a loss. teacher: dense, or sparse, for which `divergence` is ignored (see
    losses/sparse.py) and the temperature must be 1."""

    teacher: DenseTeacher | RoutedTeacher | Sparse | SpanTeacher
    divergence: Divergence = forward_kl
    temperature: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.teacher, Sparse) and self.temperature != 1.0:
            raise ValueError("a sparse teacher is known at temperature 1 only")


class _FusedHead(torch.autograd.Function):
    """autograd function: returns sum_n w_n loss_n over a linear head, and the per-token values loss_n [N]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        weights: Tensor,
        terms: Sequence[Term],
        rule: Head,
        chunks: Chunks,
        space: Workspace,
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = hidden.shape[0], head.shape[0]
        chunks = chunks.of(vocabulary, hidden.device.type == "cpu")
        weights = weights.to(wide(hidden.dtype))
        per_token = torch.empty(tokens, dtype=weights.dtype, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None  # nobody asks in a validation
        grad_head = torch.empty_like(head) if head.requires_grad else None
        grad_bias = torch.zeros_like(bias, dtype=weights.dtype) if bias is not None and bias.requires_grad else None
        rule = replace(rule, weight=head, bias=bias)
        groups = [slice(first, min(first + chunks.group, tokens)) for first in range(0, tokens, chunks.group)]
        total = None  # the sum over several groups is accumulated in float32 (see `wide`), in place if it is that
        if grad_head is not None and len(groups) > 1 and head.dtype != weights.dtype:
            total = space.take("head", head.shape, weights.dtype, head.device).zero_()
        for group in groups:
            rows = group.stop - group.start
            raw = space.take("student", (rows, vocabulary), head.dtype, head.device)
            rule.raw(hidden[group], out=raw)
            _slope_in_place(space, raw, terms, weights, per_token, group, chunks, rule)
            if grad_hidden is not None:
                torch.mm(raw, head, out=grad_hidden[group])
            if grad_head is not None and group.start and total is None:
                grad_head.addmm_(raw.T, hidden[group])
            elif grad_head is not None:
                torch.mm(raw.T, hidden[group], out=grad_head)
                if total is not None:
                    total.add_(grad_head)
            if grad_bias is not None:
                grad_bias.add_(raw.sum(0, dtype=grad_bias.dtype))
        if grad_head is not None and total is not None:
            grad_head.copy_(total)
        if grad_bias is not None and bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        ctx.grads = (grad_hidden, grad_head, grad_bias)
        ctx.mark_non_differentiable(per_token)
        return (per_token * weights).sum(), per_token

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("the fused head goes back once only: its gradients are handed on, not kept")
        scaled = [None if each is None else each.mul_(grads[0].to(each.dtype)) for each in ctx.grads]
        ctx.grads = None
        return scaled[0], scaled[1], scaled[2], None, None, None, None, None


def _slope_in_place(
    space: Workspace,
    raw: Tensor,
    terms: Sequence[Term],
    weights: Tensor,
    per_token: Tensor,
    group: slice,
    chunks: Chunks,
    rule: Head,
) -> None:
    """Overwrite a group's student logits `raw` [n, V] with the weighted gradient with respect to them.

    Also writes the loss values of the group's tokens to `per_token`.
    """
    for start in range(group.start, group.stop, chunks.block):
        block = slice(start, min(start + chunks.block, group.stop))
        teachers = [
            [] if isinstance(term.teacher, Sparse) else _dense(term).logits(space, f"teacher {i}", block, raw.shape[1])
            for i, term in enumerate(terms)
        ]
        for first in range(block.start, block.stop, chunks.strip):
            strip = slice(first, min(first + chunks.strip, block.stop))
            inside = slice(first - block.start, strip.stop - block.start)
            student = raw[first - group.start : strip.stop - group.start]
            logits = student
            if not rule.is_linear:
                logits = space.take("logits", student.shape, wide(student.dtype), student.device).copy_(student)
                rule.finish_(logits)
            value, slope = _mixed(space, logits, terms, [[y[inside] for y in each] for each in teachers], strip)
            per_token[strip] = value
            if rule.is_linear:
                torch.mul(slope, weights[strip, None], out=student)
            else:
                student.copy_(slope.mul_(weights[strip, None]).mul_(rule.slope(logits)))


def _mixed(
    space: Workspace, raw: Tensor, terms: Sequence[Term], teachers: Sequence[Sequence[Tensor]], strip: slice
) -> tuple[Tensor, Tensor]:
    """Sum over all terms of values [n] and gradient with respect to the logits [n, V] (in a workspace buffer)."""
    value, gradient = _one(space, raw, terms[0], teachers[0], strip)
    if len(terms) == 1:
        return value, gradient
    total = space.take("total", raw.shape, gradient.dtype, raw.device).copy_(gradient)
    for term, logits in zip(terms[1:], teachers[1:], strict=True):
        more, gradient = _one(space, raw, term, logits, strip)
        value = value + more
        total.add_(gradient)
    return value, total


def _one(space: Workspace, raw: Tensor, term: Term, teacher: Sequence[Tensor], strip: slice) -> tuple[Tensor, Tensor]:
    """Values [n] and gradient [n, V] of one term, multiplied by its weight."""
    temperature = term.temperature
    q = space.take("q", raw.shape, wide(raw.dtype), raw.device)
    is_read_only = term.divergence is forward_kl and temperature == 1.0 and not isinstance(term.teacher, Sparse)
    z = raw if is_read_only and raw.dtype == q.dtype else space.take("z", q.shape, q.dtype, q.device)
    lse = softmax(raw, z, q, temperature)
    if isinstance(term.teacher, Sparse):
        value = sparse_value_and_slope(z, q, lse, term.teacher.part(strip))
        scale = 1.0
    else:
        scale = term.divergence.scale(temperature)
        y, log_z, p = _dense(term).distribution(space, teacher, temperature)
        if term.divergence is forward_kl:  # saves five passes over the logits compared with the general form
            value = y.sub_(z).mul_(p).sum(-1) - log_z + lse
            q.sub_(p)
        else:
            log_p = y.sub_(log_z[:, None])
            log_q = z.sub_(lse[:, None])
            value = term.divergence.terms(log_p, log_q).sum(-1)
            q = term.divergence.slope(log_p, log_q)
    factor = term.weight * scale / temperature
    if factor != 1.0:
        q.mul_(factor)
    return value * (term.weight * scale), q


def head_loss(
    hidden: Tensor,
    head: Tensor | Head,
    terms: Sequence[Term],
    weights: Tensor,
    vocabulary: int | None = None,
    chunks: Chunks | None = None,
    space: Workspace | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of a distillation loss over tokens, in nats, and the loss per token (without gradient).

    hidden [N, d], head [V, d], weights [N] -> scalar, [N].  vocabulary: use only this many rows of each head, for heads
    padded to different sizes; the other rows enter no softmax and get no gradient, and ids of a sparse teacher in them
    are left out.  space: buffers to reuse between calls.  Terms to a `SpanTeacher` have values per span, which are not
    among those per token.
    Raises ValueError if vocabularies differ and `vocabulary` is not given, or if it exceeds a head.
    """
    student = as_head(head)
    hidden = hidden.to(student.dtype)  # Mamba's body, and others that add in float32, are wider than a head in 16 bits
    spans = [term for term in terms if isinstance(term.teacher, SpanTeacher)]
    if spans:
        aligned = span_loss(hidden, student, spans, weights)
        others = [term for term in terms if not isinstance(term.teacher, SpanTeacher)]
        if not others:
            return aligned, torch.zeros(len(hidden), device=hidden.device)
        rest, per_token = head_loss(hidden, head, others, weights, vocabulary, chunks, space)
        return aligned + rest, per_token
    sizes = [student.rows, *(size for each in terms for size in _head_sizes(each))]
    if vocabulary is None and len(set(sizes)) > 1:
        raise ValueError(f"vocabularies differ: student {sizes[0]}, teacher {', '.join(map(str, sizes[1:]))}")
    if vocabulary is not None and vocabulary > min(sizes):
        raise ValueError(f"a vocabulary of {vocabulary} is more than the {min(sizes)} rows of a head")
    shared = student.first(vocabulary)
    known = tuple(_below(term, shared.rows) for term in terms)
    result: tuple[Tensor, Tensor] = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, shared.weight, shared.bias, weights, known, replace(shared.detach(), bias=None),
        chunks or usual_chunks(shared.rows, head.dtype.itemsize, hidden.device.type == "cpu"), space or Workspace(),
    )  # fmt: skip
    return result


def _below(term: Term, vocabulary: int) -> Term:
    """The term, of a sparse teacher only the ids below `vocabulary`: its head may have more rows than the student's."""
    if not isinstance(term.teacher, Sparse):
        return term
    kept = term.teacher.below(vocabulary)
    return term if kept is term.teacher else replace(term, teacher=kept)


def _head_sizes(term: Term) -> list[int]:
    return [] if isinstance(term.teacher, Sparse) else [head.shape[0] for head in _dense(term).heads]


def _dense(term: Term) -> DenseTeacher | RoutedTeacher:
    """The teacher of a term that covers the vocabulary; those over spans have a function of their own."""
    assert not isinstance(term.teacher, Sparse | SpanTeacher)
    return term.teacher
