"""Divergences to a teacher of whom only some of the vocabulary is known, per token.

Symbols: ids v_1 .. v_K of a token with the teacher's probabilities p_k; q = softmax(z), student.

    tail bucket   sum_k p_k log(p_k/q_k) + P log(P/Q),  P = 1 - sum p_k,  Q = 1 - sum q_k
                  slope  q_v - p_v inside, q_v (1 - P/Q) outside
    sampled       logsumexp(z) - sum_k w_k z_k,  the w_k sum to 1 and E[w] = p
                  slope  q - w,  whose expectation is q - p, the slope of the forward KL

Without the tail bucket, top-k probabilities scaled up to sum to 1 teach a distribution that is too sure of itself; with
it the loss is zero where the student equals the teacher.  Sampled weights may be such a scaled-up top-k as well, but
only draws make them unbiased (Anshumann et al. 2025, "Sparse Logit Sampling").  Both hold at temperature 1: what the
probabilities of the rest would be at another one is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST = 1e-6
"""the least mass of a bucket: the rest of a sum of float32 probabilities is not known more closely"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparse:
    """Teacher probabilities of some ids of each token.

    ids [N, K] in int64; weights [N, K], zero where a place is empty; tail: whether the rest of the mass is a bucket.
    """

    ids: Tensor
    weights: Tensor
    tail: bool = False

    def part(self, tokens: slice) -> Sparse:
        """Some of the tokens."""
        return Sparse(ids=self.ids[tokens], weights=self.weights[tokens], tail=self.tail)


def one_hot(targets: Tensor) -> Sparse:
    """The text itself as a teacher: targets [N]."""
    return Sparse(ids=targets[:, None], weights=torch.ones(len(targets), 1))


def sparse_loss(student_logits: Tensor, teacher: Sparse) -> Tensor:
    """Per token in nats: logits [N, V] -> [N]; a KL with a tail bucket, else a cross-entropy to the weights."""
    lse = torch.logsumexp(student_logits, -1)
    chosen = student_logits.gather(-1, teacher.ids)
    weights = teacher.weights.to(chosen.dtype)
    if not teacher.tail:
        return weights.sum(-1) * lse - (weights * chosen).sum(-1)
    return _bucketed(chosen - lse[:, None], weights)[0]


def sparse_value_and_slope(logits: Tensor, probabilities: Tensor, lse: Tensor, teacher: Sparse) -> Tensor:
    """The values [N]; turns the student's `probabilities` [N, V] into the slope by the logits, in place."""
    chosen = logits.gather(-1, teacher.ids)
    weights = teacher.weights.to(chosen.dtype)
    if not teacher.tail:
        mass = weights.sum(-1)
        probabilities.mul_(mass[:, None]).scatter_add_(-1, teacher.ids, -weights)
        return mass * lse - (weights * chosen).sum(-1)
    log_q = chosen - lse[:, None]
    value, ratio = _bucketed(log_q, weights)
    # Outside the slope is q (1 - P/Q); inside q - p, which differs from it by q P/Q - p. Empty places add nothing.
    present = weights > 0
    correction = torch.where(present, log_q.exp() * ratio[:, None] - weights, 0.0)
    probabilities.mul_(1.0 - ratio[:, None]).scatter_add_(-1, teacher.ids, correction)
    return value


def _bucketed(log_q: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """KL over the ids and the bucket of the rest, and P/Q."""
    present = weights > 0
    inside = torch.where(present, log_q.exp(), 0.0)
    rest = (1.0 - weights.sum(-1)).clamp_min(0.0)
    student_rest = (1.0 - inside.sum(-1)).clamp_min(LEAST)
    known = torch.where(present, weights * (weights.clamp_min(1e-30).log() - log_q), 0.0).sum(-1)
    bucket = torch.where(rest > LEAST, rest * (rest.clamp_min(LEAST).log() - student_rest.log()), 0.0)
    return known + bucket, torch.where(rest > LEAST, rest / student_rest, 0.0)
