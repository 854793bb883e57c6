"""Conversations, and prompts with completions, as pieces: the tokens that a model reads, and which of them are learned.

A token is learned if any of its characters was written by the assistant.  Special tokens, such as the one that ends a
turn, and the white space behind it are learned but are no text: evaluation leaves them out of bits per byte.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.layouts import Columns, Document
from flashstill.distill.data.messages import SAID
from flashstill.distill.data.pieces import (
    NO_TEXT,
    Piece,
    framed,
    framing_of,
    is_panic,
    text_bytes,
    text_pieces,
    unreadable,
)
from flashstill.distill.data.rows import Tally, Unusable
from flashstill.distill.data.templates import Rendered, Renderer, special_ids
from flashstill.distill.data.views import MISALIGNED, check_aligned, prompted
from flashstill.errors import BadInput

CUT, DROPPED = "longer than a window: cut at the end", "longer than a window: left out"
APART = "one piece for each answer, as the chat template rewrites earlier turns"
ENDLESS = "no special token ends an answer, so that a student does not learn where to stop"
EMPTY = "an answer is empty, and a student learns to say nothing there"
TOO_LONG = "is longer than a window before its first answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How conversations are read. renderer: of the chat template, None if there is none; named: the tokenizer, for
    messages; learn: "assistant", "last" or "all"; long: "cut" or "drop" what is longer than a window; systems: prompts
    that only teachers see; columns: names of the entries of a record; known: ids that a model of the run has not, from
    here on, and its name in messages; tally: counts what could not be used."""

    tokenizer: Any
    renderer: Renderer | None = None
    named: str = "the model"
    learn: str = "assistant"
    long: str = "cut"
    systems: tuple[str, ...] = ()
    columns: Columns = field(default_factory=Columns)
    known: tuple[int, str] | None = None
    tally: Tally = field(default_factory=Tally)


def pieces_of(
    documents: Iterable[Document], reading: Reading, most_tokens: int, most_per_text: int | None = None
) -> Iterator[Piece]:
    """Documents of any kind as pieces. most_tokens: of a conversation; most_per_text: of a text, from its middle.

    Conversations that cannot be used are counted in the tally, which the caller checks at the end.  Raises BadInput at
    the first token that a model of the run does not know.
    """
    for piece in _pieces_of(documents, reading, most_tokens, most_per_text):
        if reading.known:
            for tokens in (piece.tokens, *(seen.tokens for seen in piece.seen)):
                check_known(tokens, *reading.known, reading.tokenizer, piece.name)
        yield piece


def check_known(tokens: npt.NDArray[Any], known: int, who: str, tokenizer: Any, where: str) -> None:
    """BadInput if tokens hold an id that a model does not know. known: number of its ids; who: its name; where: of the
    text, for messages."""
    largest = int(tokens.max(initial=0))
    if largest >= known:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise BadInput(
            f"{where} holds token {token!r}, which has the id {largest:,}, but {who} knows only {known:,} tokens: leave"
            " such texts out, or give the tokenizer that goes with the model"
        )


def _pieces_of(
    documents: Iterable[Document], reading: Reading, most_tokens: int, most_per_text: int | None
) -> Iterator[Piece]:
    for is_whole, group in itertools.groupby(documents, key=lambda document: document.is_whole):
        if not is_whole:
            yield from text_pieces(group, reading.tokenizer, most_per_text)
            continue
        for document in group:
            try:
                yield from _fitted(whole_pieces(document, reading), most_tokens, reading)
            except Unusable as error:
                reading.tally.good -= 1
                reading.tally.skip(document.name, str(error), error.kind)


def whole_pieces(document: Document, reading: Reading) -> list[Piece]:
    """The pieces of a conversation or a prompt with its completion, of any length; Unusable says why there are none."""
    if document.chat is None:
        return [_completed(document, reading)]
    if reading.renderer is None:
        raise BadInput(
            f"{document.name} is a conversation, but the tokenizer of {reading.named} has no chat template; name a file"
            " with one as chat.template"
        )
    texts, is_apart = reading.renderer.texts(document.chat, reading.learn)
    if is_apart:
        reading.tally.note(APART)
    if texts[0].note:
        reading.tally.note(texts[0].note)
    if any(_is_empty(document.chat.messages[place]) for place in document.chat.answers):
        reading.tally.note(EMPTY)
    pieces = [rendered_piece(text, reading.tokenizer, document.name) for text in texts]
    if not all(_ends(piece, reading.tokenizer) for piece in pieces):
        reading.tally.note(ENDLESS)
    return [_with_seen(pieces, document, reading, place) for place in range(len(pieces))] if reading.systems else pieces


def _is_empty(message: Mapping[str, Any]) -> bool:
    return not any(message.get(key) for key in SAID) and not message["content"].strip()


