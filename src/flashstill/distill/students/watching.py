"""One forward pass of a model with hooks on its modules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from flashstill.distill.models import Model
from flashstill.distill.signals import hidden_states
from flashstill.errors import UnsupportedArchitecture


def places_of(learned: Tensor | None) -> Any:
    """Index of the rows [B L] that count among the flattened tokens; learned [B, L]: True there, None for all."""
    return slice(None) if learned is None else learned.flatten()


def counted_rows(rows: Tensor, counted: Tensor | None) -> Tensor:
    """The rows [M, d] that count, of rows [N, d] of a pass over tokens [B, L]: one or several for each place, in order.

    counted [B, L]: True at the places that count, None for all.  Raises UnsupportedArchitecture if a layer was given
    other rows, such as an expert that is a module of its own, as nothing says of which places they are.
    """
    if counted is None:
        return rows
    copies, left = divmod(len(rows), counted.numel())
    if left or not copies:
        raise UnsupportedArchitecture(
            f"a layer was given {len(rows):,} rows of {counted.numel():,} tokens, of which not all count, and does not"
            " say which; use text of which every token is learned"
        )
    return rows[counted.flatten().repeat_interleave(copies).to(rows.device)]


def run_watched(model: Model, tokens: Tensor, handles: Iterable[RemovableHandle]) -> None:
    """Run token ids [B, L] through the blocks without gradients; the hooks are removed even if the pass fails."""
    try:
        with torch.inference_mode():
            hidden_states(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
