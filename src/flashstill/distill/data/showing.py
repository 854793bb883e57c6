"""What a data file holds, and what a student would learn of it: counts, and the first documents with their masks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from flashstill.distill.data.chats import Reading, whole_pieces
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.pieces import Piece, text_pieces
from flashstill.distill.data.rows import Unusable
from flashstill.distill.data.text import no_text, read_documents

TEXT, COMPLETION, CHAT = "text", "prompt and completion", "conversation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A run of tokens of a document that are all learned, or all only read."""

    text: str
    learned: bool
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One document as a model reads it. kind: text, prompt and completion, or conversation."""

    name: str
    kind: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What a source holds. records: counts of rows.Tally; documents: number of each kind; tokens, learned: sums over
    all documents; longest: tokens of the longest; shown: the first documents."""

    records: dict[str, Any]
    documents: dict[str, int]
    pieces: int
    tokens: int
    learned: int
    longest: int
    shown: tuple[Shown, ...]


def survey(source: str, reading: Reading, show: int, most: int) -> Survey:
    """Read at most `most` documents of a source, and keep the first `show` of them with their masks.

    Raises BadInput if the source is unreadable or too many of its records cannot be used.
    """
    kinds: dict[str, int] = {}
    shown: list[Shown] = []
    pieces = tokens = learned = longest = 0
    for document in _first(source, reading, most):
        try:
            own = _pieces(document, reading)
        except Unusable as error:
            reading.tally.good -= 1
            reading.tally.skip(document.name, str(error), error.kind)
            continue
        kind = kind_of(document)
        kinds[kind] = kinds.get(kind, 0) + 1
        for piece in own:
            pieces, tokens, longest = pieces + 1, tokens + len(piece.tokens), max(longest, len(piece.tokens))
            learned += int(_learned(piece).sum())
            if len(shown) < show:
                shown.append(Shown(name=document.name, kind=kind, parts=tuple(_parts(piece, reading.tokenizer))))
    reading.tally.check()
    if not reading.tally.read:
        raise no_text(source)
    return Survey(
        records=reading.tally.as_dict(), documents=kinds, pieces=pieces, tokens=tokens, learned=learned,
        longest=longest, shown=tuple(shown),
    )  # fmt: skip


def _pieces(document: Document, reading: Reading) -> list[Piece]:
    return whole_pieces(document, reading) if document.is_whole else list(text_pieces([document], reading.tokenizer))


def kind_of(document: Document) -> str:
    """What a document is."""
    return CHAT if document.chat is not None else COMPLETION if document.prompt_characters else TEXT


def _first(source: str, reading: Reading, most: int) -> Iterator[Document]:
    for _, document in zip(range(most), read_documents(source, reading.tally, reading.columns), strict=False):
        yield document


def _learned(piece: Piece) -> Any:
    """Which tokens count in the loss [n]; the first is never a target."""
    counts = np.ones(len(piece.tokens), dtype=np.bool_) if piece.counts is None else piece.counts.copy()
    counts[0] = False
    return counts


def _parts(piece: Piece, tokenizer: Any) -> Iterator[Part]:
    counts = _learned(piece)
    edges = [0, *(np.flatnonzero(counts[1:] != counts[:-1]) + 1).tolist(), len(counts)]
    for first, last in pairwise(edges):
        text = tokenizer.decode(piece.tokens[first:last], clean_up_tokenization_spaces=False)
        yield Part(text=text, learned=bool(counts[first]), tokens=last - first)