def _with_seen(pieces: Sequence[Piece], document: Document, reading: Reading, place: int) -> Piece:
    """One of the pieces of a conversation, with itself as teachers read it; Unusable if they do not align."""
    assert document.chat is not None
    assert reading.renderer is not None
    seen = []
    for system in reading.systems:
        texts, _ = reading.renderer.texts(prompted(document.chat, system), reading.learn)
        if len(texts) != len(pieces):
            raise Unusable(MISALIGNED)
        seen.append(rendered_piece(texts[place], reading.tokenizer, document.name))
        check_aligned(pieces[place], seen[-1])
    return dataclasses.replace(pieces[place], seen=tuple(seen))


def rendered_piece(rendered: Rendered, tokenizer: Any, name: str) -> Piece:
    """The piece of a rendered conversation; Unusable if nothing of it is learned."""
    ids, offsets, widths = _encoded(rendered.text, tokenizer, name)
    counts = _inside(offsets, rendered.spans)
    if not counts.any():
        raise Unusable("has no token of an answer in it")
    special = np.isin(ids, list(special_ids(tokenizer)))
    bytes_of = np.where(special | _behind(special, counts, rendered.text, offsets), NO_TEXT, widths)
    return Piece(tokens=ids, target_bytes=bytes_of.astype(np.int32), counts=counts, name=name)


def _ends(piece: Piece, tokenizer: Any) -> bool:
    """Whether a special token stands at the end of the last answer."""
    assert piece.counts is not None
    last = int(np.flatnonzero(piece.counts)[-1])
    return bool(np.isin(piece.tokens[max(0, last - 3) : last + 1], list(special_ids(tokenizer))).any())


def _completed(document: Document, reading: Reading) -> Piece:
    """A prompt and its completion, framed like a text; the end-of-text token is learned."""
    ids, offsets, widths = _encoded(document.text, reading.tokenizer, document.name)
    framing = framing_of(reading.tokenizer)
    piece = framed(ids.tolist(), widths.tolist(), framing, document.name)
    begin = 0 if reading.learn == "all" else document.prompt_characters
    learned = _inside(offsets, ((begin, len(document.text)),))
    counts = np.concatenate([np.zeros(len(framing.start), dtype=np.bool_), learned, np.ones(1, dtype=np.bool_)])
    return Piece(tokens=piece.tokens, target_bytes=piece.target_bytes, counts=counts, name=document.name)


def _encoded(text: str, tokenizer: Any, name: str) -> tuple[Any, list[tuple[int, int]], Any]:
    """Ids [n], spans of characters, and UTF-8 bytes [n] of the tokens of a text."""
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    except BaseException as error:
        if not is_panic(error):
            raise
        raise unreadable(name) from error
    offsets = encoded["offset_mapping"]
    return (
        np.asarray(encoded["input_ids"], dtype=np.int32),
        offsets,
        np.asarray(text_bytes(text, offsets), dtype=np.int32),
    )


def _inside(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Which tokens have a character within one of the spans."""
    first, last = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    inside = np.zeros(len(first), dtype=np.bool_)
    for begin, end in spans:
        inside |= (first < end) & (last > begin)
    return inside


def _behind(
    special: npt.NDArray[np.bool_], counts: npt.NDArray[np.bool_], text: str, offsets: Sequence[tuple[int, int]]
) -> npt.NDArray[np.bool_]:
    """Which learned tokens are white space between a special token and the end of what is learned."""
    behind = np.zeros(len(counts), dtype=np.bool_)
    for place in np.flatnonzero(counts & ~special).tolist():
        if place and (special[place - 1] or behind[place - 1]) and counts[place - 1]:
            first, last = offsets[place]
            is_last = place + 1 == len(counts) or not counts[place + 1] or text[last : last + 1].isspace()
            behind[place] = is_last and not text[first:last].strip()
    return behind


def _fitted(pieces: Sequence[Piece], most: int, reading: Reading) -> Iterator[Piece]:
    """Pieces of at most `most` tokens; longer ones are cut at the end, or left out, and counted."""
    fits = [piece for piece in pieces if len(piece.tokens) <= most]
    if len(fits) < len(pieces) and reading.long == "drop":
        reading.tally.note(DROPPED)
        yield from fits
        return
    learned = 0
    for piece in pieces:
        cut = piece.counts is not None and len(piece.tokens) > most
        if cut:
            reading.tally.note(CUT)
        counts = None if piece.counts is None else piece.counts[:most]
        if counts is None or counts[1:].any():
            learned += 1
            tokens, target_bytes = piece.tokens[:most], piece.target_bytes[:most]
            yield dataclasses.replace(piece, tokens=tokens, target_bytes=target_bytes, counts=counts)
    if not learned:
        raise Unusable(TOO_LONG)
