"""Pieces: documents as the tokens that a model sees of them.  Text and chats both become pieces, which are then packed.

    text    start + tokens of the text + end

start: what the tokenizer puts before a text (Llama 3 and Gemma: BOS); the end-of-text token where it puts nothing, so
that the first token of a text is predicted as well.  end: the end-of-text token.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.text_files import Document
from flashstill.distill.data.widths import token_bytes
from flashstill.errors import BadInput

Ints = npt.NDArray[np.int32]
NO_TEXT = -1
"""in `target_bytes`: a token that is no text, such as the end-of-text token, and that evaluation leaves out"""
BATCH_CHARACTERS = 2**19
"""encoded at a time; encodings take some hundred bytes a token"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One document of n tokens, complete from its first one, before which a model sees nothing.

    tokens [n]: ids; the first is never a target.  target_bytes [n]: UTF-8 bytes of text that each token adds, or
    NO_TEXT.  counts [n]: whether a token counts in the loss when it is the target; None if all do.  name: of the
    document, for error messages.  seen: the document as teachers read it that see a system prompt (views.py).
    """

    tokens: Ints
    target_bytes: Ints
    counts: npt.NDArray[np.bool_] | None = None
    name: str = ""
    seen: tuple[Piece, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """start: ids before the tokens of every text; end: the id after them."""

    start: tuple[int, ...]
    end: int


def framing_of(tokenizer: Any) -> Framing:
    """How a fast Hugging Face tokenizer begins and ends a text; BadInput if it names no end-of-text token."""
    end = tokenizer.eos_token_id
    if end is None:
        raise BadInput("the model's tokenizer names no end-of-text token (eos_token)")
    encoded = tokenizer("a", add_special_tokens=True, return_special_tokens_mask=True, verbose=False)
    special = [*encoded["special_tokens_mask"], 0]
    return Framing(start=tuple(encoded["input_ids"][: special.index(0)]) or (end,), end=end)


def text_pieces(documents: Iterable[Document], tokenizer: Any, most_per_document: int | None = None) -> Iterator[Piece]:
    """Each document of text as a piece.

    most_per_document: take at most this many tokens, from the middle of each document, so that a small sample covers
    many documents.
    """
    framing = framing_of(tokenizer)
    for document, ids, widths in _encoded(documents, tokenizer):
        span = _middle(len(widths), most_per_document)
        yield framed(ids[span], widths[span], framing, document.name)


def framed(ids: Sequence[int] | Ints, widths: Sequence[int] | Ints, framing: Framing, name: str) -> Piece:
    """The piece of a text, from its tokens and their bytes."""
    first, count = len(framing.start), len(framing.start) + len(ids) + 1
    tokens, target_bytes = np.empty(count, dtype=np.int32), np.full(count, NO_TEXT, dtype=np.int32)
    tokens[:first], tokens[first:-1], tokens[-1] = framing.start, ids, framing.end
    target_bytes[first:-1] = widths
    return Piece(tokens=tokens, target_bytes=target_bytes, name=name)


_KNOWN: WeakKeyDictionary[Any, tuple[Any, Ints]] = WeakKeyDictionary()


def _rules_of(tokenizer: Any) -> tuple[Any, Ints]:
    """The library's tokenizer, a copy that other calls do not change, and the bytes of its tokens."""
    if tokenizer not in _KNOWN:
        rules = copy.deepcopy(tokenizer.backend_tokenizer)
        rules.no_truncation()
        rules.no_padding()
        _KNOWN[tokenizer] = rules, token_bytes(rules)
    return _KNOWN[tokenizer]


def _encoded(documents: Iterable[Document], tokenizer: Any) -> Iterator[tuple[Document, Ints, Ints]]:
    """Each document with its ids and their bytes. The library's threads encode one batch while the one before is used.

    The bytes of a token are those of the vocabulary if they add up to the document's, else those of its characters.
    """
    rules, sizes = _rules_of(tokenizer)
    for document, encoding in _encodings(documents, rules):
        ids = np.array(encoding.ids, dtype=np.int32)
        widths: Ints = sizes[ids]
        if int(widths.sum()) != len(document.text.encode()):
            slow = rules.encode(document.text, add_special_tokens=False)
            widths = np.asarray(text_bytes(document.text, slow.offsets), dtype=np.int32)
        yield document, ids, widths


def _encodings(documents: Iterable[Document], rules: Any) -> Iterator[tuple[Document, Any]]:
    with ThreadPoolExecutor(1) as ahead, parallel():
        pending: tuple[list[Document], Future[list[Any]]] | None = None
        for batch in _batches(documents):
            coming = batch, ahead.submit(_encoded_batch, rules, batch)
            if pending is not None:
                yield from zip(pending[0], pending[1].result(), strict=True)
            pending = coming
        if pending is not None:
            yield from zip(pending[0], pending[1].result(), strict=True)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encoded_batch(rules: Any, batch: Sequence[Document]) -> list[Any]:
    try:
        encodings: list[Any] = rules.encode_batch_fast([document.text for document in batch], add_special_tokens=False)
    except BaseException as error:
        if not is_panic(error):
            raise
        if len(batch) > 1:  # which of them is it?
            return [encoding for document in batch for encoding in _encoded_batch(rules, [document])]
        raise unreadable(batch[0].name) from error
    return encodings


def is_panic(error: BaseException) -> bool:
    """Whether an error is a Rust panic of the tokenizers library, which is a BaseException."""
    return type(error).__name__ == "PanicException"


def unreadable(name: str) -> BadInput:
    """The error of a document on which the tokenizers library panics."""
    return BadInput(f"the tokenizer cannot read {name}: its rules backtrack without end")


@contextmanager
def parallel() -> Iterator[None]:
    """Context in which the tokenizers library uses all processors (it looks at this variable in every call)."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        os.environ["TOKENIZERS_PARALLELISM"] = before if before is not None else "false"


def _middle(count: int, most: int | None) -> slice:
    if most is None or count <= most:
        return slice(0, count)
    start = (count - most) // 2
    return slice(start, start + most)


def text_bytes(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """UTF-8 bytes that each token adds; the sum is exact even if one character is split over several tokens.

    offsets: first and last character of each token in `text`.
    """
    ends = np.asarray([end for _, end in offsets], dtype=np.int64)
    if not text.isascii():
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        width = np.cumsum(1 + (codes >= 0x80) + (codes >= 0x800).astype(np.int64) + (codes >= 0x10000))
        ends = np.concatenate([[0], width])[ends]
    ends = np.maximum.accumulate(ends) if len(ends) else ends
    sizes: list[int] = np.diff(ends, prepend=0).tolist()
    return sizes
