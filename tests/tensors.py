"""Random tensors that are the same every time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def logits(seed: int, rows: int = 7, vocabulary: int = 11) -> Tensor:
    return 2.0 * torch.randn(rows, vocabulary, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights(model: Any) -> dict[str, Tensor]:
    """A copy of every tensor of a model's state."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
