"""Losses over an LM head that never hold tokens x vocabulary of both models.

Instead of logits the functions take final hidden states and the head's weight.  They walk over the tokens in chunks, so
that at most `chunk` x V logits of each model exist at a time, and they compute the gradient together with the value: of
the tokens x vocabulary tensors, only one gradient of at most 1,024 rows is ever held, in the student's own format.

    loss = sum_n w_n sum_i weight_i D_i(n),   dloss/dz = w_n sum_i weight_i T_i^k slope_i / T_i

with a `Term` for each divergence D_i, its closed-form slope (losses/dense.py, losses/sparse.py) and order k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.losses.dense import Divergence, forward_kl
from flashstill.distill.losses.sparse import Sparse, one_hot, sparse_value_and_slope
from flashstill.distill.losses.teacher import DenseTeacher, Scratch

CHUNK_TOKENS = 128  # measured: larger chunks leave the cache, smaller ones starve the matrix multiply
GRADIENT_TOKENS = 1024  # rows of logit gradient held for one large matrix multiply instead of many small ones


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One divergence of a mix. teacher: a whole vocabulary, or some ids of it (then the divergence is fixed)."""

    teacher: DenseTeacher | Sparse
    divergence: Divergence = forward_kl
    temperature: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.teacher, Sparse) and self.temperature != 1.0:
            raise ValueError("a sparse teacher is known at temperature 1 only")


class _FusedHead(torch.autograd.Function):
    """sum_n w_n loss_n over a linear head; returns the weighted sum and the per-token values."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, weights: Tensor, terms: Sequence[Term], chunk: int
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = hidden.shape[0], head.shape[0]
        group = min(tokens, GRADIENT_TOKENS)
        scratch = Scratch(min(chunk, tokens), vocabulary, hidden)
        slope = torch.empty(group, vocabulary, dtype=hidden.dtype, device=hidden.device)
        per_token = torch.empty(tokens, dtype=scratch.wide, device=hidden.device)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros_like(head, dtype=scratch.wide) if head.requires_grad else None
        for first in range(0, tokens, group):
            last = min(first + group, tokens)
            for start in range(first, last, chunk):
                part = slice(start, min(start + chunk, last))
                raw = scratch.logits("student", hidden[part], head)
                value, gradient = _mixed(scratch, raw, terms, part)
                per_token[part] = value
                gradient.mul_(weights[part, None])
                slope[start - first : part.stop - first].copy_(gradient)
            found = slope[: last - first]
            torch.mm(found, head, out=grad_hidden[first:last])
            if grad_head is not None:
                grad_head += found.T @ hidden[first:last]
        ctx.save_for_backward(grad_hidden, *([] if grad_head is None else [grad_head.to(head.dtype)]))
        ctx.mark_non_differentiable(per_token)
        return (per_token * weights).sum(), per_token

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        scale = grads[0]
        grad_head = saved[1].mul(scale.to(saved[1].dtype)) if len(saved) > 1 else None
        return saved[0].mul(scale.to(saved[0].dtype)), grad_head, None, None, None


def _mixed(scratch: Scratch, raw: Tensor, terms: Sequence[Term], part: slice) -> tuple[Tensor, Tensor]:
    """Values [n] and gradient by the logits [n, V] of all terms; the gradient lives in a buffer of `scratch`."""
    value, gradient = _one(scratch, raw, terms[0], part)
    if len(terms) == 1:
        return value, gradient
    total = scratch.buffer("total", raw.shape[0]).copy_(gradient)
    for term in terms[1:]:
        more, gradient = _one(scratch, raw, term, part)
        value = value + more
        total.add_(gradient)
    return value, total


def _one(scratch: Scratch, raw: Tensor, term: Term, part: slice) -> tuple[Tensor, Tensor]:
    """One term's values and gradient, weighted."""
    rows, temperature = raw.shape[0], term.temperature
    z, q = scratch.buffer("z", rows), scratch.buffer("q", rows)
    lse = scratch.softmax(raw, z, q, temperature)
    if isinstance(term.teacher, Sparse):
        value = sparse_value_and_slope(z, q, lse, term.teacher.part(part))
        scale = 1.0
    else:
        scale = term.divergence.scale(temperature)
        log_p, log_z, p = term.teacher.distribution(scratch, part, temperature)
        if term.divergence is forward_kl:  # five passes over the logits fewer than the general form
            value = log_p.sub_(z).mul_(p).sum(-1) - log_z + lse
            q.sub_(p)
        else:
            log_p.sub_(log_z[:, None])
            log_q = z.sub_(lse[:, None])
            value = term.divergence.terms(log_p, log_q).sum(-1)
            q = term.divergence.slope(log_p, log_q)
    factor = term.weight * scale / temperature
    if factor != 1.0:
        q.mul_(factor)
    return value * (term.weight * scale), q


def head_loss(
    hidden: Tensor,
    head: Tensor,
    terms: Sequence[Term],
    weights: Tensor,
    vocabulary: int | None = None,
    chunk: int = CHUNK_TOKENS,
) -> tuple[Tensor, Tensor]:
    """Weighted sum over tokens of a mix of divergences over a linear head, and the per-token values (no gradient).

    hidden [N, d], head [V, d], weights [N] -> scalar, [N].  vocabulary: how many rows count where heads are padded to
    different sizes; the others are in no softmax and get no gradient.  ValueError where sizes differ without it.
    """
    sizes = [head.shape[0], *(size for each in terms for size in _head_sizes(each))]
    if vocabulary is None and len(set(sizes)) > 1:
        raise ValueError(f"vocabularies differ: student {sizes[0]}, teacher {', '.join(map(str, sizes[1:]))}")
    if vocabulary is not None and vocabulary > min(sizes):
        raise ValueError(f"a vocabulary of {vocabulary} is more than the {min(sizes)} rows of a head")
    shared = vocabulary or head.shape[0]
    result: tuple[Tensor, Tensor] = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, head if shared == head.shape[0] else head[:shared], weights, tuple(terms), chunk
    )
    return result


def _head_sizes(term: Term) -> list[int]:
    return [] if isinstance(term.teacher, Sparse) else [head.shape[0] for head in term.teacher.heads]


def head_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """Weighted sum of `cross_entropy` to the text itself, and the per-token values; shapes as above."""
    return head_loss(hidden, head, [Term(teacher=one_hot(targets))], weights, chunk=chunk)


def head_forward_kl(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    weights: Tensor,
    temperature: float = 1.0,
    chunk: int = CHUNK_TOKENS,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of `forward_kl` to one teacher, and the per-token values; shapes as above."""
    teacher = DenseTeacher(hidden=(teacher_hidden,), heads=(teacher_head,))
    return head_loss(hidden, head, [Term(teacher=teacher, temperature=temperature)], weights, chunk=chunk)
