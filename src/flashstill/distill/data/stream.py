"""Pieces one after another, as one stream of tokens that windows are cut from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.pieces import Ints, Piece


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """What a piece adds to the stream of tokens, all [n]: see Packed; starts: whether a token begins a piece."""

    tokens: Ints
    target_bytes: Ints
    target_document: Ints
    counts: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.bool_]

    def part(self, part: slice) -> Columns:
        """A part of the stream."""
        return Columns(**{each.name: getattr(self, each.name)[part] for each in dataclasses.fields(self)})

    @staticmethod
    def joined(columns: Sequence[Columns]) -> Columns:
        """Columns one after another."""
        names = [each.name for each in dataclasses.fields(Columns)]
        return Columns(**{name: np.concatenate([getattr(each, name) for each in columns]) for name in names})


def stream_of(pieces: Iterable[Piece]) -> Iterator[Columns]:
    """The pieces one after another; a token that two of them share stands once."""
    before: Columns | None = None
    for index, piece in enumerate(pieces):
        if len(piece.tokens) < 2:  # no target
            continue
        columns = _columns_of(piece, index)
        if before is not None:
            if before.tokens[-1] == columns.tokens[0]:
                before.starts[-1] = True
                columns = columns.part(slice(1, None))
            yield before
        before = columns
    if before is not None:
        yield before


def _columns_of(piece: Piece, index: int) -> Columns:
    counts = np.ones(len(piece.tokens), dtype=np.bool_) if piece.counts is None else piece.counts.copy()
    counts[0] = False
    is_text = counts & (piece.target_bytes >= 0)
    starts = np.zeros_like(counts)
    starts[0] = True
    return Columns(
        tokens=piece.tokens,
        target_bytes=np.where(is_text, piece.target_bytes, 0).astype(np.int32),
        target_document=np.where(is_text, index, -1).astype(np.int32),
        counts=counts,
        starts=starts,
    )


def padding_of(token: int, count: int) -> Columns:
    """`count` places of padding [count] that belong to no document and are not learned."""
    return Columns(
        tokens=np.full(count, token, dtype=np.int32),
        target_bytes=np.zeros(count, dtype=np.int32),
        target_document=np.full(count, -1, dtype=np.int32),
        counts=np.zeros(count, dtype=np.bool_),
        starts=np.zeros(count, dtype=np.bool_),
    )
