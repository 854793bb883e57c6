"""Specialists: small groups of classes that the generalist confuses, each with a dustbin class for all others.

Hinton, Vinyals, Dean 2015, section 5.  Symbols: p_g the generalist's distribution [C]; S_m the classes of specialist m;
p_m its distribution over S_m and the dustbin [|S_m| + 1]; q the full distribution that is looked for.

    clusters     K-means over the columns of the covariance of the generalist's predictions            section 5.1
                 (softened by a temperature: outputs on training examples are almost one-hot)
    training     half of the examples from S_m, half from all others; starts from the generalist
    correction   dustbin logit + log((1 - pi) / pi), pi the share of S_m: undoes the sampling of 1/2    section 5.2
                 (where there are fewer others than examples of S_m, by the share that they then have)
    active       A = specialists with the generalist's likeliest class of this image in S_m             section 5.3
    together     argmin over q of  KL(p_g, q) + sum over m in A of KL(p_m, q summed outside S_m)        eq. 5

q = softmax(z), found by gradient descent on z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.distill.classifiers.nets import Nets

Classes = tuple[int, ...]
ATTEMPTS, ROUNDS = 20, 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """What a specialist says of N images: log-probabilities [N, |S| + 1], the dustbin last, already corrected."""

    classes: Classes
    log_probabilities: Tensor


def confusion(probabilities: Tensor) -> Tensor:
    """Covariance [C, C] of predictions [N, C], without the variances: they do not say which classes are confused, and
    with few classes they are so much larger than the rest that every cluster would be a matter of chance."""
    covariance = torch.cov(probabilities.double().T)
    return covariance - torch.diag(covariance.diagonal())


def clusters(columns: Tensor, count: int, seed: int) -> list[Classes]:
    """K-means over the columns [C, C], the tightest of several attempts; largest group first.

    Groups of one class are left out, there is nothing to tell apart in them; and one of all, there is nobody else.
    """
    generator = torch.Generator().manual_seed(seed)
    attempts = [_lloyd(columns.T, min(count, len(columns)), generator) for _ in range(ATTEMPTS)]
    owner = min(attempts, key=lambda each: each[0])[1]
    groups = [tuple((owner == k).nonzero().flatten().tolist()) for k in range(count)]
    return sorted((each for each in groups if 1 < len(each) < len(columns)), key=lambda each: (-len(each), each))


def _lloyd(points: Tensor, count: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """Sum of squares and the owner of each point, from centres far apart (Arthur, Vassilvitskii 2007)."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        away = torch.cdist(points, centres).amin(-1).square()
        centres = torch.cat([centres, points[torch.multinomial(away + 1e-30, 1, generator=generator)]])
    for _ in range(ROUNDS):
        distance, owner = torch.cdist(points, centres).min(-1)
        centres = torch.stack(
            [points[owner == k].mean(0) if bool((owner == k).any()) else centres[k] for k in range(count)]
        )
    return float(distance.square().sum()), owner


def own_labels(labels: Tensor, classes: Classes) -> Tensor:
    """Labels [N] as a specialist sees them: the place in its classes, or the dustbin, len(classes)."""
    own = torch.full_like(labels, len(classes))
    for place, label in enumerate(classes):
        own[labels == label] = place
    return own


def half_and_half(labels: Tensor, classes: Classes, seed: int) -> Tensor:
    """Indices of all examples of the classes and as many of all others, or all of them where there are fewer."""
    own = torch.isin(labels, torch.tensor(classes))
    mine, others = own.nonzero().flatten(), (~own).nonzero().flatten()
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    return torch.cat([mine, others[order[: len(mine)]]])


def specialist_from(generalist: Nets, classes: Classes) -> Nets:
    """A net with the generalist's weights; the dustbin's are the mean of those of the classes that it stands for."""
    made = Nets(generalist.features, generalist.hidden, len(classes) + 1, [0], generalist.dtype)
    own = torch.tensor(classes)
    other = torch.tensor([each for each in range(generalist.classes) if each not in classes])
    with torch.no_grad():
        for ours, theirs in ((made.weights, generalist.weights), (made.biases, generalist.biases)):
            for mine, its in zip(ours[:-1], theirs[:-1], strict=True):
                mine.copy_(its)
            last = theirs[-1]
            ours[-1].copy_(torch.cat([last[..., own], last[..., other].mean(-1, keepdim=True)], -1))
    return made


def corrected(logits: Tensor, own_share: float, sampled_share: float) -> Tensor:
    """Logits [N, |S| + 1] of a specialist whose classes are own_share of all, and were sampled_share in training."""
    shifted = logits.clone()
    odds = (1.0 - own_share) / own_share * sampled_share / (1.0 - sampled_share)
    shifted[:, -1] += torch.tensor(odds).log()
    return shifted


def combined(generalist: Tensor, opinions: Sequence[Opinion], steps: int = 300) -> Tensor:
    """Logits z [N, C] of q, from the generalist's logits [N, C] and the specialists that are active for each image.

    The gradient of one divergence by z is q less its target, where the target of a class outside S_m is its part of
    the dustbin; steps of 1 over their number never overshoot.
    """
    z, best = generalist.double(), generalist.argmax(-1)
    at_first = z.softmax(-1)
    active = [torch.isin(best, torch.tensor(opinion.classes)).double()[:, None] for opinion in opinions]
    counted = 1.0 + sum(active, torch.zeros(len(z), 1, dtype=z.dtype))
    for _ in range(steps if opinions else 0):
        q = z.softmax(-1)
        slope = q - at_first
        for opinion, weight in zip(opinions, active, strict=True):
            slope += weight * (q - _spread(opinion, q))
        z = z - slope / counted
    return z


def _spread(opinion: Opinion, q: Tensor) -> Tensor:
    """[N, C]: what the opinion asks of every class, the dustbin's share divided as in q."""
    probabilities = opinion.log_probabilities.double().exp()
    own = list(opinion.classes)
    outside = torch.ones(q.shape[-1], dtype=torch.bool)
    outside[own] = False
    spread = torch.zeros_like(q)
    spread[:, own] = probabilities[:, :-1]
    spread[:, outside] = probabilities[:, -1:] * q[:, outside] / q[:, outside].sum(-1, keepdim=True)
    return spread


def divergences(generalist: Tensor, opinions: Sequence[Opinion], z: Tensor) -> Tensor:
    """The sum of eq. 5 [N], for logits z."""
    log_q = z.double().log_softmax(-1)
    total = _kl(generalist.double().log_softmax(-1), log_q)
    for opinion in opinions:
        active = torch.isin(generalist.argmax(-1), torch.tensor(opinion.classes))
        total = total + active * _kl(opinion.log_probabilities.double(), grouped(log_q, opinion.classes))
    return total


def grouped(log_q: Tensor, classes: Classes) -> Tensor:
    """Log-probabilities [N, C] as a specialist has them [N, |S| + 1]: its own classes, and all others summed."""
    others = [each for each in range(log_q.shape[-1]) if each not in classes]
    return torch.cat([log_q[:, list(classes)], log_q[:, others].logsumexp(-1, keepdim=True)], -1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)
