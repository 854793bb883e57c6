"""Losses to a teacher with another tokenizer, on aligned spans of text (data/alignment.py).

Symbols: a span of student tokens s_1 .. s_k and teacher tokens t_1 .. t_m that spell the same text; q_i and p_j the
distributions at them; (v, v') in C: ids of student and teacher that stand for the same bytes.
    any divergence D    k = m = 1: D over the pairs of C and one bucket for all other ids, of p_1 and q_1
                        else: D over two outcomes, that the span is written or not: P = prod p_j(t_j), Q = prod q_i(s_i)
    ULD                 sum |sort(p) - sort(q)|, the shorter padded with zeros              (Boizard et al. 2024, eq. 5)
    GOLD, beta          w JSD_beta over C + (1 - w) ULD over the other ids, w = |C| / V'    (Patino et al. 2025; TRL)
ULD and GOLD take the distribution at the last token of a span times the probabilities of the tokens before it (TRL's
merge strategy "bayesian").  With one tokenizer the first is the ordinary loss, and so is GOLD with beta 0 (forward KL).
Buckets and outcomes make every term a divergence of distributions, with its minimum where the student agrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flashstill.distill.losses.dense import Divergence, divergence, forward_kl, generalised_jsd
from flashstill.distill.losses.teacher import DenseTeacher
from flashstill.errors import BadInput

LEAST = 1e-6
"""smallest mass of a bucket that is compared, as in losses/sparse.py"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanTeacher:
    """A teacher's outputs on its own M tokens of the text of N student tokens, and the spans of both.

    targets [N], known_targets [M]: the tokens that follow; span [N], known_span [M]: number of the span of each target,
    ascending and the same on both sides, or -1; common, known_common [C]: ids of student and teacher with equal bytes.
    """

    teacher: DenseTeacher
    targets: Tensor
    known_targets: Tensor
    span: Tensor
    known_span: Tensor
    common: Tensor
    known_common: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Distributions:
    """Of one side, at S spans: log-probabilities [S, V] at the last token of each; before [S]: summed log-probabilities
    of the tokens before it; last [S]: that of the last token itself; single [S]: whether there is none before it."""

    log_p: Tensor
    before: Tensor
    last: Tensor
    single: Tensor


@dataclass(frozen=True, slots=True)
class Uld:
    """Universal logit distillation: the distance of the sorted probabilities."""

    name: str = "uld"

    def scale(self, temperature: float) -> float:
        """First order in p - q."""
        return temperature

    def spans(self, known: Distributions, own: Distributions, teacher: SpanTeacher) -> Tensor:
        """[S]"""
        return sorted_distance(_merged(known).exp(), _merged(own).exp())


@dataclass(frozen=True, slots=True)
class Gold:
    """General online logit distillation: a JSD over common ids (beta 0: forward KL), ULD over the others."""

    beta: float = 0.0

    @property
    def name(self) -> str:
        return f"gold:{self.beta:g}"

    def scale(self, temperature: float) -> float:
        """Second order in p - q, as the part over common ids."""
        return temperature**2

    def spans(self, known: Distributions, own: Distributions, teacher: SpanTeacher) -> Tensor:
        """[S]"""
        log_p, log_q = _merged(known), _merged(own)
        inner = forward_kl if self.beta == 0.0 else generalised_jsd(self.beta)
        pairs = inner.terms(log_p[:, teacher.known_common], log_q[:, teacher.common]).sum(-1)
        share = len(teacher.common) / log_p.shape[1]
        rest, own_rest = _without(log_p, teacher.known_common), _without(log_q, teacher.common)
        return share * pairs + (1.0 - share) * sorted_distance(rest.exp(), own_rest.exp())


def span_divergence(name: str) -> Any:
    """A loss over spans by name: a divergence (dense.py), "uld", or "gold" with beta after a colon."""
    kind, _, beta = name.partition(":")
    if name == "uld":
        return Uld()
    if kind != "gold":
        return divergence(name)
    try:
        given = float(beta or 0.0)
    except ValueError:
        given = -1.0
    if not 0.0 <= given < 1.0:
        raise BadInput(f"loss {name!r} needs a beta from 0 to below 1 after the colon, as gold:0.5")
    return Gold(given)


def sorted_distance(known: Tensor, own: Tensor) -> Tensor:
    """sum |sort(p) - sort(q)| of probabilities [S, V'], [S, V]; the shorter is padded with zeros -> [S]."""
    most = max(known.shape[-1], own.shape[-1])
    padded = [torch.nn.functional.pad(each, (0, most - each.shape[-1])) for each in (known, own)]
    first, second = (each.sort(-1, descending=True).values for each in padded)
    return (first - second).abs().sum(-1)


def over_events(inner: Divergence, known: Distributions, own: Distributions, teacher: SpanTeacher) -> Tensor:
    """A divergence over common ids and a bucket where both sides have one token, else over the span as it is [S]."""
    pairs = known.log_p[:, teacher.known_common], own.log_p[:, teacher.common]
    rest = _mass_without(known.log_p, teacher.known_common), _mass_without(own.log_p, teacher.common)
    single = inner.terms(*pairs).sum(-1) + _bucket(inner, *rest)
    written = known.before + known.last, own.before + own.last
    many = inner.terms(*written) + _bucket(inner, -torch.expm1(written[0]), -torch.expm1(written[1]))
    return torch.where(known.single & own.single, single, many)


def _bucket(inner: Divergence, known: Tensor, own: Tensor) -> Tensor:
    """The term of the rest, from its masses [S]; nothing where neither side has any."""
    is_there = (known > LEAST) | (own > LEAST)
    both = (torch.where(is_there, each, 1.0).clamp_min(LEAST).log() for each in (known, own))
    return torch.where(is_there, inner.terms(*both), 0.0)


def _merged(side: Distributions) -> Tensor:
    return side.log_p + side.before[:, None]


def _without(log_p: Tensor, ids: Tensor) -> Tensor:
    """The columns other than `ids`."""
    kept = torch.ones(log_p.shape[-1], dtype=torch.bool, device=log_p.device)
    kept[ids] = False
    return log_p[:, kept]


def _mass_without(log_p: Tensor, ids: Tensor) -> Tensor:
    """Probability of the ids other than `ids` [S]; summed, not one minus the others, which would be rounding noise."""
    return _without(log_p, ids).exp().sum(-1)


def distributions(logits: Tensor, targets: Tensor, span: Tensor, temperature: float) -> Distributions:
    """Of whole spans: logits [n, V] and targets [n] of their tokens, span [n]: their numbers, ascending."""
    log_p = torch.log_softmax(logits / temperature, -1)
    chosen = log_p.gather(-1, targets[:, None]).squeeze(-1)
    _, place, sizes = torch.unique_consecutive(span, return_inverse=True, return_counts=True)
    is_last = torch.ones_like(span, dtype=torch.bool)
    is_last[:-1] = place[1:] != place[:-1]
    before = torch.zeros(len(sizes), dtype=log_p.dtype, device=log_p.device)
    before = before.index_add(0, place[~is_last], chosen[~is_last])
    return Distributions(log_p=log_p[is_last], before=before, last=chosen[is_last], single=sizes == 1)
