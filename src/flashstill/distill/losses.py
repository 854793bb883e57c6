"""Divergences between teacher and student, per token, and their fused form over an LM head.

Symbols: z student logits, y teacher logits (both [N, V]); p = softmax(y/T), q = softmax(z/T).

    cross-entropy   CE_n = logsumexp(z_n) - z_n[target_n]                      dCE/dz = q - onehot
    forward KL      KL_n = T^2 sum_v p (log p - log q)                         dKL/dz = T (q - p)

T^2 keeps gradients of the size they have at T = 1 (Hinton, Vinyals, Dean 2015, section 2.1).

The fused forms take final hidden states and the head's weight instead of logits.  They walk over the tokens in
chunks, so that at most `chunk` x V logits of each model exist at a time, and they compute the gradient together with
the value: of the batch x sequence x vocabulary tensors, only one bf16 gradient of at most 1,024 rows is ever held.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_TOKENS = 128  # measured: larger chunks leave the cache, smaller ones starve the matrix multiply
GRADIENT_TOKENS = 1024  # rows of bf16 logit gradient held for one large matrix multiply instead of many small ones


def cross_entropy(student_logits: Tensor, targets: Tensor) -> Tensor:
    """Per-token cross-entropy in nats: logits [N, V], targets [N] -> [N]."""
    return torch.logsumexp(student_logits, -1) - student_logits.gather(-1, targets[:, None]).squeeze(-1)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Per-token T^2 KL(teacher || student) in nats: logits [N, V] twice -> [N]."""
    log_p = torch.log_softmax(teacher_logits / temperature, -1)
    log_q = torch.log_softmax(student_logits / temperature, -1)
    return temperature**2 * kl_of_log_probabilities(log_q, log_p)


def kl_of_log_probabilities(student: Tensor, teacher: Tensor, teacher_probability: Tensor | None = None) -> Tensor:
    """KL(teacher || student) per row of log-probabilities [N, V] -> [N]; the third saves exp(teacher) where known."""
    probability = teacher.exp() if teacher_probability is None else teacher_probability
    divergence: Tensor = torch.linalg.vecdot(probability, teacher - student)
    return divergence


def soft_cross_entropy(student_logits: Tensor, teacher_probability: Tensor) -> Tensor:
    """Cross-entropy to soft targets, logsumexp(z) - p z, [N, V] -> [N]: the forward KL plus the teacher's entropy.

    Where only the student changes it ranks as the KL does, at two passes over the logits instead of five.
    """
    expected: Tensor = torch.linalg.vecdot(teacher_probability, student_logits)
    return torch.logsumexp(student_logits, -1) - expected


class _Scratch:
    """Buffers reused by every chunk: fresh ones of this size would be paged in anew each time, at twice the cost."""

    def __init__(self, rows: int, group: int, vocabulary: int, dtype: torch.dtype) -> None:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.raw = torch.empty(rows, vocabulary, dtype=dtype)
        self.z, self.y, self.q, self.p = (torch.empty(rows, vocabulary, dtype=wide) for _ in range(4))
        self.slope = torch.empty(group, vocabulary, dtype=dtype)
        self.wide = wide


def _softmax_and_lse(scratch: _Scratch, scaled: Tensor, out: Tensor, inverse_temperature: float) -> Tensor:
    """softmax of the raw logits in `out`, the scaled logits in `scaled`; returns logsumexp [n].

    exp(max - lse) is the largest probability, so that lse costs no pass of its own.
    """
    scaled.copy_(scratch.raw[: scaled.shape[0]])
    if inverse_temperature != 1.0:
        scaled.mul_(inverse_temperature)
    torch.softmax(scaled, -1, out=out)
    return scaled.amax(-1) - out.amax(-1).log()


class _FusedHead(torch.autograd.Function):
    """sum_n w_n loss_n over a linear head; returns the weighted sum and the per-token values."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        weights: Tensor,
        teacher: tuple[Tensor, Tensor] | None,
        targets: Tensor | None,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        tokens, vocabulary = hidden.shape[0], head.shape[0]
        group = min(tokens, GRADIENT_TOKENS)
        scratch = _Scratch(min(chunk, tokens), group, vocabulary, hidden.dtype)
        per_token = torch.empty(tokens, dtype=scratch.wide)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros_like(head, dtype=scratch.wide) if head.requires_grad else None
        for first in range(0, tokens, group):
            last = min(first + group, tokens)
            for start in range(first, last, chunk):
                part = slice(start, min(start + chunk, last))
                rows = part.stop - part.start
                z, q = scratch.z[:rows], scratch.q[:rows]
                torch.mm(hidden[part], head.T, out=scratch.raw[:rows])
                lse = _softmax_and_lse(scratch, z, q, 1.0 / temperature)
                if teacher is not None:
                    y, p = scratch.y[:rows], scratch.p[:rows]
                    torch.mm(teacher[0][part], teacher[1].T, out=scratch.raw[:rows])
                    lse_teacher = _softmax_and_lse(scratch, y, p, 1.0 / temperature)
                    gap = y.sub_(z).mul_(p).sum(-1)
                    per_token[part] = temperature**2 * (gap - lse_teacher + lse)
                    q.sub_(p)
                else:
                    assert targets is not None
                    chosen = targets[part, None]
                    per_token[part] = lse - z.gather(-1, chosen).squeeze(-1)
                    q.scatter_add_(-1, chosen, torch.full_like(lse, -1.0)[:, None])
                q.mul_(temperature * weights[part, None].to(scratch.wide))
                scratch.slope[start - first : part.stop - first].copy_(q)
            slope = scratch.slope[: last - first]
            torch.mm(slope, head, out=grad_hidden[first:last])
            if grad_head is not None:
                grad_head += slope.T @ hidden[first:last]
        ctx.save_for_backward(grad_hidden, *([] if grad_head is None else [grad_head.to(head.dtype)]))
        ctx.mark_non_differentiable(per_token)
        return (per_token * weights).sum(), per_token

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        scale = grads[0]
        grad_head = saved[1].mul(scale.to(saved[1].dtype)) if len(saved) > 1 else None
        return saved[0].mul(scale.to(saved[0].dtype)), grad_head, None, None, None, None, None


def head_forward_kl(
    hidden: Tensor,
    head: Tensor,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    weights: Tensor,
    temperature: float = 1.0,
    chunk: int = CHUNK_TOKENS,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of `forward_kl` over a linear head, and the per-token values (without gradient).

    hidden [N, d_S], head [V, d_S], teacher_hidden [N, d_T], teacher_head [V, d_T], weights [N] -> scalar, [N].
    """
    if head.shape[0] != teacher_head.shape[0]:
        raise ValueError(f"vocabularies differ: student {head.shape[0]}, teacher {teacher_head.shape[0]}")
    result: tuple[Tensor, Tensor] = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, head, weights, (teacher_hidden, teacher_head), None, temperature, chunk
    )
    return result


def head_cross_entropy(
    hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, chunk: int = CHUNK_TOKENS
) -> tuple[Tensor, Tensor]:
    """Weighted sum of `cross_entropy` over a linear head, and the per-token values; shapes as above."""
    result: tuple[Tensor, Tensor] = _FusedHead.apply(  # type: ignore[no-untyped-call]
        hidden, head, weights, None, targets, 1.0, chunk
    )
    return result
