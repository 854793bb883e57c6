"""Forward passes of a model with hooks on its modules, in which no document of a window sees another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from flashstill.distill.models import Model, parts
from flashstill.distill.models.documents import POSITIONS, positions, separation, spans
from flashstill.errors import UnsupportedArchitecture

MOST_PADDED = 4


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


def apart(
    model: Model, tokens: Tensor, learned: Tensor | None, real: Tensor | None, starts: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """A text (token ids, places that are learned, that are no padding, that begin documents; all [B, L]) as hooks can
    watch a model read it.

    It stays as it is if the model keeps documents apart by their positions; else each becomes a row, padded on the
    right, and `starts` is None.  If padding would make it more than MOST_PADDED times as long, documents are left out,
    evenly over the text, those in which nothing is learned first.
    """
    if starts is None or not bool(starts[:, 1:].any()):
        return tokens, learned, real, None
    if separation(parts(model)) == POSITIONS:
        return tokens, learned, real, starts
    firsts, lengths = spans(starts)
    most = max(1, MOST_PADDED * tokens.numel() // int(lengths.max()))
    if len(firsts) > most and learned is not None:  # of what is read, what is learned from matters first
        counts = torch.stack([part.any() for part in torch.split(learned.flatten(), lengths.tolist())])
        firsts, lengths = firsts[counts], lengths[counts]
    if len(firsts) > most:
        evenly = torch.linspace(0, len(firsts) - 1, most).round().long()
        firsts, lengths = firsts[evenly], lengths[evenly]
    steps = torch.arange(int(lengths.max()))
    inside = steps < lengths[:, None]
    index = torch.where(inside, firsts[:, None] + steps, firsts[:, None])
    masks = [inside if mask is None else mask.flatten()[index] & inside for mask in (learned, real)]
    return tokens.flatten()[index], masks[0], masks[1], None


def states_apart(model: Model, tokens: Tensor, starts: Tensor | None) -> Tensor:
    """Final hidden states [B, L, d] of a text of `apart`."""
    inputs = {} if starts is None else {"position_ids": positions(starts)}
    return parts(model).hidden(tokens, **inputs)


def run_watched(model: Model, tokens: Tensor, handles: Iterable[RemovableHandle], starts: Tensor | None = None) -> None:
    """Run token ids [B, L] through the blocks without gradients; the hooks are removed even if the pass fails.

    starts [B, L]: as `apart` gives them."""
    try:
        with torch.inference_mode():
            states_apart(model, tokens, starts)
    finally:
        for handle in handles:
            handle.remove()
