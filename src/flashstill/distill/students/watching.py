"""One pass of a model whose modules are watched."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from flashstill.distill.models import Model
from flashstill.distill.signals import hidden_states


def run_watched(model: Model, tokens: Tensor, handles: Iterable[RemovableHandle]) -> None:
    """Run token ids [B, L] through the body, without gradients; the hooks go whatever happens."""
    try:
        with torch.inference_mode():
            hidden_states(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
