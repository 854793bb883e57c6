"""Training targets: labels, or the mean probabilities of one or several teachers, computed once per example.

    hard     logsumexp(z) - z[label]
    soft     T^2 (logsumexp(z/T) - p z/T),  p = mean over the teachers of softmax(y/T)        Hinton et al. 2015, eq. 1

The soft loss is the forward KL plus the teachers' entropy; the factor T^2 keeps gradients of the size they have at T=1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.classifiers.fitting import Batch, Loss
from flashstill.distill.classifiers.inputs import Inputs
from flashstill.distill.classifiers.nets import Nets, logits_of
from flashstill.distill.losses import cross_entropy, soft_cross_entropy
from flashstill.progress import Progress

_CHUNK = 2**15


def hard(labels: Tensor) -> Loss:
    """Cross-entropy loss against labels [N]."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        labels_of_batch = labels[batch.index]
        return cross_entropy(logits.flatten(0, 1), labels_of_batch.flatten()).view_as(labels_of_batch)

    return loss


def soft(probabilities: Tensor, temperature: float) -> Loss:
    """Loss against probabilities [N, C] at this temperature: the teachers', or (at temperature 1) mixed labels."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        asked = probabilities.index_select(0, batch.index.flatten()).view_as(logits)
        return temperature**2 * soft_cross_entropy(logits / temperature, asked)

    return loss


def class_probabilities(teachers: Nets, data: Inputs, temperature: float, progress: Progress, name: str) -> Tensor:
    """Mean probabilities [N, C] of the teachers."""
    probabilities = torch.empty(len(data), teachers.classes)
    with progress.task(name, len(data), "examples") as advance:
        for begin in range(0, len(data), _CHUNK):
            part = Inputs(values=data.values[begin : begin + _CHUNK])
            probabilities[begin : begin + _CHUNK] = (logits_of(teachers, part) / temperature).softmax(-1).mean(0)
            advance(len(part))
    return probabilities
