"""Run a model to be scored: its hidden states and head in float32, or the logits that it makes by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import Head
from flashstill.distill.models import Model, parts
from flashstill.distill.models.causality import check_causal
from flashstill.distill.models.devices import windows_a_pass
from flashstill.distill.models.documents import kept_apart
from flashstill.distill.signals import hidden_states
from flashstill.distill.signals.making import check_head_on
from flashstill.distill.training import Batch
from flashstill.errors import UnsupportedArchitecture

WINDOWS_PER_PASS = 2
"""on the CPU"""
TOKENS_ON_GPU = 2**12


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A model and its head in float32; head: None if the model makes its logits in another way."""

    model: Model
    head: Head | None

    def states(self, batch: Batch) -> Tensor:
        """Final hidden states [N, d] of the inputs of a batch, or the logits [N, V] that the model itself gives."""
        return self.rows(batch.inputs, batch.starts).flatten(0, 1)

    def rows(self, tokens: Tensor, starts: Tensor | None = None) -> Tensor:
        """The same of token ids [B, L] -> [B, L, d] or [B, L, V]; starts: of documents, None for one a row."""
        inputs = tokens.to(self.model.device)
        if self.head is None:
            return kept_apart(self._own_logits, self.model, inputs, starts)
        return hidden_states(self.model, inputs, starts)

    def _own_logits(self, inputs: Tensor, **more: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=inputs, use_cache=False, **more).logits
        return logits

    def logits(self, states: Tensor) -> Tensor:
        """Logits [n, V] in float32 of some of the states."""
        return states.float() if self.head is None else self.head.logits(states)


def windows_scored_at_once(device: torch.device, packed: Packed) -> int:
    """Windows of a pass: those models whose logits are not their head's keep all logits of it."""
    return windows_a_pass(device, packed.length, WINDOWS_PER_PASS, TOKENS_ON_GPU)


def reader_of(model: Model, tokens: Tensor) -> Reader:
    """A model as it is read, by its head if that makes its logits on token ids [1, L]; BadInput if it is not causal."""
    check_causal(model, tokens)
    try:
        head = parts(model).head.detach().widened()
        check_head_on(model, tokens)
    except UnsupportedArchitecture:
        return Reader(model=model, head=None)
    return Reader(model=model, head=head)
