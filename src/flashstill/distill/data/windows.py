"""Pack documents of any kind: text goes on from one window to the next, a conversation stands in one window.

With windows of "documents" a text stands in one window too: each window begins with a document, others follow as far as
they fit whole, and padding fills it.  A text that is longer than a window is cut at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from flashstill.distill.data.chats import CUT, Reading, pieces_of
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.packing import Packed, pack_pieces
from flashstill.distill.data.pieces import NO_TEXT, Piece
from flashstill.distill.data.views import View, view_of
from flashstill.errors import BadInput

STREAM, DOCUMENTS = "stream", "documents"


def packed(
    documents: Sequence[Document],
    reading: Reading,
    length: int,
    windows: int,
    most_per_text: int | None = None,
    whole: bool = False,
    kind: str = STREAM,
    views: list[View] | None = None,
) -> Packed:
    """Pack documents into at most `windows` windows of `length` targets; see `pieces_of` and `pack_pieces`.

    kind: of windows.  views: filled with the windows as teachers read them that see a system prompt of `reading`.  The
    last window of conversations is padded.  Raises BadInput if there is not one window.
    """
    kept: list[Piece] = []
    pieces = placed(pieces_of(documents, reading, length + 1, most_per_text), reading, length, kind)
    pieces = _noted(pieces, kept) if views is not None and reading.systems else pieces
    padded = whole or kind == DOCUMENTS or any(document.is_whole for document in documents)
    try:
        packing = pack_pieces(pieces, length, windows, padded)
    except BadInput:
        reading.tally.check()  # there may be no text because no record could be used
        raise
    if views is not None:
        views += [view_of(kept, which, length, packing.windows) for which in range(len(reading.systems))]
    return packing


def _noted(pieces: Iterable[Piece], kept: list[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        kept.append(piece)
        yield piece


def placed(pieces: Iterable[Piece], reading: Reading, length: int, kind: str = STREAM) -> Iterator[Piece]:
    """The pieces with padding where windows of a kind need it."""
    end = reading.tokenizer.eos_token_id
    fillers = list(dict.fromkeys(each for each in (end, 0, 1, 2) if each is not None))[:3]
    pieces = _cut(pieces, length + 1, reading) if kind == DOCUMENTS else pieces
    return whole_in_windows(pieces, length, fillers)


def _cut(pieces: Iterable[Piece], most: int, reading: Reading) -> Iterator[Piece]:
    """Texts as pieces of at most `most` tokens that no window divides."""
    for piece in pieces:
        if piece.counts is not None:
            yield piece
            continue
        if len(piece.tokens) > most:
            reading.tally.note(CUT)
        counts = np.ones(min(most, len(piece.tokens)), dtype=np.bool_)
        yield Piece(tokens=piece.tokens[:most], target_bytes=piece.target_bytes[:most], counts=counts, name=piece.name)


def whole_in_windows(pieces: Iterable[Piece], length: int, fillers: Sequence[int]) -> Iterator[Piece]:
    """The pieces with padding between them, so that a packing in windows of `length` targets cuts none of them.

    pieces: those of which a part is not learned, of at most length + 1 tokens; others are text, which goes on from one
    window to the next.  fillers: three different ids, of which padding is made.  A packing lets a
    piece begin with the token that ended the one before, if they are the same.
    """
    used, before = 0, None
    for piece in pieces:
        size = len(piece.tokens)
        if before is not None:
            is_shared = before.tokens[-1] == piece.tokens[0]
            if piece.counts is None or size <= _room(used - is_shared, length):
                used -= is_shared
            else:
                first = used + is_shared  # one token of padding parts them
                first = first if size <= _room(first, length) else -(-first // length) * length
                token = next(each for each in fillers if each not in (before.tokens[-1], piece.tokens[0]))
                before, used = _padded(before, token, first - used), first
            yield before
        used, before = used + size, piece
    if before is not None:
        yield before


def _room(first: int, length: int) -> int:
    """Tokens from place `first` to the end of its window, whose last token is the first of the next one."""
    return (first // length + 1) * length + 1 - first


def _padded(piece: Piece, token: int, count: int) -> Piece:
    """A piece with padding behind it, which is not learned."""
    counts = np.ones(len(piece.tokens), dtype=np.bool_) if piece.counts is None else piece.counts
    return Piece(
        tokens=np.pad(piece.tokens, (0, count), constant_values=token),
        target_bytes=np.pad(piece.target_bytes, (0, count), constant_values=NO_TEXT),
        counts=np.pad(counts, (0, count)),
        name=piece.name,
        seen=piece.seen,
    )
