"""Per-token divergences between teacher and student over the full vocabulary.

Symbols: z student logits, y teacher logits (both [N, V]); q = softmax(z/T), p = softmax(y/T); m a mixture of p and q.

    cross-entropy    logsumexp(z) - z[target]                          slope  q - onehot
    forward KL       sum p log(p/q)                                    slope  q - p
    reverse KL       sum q log(q/p)                                    pull   q (log(q/p) + 1)
    JSD, beta        beta KL(p|m) + (1-beta) KL(q|m), m = beta p + (1-beta) q          pull  (1-beta) q log(q/m)
    skew KL, a       KL(p|m), m = a p + (1-a) q                        pull  -(1-a) p q/m
    skew reverse, a  KL(q|m), m = a q + (1-a) p                        pull  q (log(q/m) + 1 - a q/m)
    total variation  sum |p - q| / 2                                   pull  -q sign(p - q) / 2

The gradient ("slope") of D = sum f(p, q) is  dD/d(z/T) = r - q sum r  with the "pull"  r = q df/dq.  These closed forms
are used by the fused head and tested against autograd.  Values are multiplied by T^2, which keeps gradients as large as
at T = 1 (Hinton, Vinyals, Dean 2015, section 2.1); total variation, which is first order in p - q, by T.
Sources: JSD from GKD (Agarwal et al. 2024); skewed divergences from DistiLLM (Ko et al. 2024), where a is the mixture
weight of the divergence's first argument: the teacher in skew KL, the student in skew reverse KL.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.errors import BadInput, unknown

Pointwise = Callable[[Tensor, Tensor], Tensor]
"""elementwise function of teacher log p and student log q: [N, V], [N, V] -> [N, V]"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Divergence:
    """The sum of `terms` over the vocabulary.

    pull: q times the derivative of `terms` with respect to q; order: leading order in p - q where the two are close.
    """

    name: str
    terms: Pointwise
    pull: Pointwise
    order: int = 2

    def scale(self, temperature: float) -> float:
        """Factor T^order, which keeps the gradient about as large as at T = 1."""
        return temperature**self.order

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Divergence per token in nats, times `scale`: student and teacher logits [N, V] -> [N]."""
        log_p = torch.log_softmax(teacher_logits / temperature, -1)
        log_q = torch.log_softmax(student_logits / temperature, -1)
        return self.scale(temperature) * self.terms(log_p, log_q).sum(-1)

    def slope(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Gradient [N, V] with respect to the student's scaled logits z/T, without the factor `scale`."""
        pull = self.pull(log_p, log_q)
        return pull.addcmul_(log_q.exp(), pull.sum(-1, keepdim=True), value=-1.0)


def cross_entropy(student_logits: Tensor, targets: Tensor) -> Tensor:
    """Per-token cross-entropy in nats: logits [N, V], targets [N] -> [N]."""
    return torch.logsumexp(student_logits, -1) - student_logits.gather(-1, targets[:, None]).squeeze(-1)


forward_kl = Divergence(
    name="forward-kl",
    terms=lambda log_p, log_q: log_p.exp() * (log_p - log_q),
    pull=lambda log_p, log_q: log_p.exp().neg_(),
)
reverse_kl = Divergence(
    name="reverse-kl",
    terms=lambda log_p, log_q: log_q.exp() * (log_q - log_p),
    pull=lambda log_p, log_q: log_q.exp() * (log_q - log_p + 1.0),
)
total_variation = Divergence(
    name="total-variation",
    terms=lambda log_p, log_q: (log_p.exp() - log_q.exp()).abs() / 2.0,
    pull=lambda log_p, log_q: torch.sign(log_q - log_p) * log_q.exp() / 2.0,
    order=1,
)


