"""The pass of a drafting head in the training loop: its own steps unrolled over a text, each with the recipe's losses.

    loss = sum_k decay^(k-1) loss_k / sum_k decay^(k-1) + feature_weight * smooth L1(f, h)

loss_k is the recipe's loss of step k to the target's distribution (total variation is 1 - acceptance: Leviathan et al.
2023, corollary 3.6); the second term, of EAGLE-1, draws the first step's state to the target's (Li et al. 2024, 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor

from flashstill.distill.losses import DenseTeacher, Term
from flashstill.distill.models.documents import positions
from flashstill.distill.training.batches import Batch
from flashstill.distill.training.passes import HeadLoss
from flashstill.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftPass:
    """steps: how many tokens the head drafts from its own states in training; decay: of each further step's weight."""

    steps: int = 3
    decay: float = 0.8
    feature_weight: float = 0.0

    def __call__(self, model: Any, batch: Batch, terms: Sequence[Term], loss: HeadLoss) -> Tensor:
        """The loss of a batch. terms: their first teacher's hidden states are what the head reads."""
        rows, length = batch.inputs.shape
        features = _features(terms, rows, length)
        counted = torch.zeros((), dtype=torch.float32, device=features.device)
        place = _places(batch, length).to(features.device).flatten()
        shares = [self.decay**step for step in range(self.steps)]
        for step, states in enumerate(model.unrolled(features, batch.inputs, self.steps, batch.starts)):
            after = (place > step).float()  # the first rows of a document have no text before them
            counted = counted + shares[step] / sum(shares) * loss(states.flatten(0, 1), model.head, after)
            if step == 0 and self.feature_weight:
                weights = (after * batch.mask.flatten()).to(states.dtype)
                apart = F.smooth_l1_loss(states, features.to(states.dtype), reduction="none").mean(-1).flatten()
                counted = counted + self.feature_weight * (apart * weights).sum() / weights.sum().clamp(min=1.0)
        return counted


def _places(batch: Batch, length: int) -> Tensor:
    """Position of each input in its document [B, L]."""
    if batch.starts is None:
        return torch.arange(length).expand(len(batch.tokens), -1)
    return positions(batch.starts)


def _features(terms: Sequence[Term], rows: int, length: int) -> Tensor:
    """The target's final hidden states [B, L, d] of a batch, which its exact signals are."""
    teachers = [term.teacher for term in terms if isinstance(term.teacher, DenseTeacher)]
    if not teachers or len(teachers[0].hidden) != 1:
        raise BadInput(
            "a drafting head reads one target's hidden states: signals of kind hidden, or none, of one teacher"
        )
    return teachers[0].hidden[0].view(rows, length, -1)
