"""Per-token losses against a sparse teacher, of which only some ids of the vocabulary are known.

Symbols: ids v_1 .. v_K of a token with teacher probabilities p_k; student z (logits), q = softmax(z).

    tail bucket   sum_k p_k log(p_k/q_k) + P log(P/Q),  P = 1 - sum p_k,  Q = 1 - sum q_k
                  slope  q_v - p_v inside, q_v (1 - P/Q) outside
    sampled       logsumexp(z) - sum_k w_k z_k,  the w_k sum to 1 and E[w] = p
                  slope  q - w,  whose expectation is q - p, the slope of the forward KL

Top-k probabilities renormalised to sum to 1 would teach an overconfident distribution; with the tail bucket the loss
is zero if the student equals the teacher.  The second form accepts renormalised top-k weights too, but is unbiased only
with sampled weights (Anshumann et al. 2025, "Sparse Logit Sampling").  Both work only at temperature 1: rescaling to
another temperature would need the probabilities of all ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6
"""smallest tail mass, about the rounding error of 1 - (a sum of float32 probabilities)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparse:
    """Teacher probabilities of up to K ids per token.

    ids [N, K] int64; weights [N, K], zero in unused entries; tail: whether the remaining mass is a tail bucket.
    """

    ids: Tensor
    weights: Tensor
    tail: bool = False

    def part(self, tokens: slice) -> Sparse:
        """The teacher's output for a slice of the tokens."""
        return Sparse(ids=self.ids[tokens], weights=self.weights[tokens], tail=self.tail)

    def below(self, vocabulary: int) -> Sparse:
        """The teacher's output without ids from `vocabulary` on, the other probabilities renormalised.

        Rows of a padded head beyond the vocabulary stand for no token.  Of top-k outputs only the listed ids can be
        left out: those in the tail stay part of it.
        """
        beyond = self.ids >= vocabulary
        if not bool(beyond.any()):
            return self
        weights = self.weights.masked_fill(beyond, 0.0)
        before, gone = self.weights.sum(-1), self.weights.masked_fill(~beyond, 0.0).sum(-1)
        whole = torch.ones_like(before) if self.tail else before
        rest = (whole - gone).clamp_min(LEAST)
        return Sparse(ids=self.ids.masked_fill(beyond, 0), weights=weights * (whole / rest)[:, None], tail=self.tail)


def one_hot(targets: Tensor, weights: Tensor | None = None) -> Sparse:
    """The ground-truth tokens, targets [N], as a teacher with probability 1 on each target.

    weights [N]: multiply the loss of each token; None for 1.
    """
    ones = torch.ones(len(targets), device=targets.device)
    return Sparse(ids=targets[:, None], weights=(ones if weights is None else weights)[:, None])


def sparse_loss(student_logits: Tensor, teacher: Sparse) -> Tensor:
    """Loss per token in nats, logits [N, V] -> [N]: KL with a tail bucket, otherwise cross-entropy to the weights."""
    lse = torch.logsumexp(student_logits, -1)
    chosen = student_logits.gather(-1, teacher.ids)
    weights = teacher.weights.to(chosen.dtype)
    if not teacher.tail:
        return weights.sum(-1) * lse - (weights * chosen).sum(-1)
    return _bucketed(chosen - lse[:, None], weights)[0]


def sparse_value_and_slope(logits: Tensor, probabilities: Tensor, lse: Tensor, teacher: Sparse) -> Tensor:
    """Loss per token [N] in nats; overwrites the student's `probabilities` [N, V] with the gradient by the logits."""
    chosen = logits.gather(-1, teacher.ids)
    weights = teacher.weights.to(chosen.dtype)
    if not teacher.tail:
        mass = weights.sum(-1)
        probabilities.mul_(mass[:, None]).scatter_add_(-1, teacher.ids, -weights)
        return mass * lse - (weights * chosen).sum(-1)
    log_q = chosen - lse[:, None]
    value, ratio = _bucketed(log_q, weights)
    # The gradient is q (1 - P/Q) outside the ids and q - p inside, which differ by q P/Q - p. Unused entries add 0.
    present = weights > 0
    correction = torch.where(present, log_q.exp() * ratio[:, None] - weights, 0.0)
    probabilities.mul_(1.0 - ratio[:, None]).scatter_add_(-1, teacher.ids, correction)
    return value


def _bucketed(log_q: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """KL over the ids and the tail bucket [N], and the ratio P/Q of the tail masses [N]."""
    present = weights > 0
    inside = torch.where(present, log_q.exp(), 0.0)
    rest = (1.0 - weights.sum(-1)).clamp_min(0.0)
    student_rest = (1.0 - inside.sum(-1)).clamp_min(LEAST)
    known = torch.where(present, weights * (weights.clamp_min(1e-30).log() - log_q), 0.0).sum(-1)
    bucket = torch.where(rest > LEAST, rest * (rest.clamp_min(LEAST).log() - student_rest.log()), 0.0)
    return known + bucket, torch.where(rest > LEAST, rest / student_rest, 0.0)
