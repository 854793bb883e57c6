"""On which text the parts of a student are chosen, and which blocks are dropped first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flashstill.errors import BadInput
from flashstill.files import write_text
from flashstill.progress import Progress
from flashstill.recipes import SearchRecipe
from flashstill.runs import kept

if TYPE_CHECKING:
    from flashstill.distill.data.packing import Packed
    from flashstill.distill.models.shallower import InexpressibleLayers


def spread(packed: Packed, count: int) -> tuple[Any, Any, Any, Any]:
    """Token ids [B, L] of at most `count` windows, evenly spaced over those in which something is learned; the places
    [B, L] whose targets are learned, and those that are no padding; None if all are; and those that begin documents,
    None if each window is one."""
    import torch

    evenly = _evenly(packed.windows, count)
    if packed.target_mask is None:
        return torch.from_numpy(packed.tokens[evenly, :-1].astype(np.int64)), None, None, _starts(packed, evenly)
    learned = packed.mask_of(evenly).any(axis=1)
    if not learned.all():  # conversations may ask more than they answer
        known = np.flatnonzero(packed.mask.any(axis=1))
        if not len(known):
            raise BadInput("no target of the training text is learned; look at chat.learn and at the data")
        evenly = known[_evenly(len(known), count)]
    tokens = torch.from_numpy(packed.tokens[evenly, :-1].astype(np.int64))
    mask = packed.mask_of(evenly)
    used = torch.from_numpy(_used(mask, packed.starts, evenly))
    return tokens, torch.from_numpy(mask), used, _starts(packed, evenly)


def _starts(packed: Packed, windows: Any) -> Any:
    import torch

    return None if packed.starts is None else torch.from_numpy(packed.starts[windows] != 0)


def _used(mask: Any, starts: Any, windows: Any) -> Any:
    """[B, L]: the places that a learned target of their document is predicted from, which padding behind it is not, nor
    an end of which nothing is learned. mask [B, L]: learned targets; starts [W, L]: of documents, None for whole rows.
    """
    begins = np.zeros(mask.shape, dtype=np.int64) if starts is None else (starts[windows] != 0).astype(np.int64)
    begins[:, 0] = 1
    document = np.cumsum(begins.ravel()).reshape(mask.shape)  # rows of their own
    places = np.broadcast_to(np.arange(mask.shape[1]), mask.shape)
    last = np.full(int(document.max()) + 1, -1)
    np.maximum.at(last, document[mask], places[mask])
    return places <= last[document]


def _evenly(available: int, count: int) -> Any:
    return np.linspace(0, available - 1, min(count, available)).round().astype(np.int64)


def drops(
    search: SearchRecipe,
    teacher: Any,
    tokens: Any,
    learned: Any,
    count: int,
    record: Path,
    progress: Progress,
    starts: Any = None,
) -> list[int]:
    """The teacher's blocks in drop order, at least the first `count`; stored in the file `record`."""
    from flashstill.distill.models import decoder_layers
    from flashstill.distill.students import greedy_drops, order_by_influence

    if not record.exists():
        depth = len(decoder_layers(teacher))
        by_influence = order_by_influence(teacher, tokens, learned, starts)
        if search.method == "greedy":
            _ask_first(teacher, by_influence, depth - count)
            dropped = greedy_drops(
                teacher, tokens, count, search.candidates, progress, learned,
                lambda kept: not _unsayable(teacher, kept), starts,
            )  # fmt: skip
        else:
            dropped = by_influence[:count]
        write_text(record, json.dumps({"depth": depth, "method": search.method, "drops": dropped}))
    order = kept.search(record)
    if len(order.drops) < count:
        raise BadInput(f"{record} names {len(order.drops)} blocks to drop, but {count} are needed; delete it")
    return list(order.drops)


def _ask_first(teacher: Any, order: list[int], keep: int) -> None:
    """UnsupportedArchitecture before the search if the configuration can say no choice of so many layers."""
    from flashstill.distill.students import kept_blocks

    error = _unsayable(teacher, kept_blocks(len(order), order, keep))
    if error is not None and not error.nearest:
        raise error


def _unsayable(teacher: Any, kept: list[int]) -> InexpressibleLayers | None:
    """What is wrong with a configuration in which only these layers remain."""
    from flashstill.distill.models.shallower import InexpressibleLayers, shallower_config

    try:
        shallower_config(teacher, kept)
    except InexpressibleLayers as error:
        return error
    return None
