"""What nets learn from: labels, or the probabilities of a teacher or of many, asked once on every shifted image.

    hard     logsumexp(z) - z[label]
    soft     T^2 (logsumexp(z/T) - p z/T),  p = mean over the teachers of softmax(y/T)        Hinton et al. 2015, eq. 1

The soft loss is the forward KL plus the teachers' entropy; T^2 keeps its gradients of the size that they have at T = 1.
Teachers of images moved by at most r pixels say (2 r + 1)^2 distributions of each, few enough to be kept: students then
learn on moved images as often as they like, at no cost for the teachers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.classifiers.fitting import Batch, Loss
from flashstill.distill.classifiers.inputs import Inputs, shifts_within
from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.losses import cross_entropy, soft_cross_entropy
from flashstill.progress import Progress


def hard(labels: Tensor) -> Loss:
    """Loss of labels [N]."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        wanted = labels[batch.index]
        return cross_entropy(logits.flatten(0, 1), wanted.flatten()).view_as(wanted)

    return loss


def soft(probabilities: Tensor, temperature: float) -> Loss:
    """Loss of the teachers' probabilities [V, N, C] at this temperature, by shift and example."""

    count = probabilities.shape[1]
    flat = probabilities.flatten(0, 1)

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        asked = flat.index_select(0, (batch.shifts * count + batch.index).flatten()).view_as(logits)
        return temperature**2 * soft_cross_entropy(logits / temperature, asked)

    return loss


def said(teachers: Nets, data: Inputs, temperature: float, reach: int, progress: Progress, name: str) -> Tensor:
    """Mean probabilities [V, N, C] of the teachers at all shifts within `reach`."""
    count = shifts_within(reach)
    found = []
    with progress.task(name, count, "shifts") as advance:
        for shift in range(count):
            found.append((logits_of(teachers, data, shift, reach) / temperature).softmax(-1).mean(0))
            advance(1)
    return torch.stack(found)
