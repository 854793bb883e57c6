"""Specialists: small groups of classes that the generalist confuses, each with a dustbin class for all others.

Hinton, Vinyals, Dean 2015, section 5.  Symbols: p_g the generalist's distribution [C]; S_m the classes of specialist m;
p_m its distribution over S_m and the dustbin [|S_m| + 1]; q the combined distribution over all classes.

    clusters     K-means over the columns of the covariance of the generalist's predictions            section 5.1
                 (softened by a temperature: outputs on training examples are almost one-hot)
    training     half of the examples from S_m, half from all others; starts from the generalist
    correction   dustbin logit + log((1 - pi) / pi), pi the share of S_m: undoes the sampling of 1/2    section 5.2
                 (if there are fewer others than examples of S_m, with the actual share instead of 1/2)
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
    """A specialist's corrected log-probabilities [N, |S| + 1] on N images, the dustbin last."""

    classes: Classes
    log_probabilities: Tensor


def confusion(probabilities: Tensor) -> Tensor:
    """Covariance [C, C] of predictions [N, C] with zero diagonal: variances do not show which classes are confused, and
    with few classes they are so large that they would dominate the distances between columns."""
    covariance = torch.cov(probabilities.double().T)
    return covariance - torch.diag(covariance.diagonal())


def clusters(columns: Tensor, count: int, seed: int) -> list[Classes]:
    """K-means over the columns [C, C]: the best of several runs, largest group first.

    Groups of one class, and a group of all classes, are left out: a specialist for them would have nothing to decide.
    """
    generator = torch.Generator().manual_seed(seed)
    attempts = [_lloyd(columns.T, min(count, len(columns)), generator) for _ in range(ATTEMPTS)]
    owner = min(attempts, key=lambda each: each[0])[1]
    groups = [tuple((owner == k).nonzero().flatten().tolist()) for k in range(count)]
    return sorted((each for each in groups if 1 < len(each) < len(columns)), key=lambda each: (-len(each), each))


def _lloyd(points: Tensor, count: int, generator: torch.Generator) -> tuple[float, Tensor]:
    """One k-means run from k-means++ centres (Arthur, Vassilvitskii 2007): sum of squares, cluster of each point."""
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
    """Labels [N] of a specialist: the index in its classes, or len(classes) for the dustbin."""
    own = torch.full_like(labels, len(classes))
    for place, label in enumerate(classes):
        own[labels == label] = place
    return own


def half_and_half(labels: Tensor, classes: Classes, seed: int) -> Tensor:
    """Indices of all examples of the classes and equally many others, or all others if there are fewer."""
    own = torch.isin(labels, torch.tensor(classes))
    mine, others = own.nonzero().flatten(), (~own).nonzero().flatten()
    order = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))
    return torch.cat([mine, others[order[: len(mine)]]])


def specialist_from(generalist: Nets, classes: Classes) -> Nets:
    """A net with the generalist's weights; the dustbin's output weights are the mean over the classes it replaces."""
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
    """Correct logits [N, |S| + 1]: the specialist's classes are own_share of all data, sampled_share in training."""
    shifted = logits.clone()
    odds = (1.0 - own_share) / own_share * sampled_share / (1.0 - sampled_share)
    shifted[:, -1] += torch.tensor(odds).log()
    return shifted


def combined(generalist: Tensor, opinions: Sequence[Opinion], steps: int = 300) -> Tensor:
    """Logits z [N, C] of q, from the generalist's logits [N, C] and the active specialists of each image.

    The gradient of each divergence with respect to z is q - target; the target of a class outside S_m is its share of
    the dustbin's probability.  With step size 1 / (number of divergences) gradient descent never overshoots.
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
    """Target probabilities [N, C] of a specialist: the dustbin's probability is divided in proportion to q."""
    probabilities = opinion.log_probabilities.double().exp()
    own = list(opinion.classes)
    outside = torch.ones(q.shape[-1], dtype=torch.bool)
    outside[own] = False
    spread = torch.zeros_like(q)
    spread[:, own] = probabilities[:, :-1]
    spread[:, outside] = probabilities[:, -1:] * q[:, outside] / q[:, outside].sum(-1, keepdim=True)
    return spread


def grouped(log_q: Tensor, classes: Classes) -> Tensor:
    """Log-probabilities [N, C] -> [N, |S| + 1]: the specialist's own classes, and all others summed."""
    others = [each for each in range(log_q.shape[-1]) if each not in classes]
    return torch.cat([log_q[:, list(classes)], log_q[:, others].logsumexp(-1, keepdim=True)], -1)
