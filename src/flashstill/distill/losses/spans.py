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

Gradients are autograd's, for a few hundred tokens at a time: logits of all tokens are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from flashstill.distill.losses.dense import Divergence, divergence, forward_kl, generalised_jsd
from flashstill.distill.losses.logits import Head
from flashstill.distill.losses.teacher import DenseTeacher
from flashstill.distill.losses.workspace import Workspace, wide
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.distill.losses.head import Term

LOGITS_AT_A_TIME = 2**23
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


SpanLoss = Callable[[Distributions, Distributions, SpanTeacher], Tensor]
"""(teacher, student, the spans) -> a value per span [S]"""


class SpanDivergence(Protocol):
    """A loss over spans, with its order in temperature."""

    def scale(self, temperature: float) -> float: ...
    def spans(self, known: Distributions, own: Distributions, teacher: SpanTeacher) -> Tensor: ...


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


class _SpanHead(torch.autograd.Function):
    """The weighted sum of terms over spans; gradients are made with the values, a chunk of spans at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        weights: Tensor,
        terms: Sequence[Term],
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


def _term_values(term: Term, rows: Tensor, head: Head, chunk: Chunk) -> Tensor:
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


def span_loss(hidden: Tensor, head: Head, terms: Sequence[Term], weights: Tensor) -> Tensor:
    """Weighted sum of terms to one `SpanTeacher` over its spans, in nats; a span has the weight of its last token.

    hidden [N, d], weights [N].
    """
    total: Tensor = _SpanHead.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, weights, tuple(terms), replace(head.detach(), bias=None)
    )
    return total