def generalised_jsd(beta: float) -> Divergence:
    """Generalised JSD, 0 < beta < 1: divided by beta it tends to forward KL as beta -> 0; divided by 1 - beta it tends
    to reverse KL as beta -> 1."""
    _check_share("beta", beta)

    def terms(log_p: Tensor, log_q: Tensor) -> Tensor:
        log_m = _mixture(log_p, log_q, beta)
        return beta * log_p.exp() * (log_p - log_m) + (1.0 - beta) * log_q.exp() * (log_q - log_m)

    def pull(log_p: Tensor, log_q: Tensor) -> Tensor:
        return (1.0 - beta) * log_q.exp() * (log_q - _mixture(log_p, log_q, beta))

    return Divergence(name=f"jsd:{beta:g}", terms=terms, pull=pull)


def skew_kl(alpha: float) -> Divergence:
    """Skew KL: KL from the teacher to the mixture alpha p + (1 - alpha) q; at most log(1/alpha)."""
    _check_share("alpha", alpha)

    def pull(log_p: Tensor, log_q: Tensor) -> Tensor:
        return -(1.0 - alpha) * (log_p + log_q - _mixture(log_p, log_q, alpha)).exp()

    return Divergence(
        name=f"skew-kl:{alpha:g}",
        terms=lambda log_p, log_q: log_p.exp() * (log_p - _mixture(log_p, log_q, alpha)),
        pull=pull,
    )


def skew_reverse_kl(alpha: float) -> Divergence:
    """Skew reverse KL: KL from the student to the mixture alpha q + (1 - alpha) p; at most log(1/alpha)."""
    _check_share("alpha", alpha)

    def pull(log_p: Tensor, log_q: Tensor) -> Tensor:
        gap = log_q - _mixture(log_p, log_q, 1.0 - alpha)
        return log_q.exp() * (gap + 1.0 - alpha * gap.exp())

    return Divergence(
        name=f"skew-reverse-kl:{alpha:g}",
        terms=lambda log_p, log_q: log_q.exp() * (log_q - _mixture(log_p, log_q, 1.0 - alpha)),
        pull=pull,
    )


PLAIN = {each.name: each for each in (forward_kl, reverse_kl, total_variation)}
WITH_SHARE = {"jsd": generalised_jsd, "skew-kl": skew_kl, "skew-reverse-kl": skew_reverse_kl}


def divergence(name: str) -> Divergence:
    """A divergence by name, with beta or alpha after a colon: "reverse-kl", "jsd:0.5"; BadInput lists the names."""
    kind, _, share = name.partition(":")
    if kind in PLAIN and not share:
        return PLAIN[kind]
    if kind not in WITH_SHARE:
        raise BadInput(unknown("divergence", name, [*PLAIN, *(f"{each}:0.1" for each in WITH_SHARE)]))
    try:
        return WITH_SHARE[kind](float(share or "nan"))
    except ValueError as error:
        raise BadInput(f"divergence {name!r} needs a share between 0 and 1 after a colon, as {kind}:0.1") from error


def kl_of_log_probabilities(student: Tensor, teacher: Tensor, teacher_probability: Tensor | None = None) -> Tensor:
    """KL(teacher || student) per row of log-probabilities [N, V] -> [N] in nats.

    teacher_probability: exp(teacher), if the caller has it already.
    """
    probability = teacher.exp() if teacher_probability is None else teacher_probability
    kl: Tensor = torch.linalg.vecdot(probability, teacher - student)
    return kl


def soft_cross_entropy(student_logits: Tensor, teacher_probability: Tensor) -> Tensor:
    """Cross-entropy to soft targets, logsumexp(z) - p z, [N, V] -> [N] in nats: forward KL plus the teacher's entropy.

    For a fixed teacher it ranks students as the KL does, with two passes over the logits instead of five.
    """
    expected: Tensor = torch.linalg.vecdot(teacher_probability, student_logits)
    return torch.logsumexp(student_logits, -1) - expected


def _mixture(log_p: Tensor, log_q: Tensor, share: float) -> Tensor:
    """log(share * p + (1 - share) * q), elementwise."""
    return torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share))


def _check_share(name: str, share: float) -> None:
    if not 0.0 < share < 1.0:
        raise BadInput(f"{name} must lie between 0 and 1, not {share}")
