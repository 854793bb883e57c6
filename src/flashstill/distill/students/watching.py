"""One forward pass of a model with hooks on its modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from flashstill.distill.models import Model
from flashstill.distill.signals import hidden_states


def places_of(learned: Tensor | None) -> Any:
    """Index of the rows [B L] that count among the flattened tokens; learned [B, L]: True there, None for all."""
    return slice(None) if learned is None else learned.flatten()


def run_watched(model: Model, tokens: Tensor, handles: Iterable[RemovableHandle]) -> None:
    """Run token ids [B, L] through the blocks without gradients; the hooks are removed even if the pass fails."""
    try:
        with torch.inference_mode():
            hidden_states(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
