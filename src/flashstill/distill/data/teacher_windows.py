"""The text of a packing in the tokens of a teacher with another tokenizer: one row a window, and the spans in both.

A row begins with the teacher's token that ends where the window's first token ends (or at the nearest cut behind it)
and goes to the last cut in the window, so that both models read the same text.  With one tokenizer a row is the window.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.alignment import Numbers, cuts, token_ends
from flashstill.distill.data.layouts import Document
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.pieces import NO_TEXT, text_pieces
from flashstill.distill.data.token_bytes import token_bytes
from flashstill.errors import BadInput
from flashstill.files import replacing

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanNotes:
    """Counts of an alignment, for the user. inexact: documents that the tokens of one side do not spell."""

    spans: int
    single: int
    student_tokens: int
    unaligned_tokens: int
    documents: int
    inexact: int

    def __str__(self) -> str:
        share, edge = self.single / max(1, self.spans), self.unaligned_tokens / max(1, self.student_tokens)
        inexact = (
            f"; {self.inexact:,} of {self.documents:,} documents are aligned by characters" if self.inexact else ""
        )
        return (
            f"{self.spans:,} spans, {share:.0%} of one token on both sides; {edge:.1%} of the tokens in none{inexact}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherWindows:
    """packed: the teacher's rows [W, M]; targets in no span do not count in it.

    student_span [W, L], teacher_span [W, M]: number of the span of each target in its window, or -1.
    """

    packed: Packed
    student_span: Ints
    teacher_span: Ints

    def save(self, rows: Path, spans: Path) -> None:
        """Write two safetensors files; the spans last."""
        self.packed.save(rows)
        with replacing(spans) as temporary:
            save_file({"student": self.student_span, "teacher": self.teacher_span}, temporary)

    @staticmethod
    def load(rows: Path, spans: Path) -> TeacherWindows:
        """Read what `save` wrote; BadInput if it is damaged."""
        packed = Packed.load(rows)
        try:
            arrays = load_file(spans)
            found = TeacherWindows(packed=packed, student_span=arrays["student"], teacher_span=arrays["teacher"])
        except (SafetensorError, KeyError, OSError) as error:
            raise BadInput(f"{spans} is an incomplete file of spans; delete it and run again") from error
        return found


@dataclass(kw_only=True)
class _Stream:
    """The teacher's tokens of all documents so far, and the spans: first and last token before and of each, on both
    sides (s0 < s1 in the student's stream, t0 < t1 in the teacher's), and where its row begins."""

    tokens: list[Ints]
    widths: list[Ints]
    owners: list[Ints]
    begins: list[int]
    spans: list[npt.NDArray[np.int64]]
    count: int = 0
    inexact: int = 0
    last: int = -1


def teacher_windows(
    packed: Packed, documents: Sequence[Document], student: Any, teacher: Any
) -> tuple[TeacherWindows, SpanNotes]:
    """Align a packing of plain text with the teacher's tokens of the same documents, in which it numbers them.

    student, teacher: their tokenizers.  Raises BadInput for conversations, whose templates differ between models.
    """
    if any(document.is_whole for document in documents):
        raise BadInput("align = spans reads plain text; conversations and prompts look different to another model")
    tables = token_bytes(student), token_bytes(teacher)
    flat = np.concatenate([packed.tokens[:, :-1].ravel(), packed.tokens[-1:, -1]])
    owner = np.concatenate([[-1], packed.target_document.ravel()])
    widths = np.concatenate([[0], packed.target_bytes.ravel()])
    places = np.flatnonzero(owner >= 0)
    groups = np.split(places, np.flatnonzero(np.diff(owner[places])) + 1) if len(places) else []
    stream = _Stream(tokens=[], widths=[], owners=[], begins=[], spans=[])
    for group in groups:
        document = documents[int(owner[group[0]])]
        _add(stream, document, int(owner[group[0]]), flat, widths, group, teacher, tables)
    spans = np.concatenate(stream.spans) if stream.spans else np.empty((0, 5), dtype=np.int64)
    return _rows(packed, stream, spans, len(groups))


def _add(
    stream: _Stream,
    document: Document,
    number: int,
    flat: Ints,
    widths: Ints,
    group: Numbers,
    teacher: Any,
    tables: Any,
) -> None:
    """Add the teacher's tokens of a document to the stream, and its spans."""
    (piece,) = text_pieces([document], teacher)
    starts = int(np.flatnonzero(piece.target_bytes != NO_TEXT)[0]) if (piece.target_bytes != NO_TEXT).any() else -1
    if starts < 0:
        return
    is_shared = starts == 1 and stream.last == piece.tokens[0]
    ids = piece.tokens[1:] if is_shared else piece.tokens
    begin = stream.count - 1 if is_shared else stream.count
    first = begin + starts  # of the text, in the stream
    size = len(piece.tokens) - starts - 1
    text, first_place = document.text.encode(errors="replace"), int(group[0])
    ours = token_ends(tables[0], flat[group].tolist(), widths[group].tolist(), text)
    theirs = token_ends(tables[1], piece.tokens[starts:-1].tolist(), piece.target_bytes[starts:-1].tolist(), text)
    stream.inexact += not (ours.is_exact and theirs.is_exact)
    is_whole = int(group[-1]) + 1 < len(flat)
    own, other = cuts(ours.ends, theirs.ends, is_whole, ours.is_exact and theirs.is_exact)
    own, other = own + first_place, other + first
    if is_whole and len(own):  # the end-of-text tokens
        own, other = np.append(own, int(group[-1]) + 1), np.append(other, first + size)
    before_own, before_other = np.append(first_place - 1, own[:-1]), np.append(first - 1, other[:-1])
    row_begins = before_other.copy()
    row_begins[:1] = begin
    if len(own):
        stream.spans.append(np.stack([before_own, own, before_other, other, row_begins], axis=-1).astype(np.int64))
    stream.begins.append(begin)
    stream.tokens.append(ids)
    stream.widths.append(np.maximum(piece.target_bytes[len(piece.tokens) - len(ids) :], 0).astype(np.int32))
    stream.owners.append(np.where(piece.target_bytes[len(piece.tokens) - len(ids) :] >= 0, number, -1).astype(np.int32))
    stream.count += len(ids)
    stream.last = int(piece.tokens[-1])


def _rows(packed: Packed, stream: _Stream, spans: Numbers, documents: int) -> tuple[TeacherWindows, SpanNotes]:
    """Cut the teacher's stream into a row for every window, and number the spans in it."""
    length, windows = packed.length, packed.windows
    window = spans[:, 0] // length
    inside = (spans[:, 1] <= (window + 1) * length) & (window < windows)
    spans, window = spans[inside], window[inside]
    tokens = np.concatenate(stream.tokens) if stream.tokens else np.zeros(1, dtype=np.int32)
    widths = np.concatenate(stream.widths) if stream.widths else np.zeros(1, dtype=np.int32)
    owners = np.concatenate(stream.owners) if stream.owners else np.full(1, -1, dtype=np.int32)
    is_begin = np.zeros(len(tokens) + 1, dtype=np.int32)
    is_begin[stream.begins] = 1
    edges = np.searchsorted(window, np.arange(windows + 1))
    sizes = [int(spans[stop - 1, 3] - spans[first, 4]) for first, stop in itertools.pairwise(edges) if stop > first]
    most = max(sizes, default=1)
    rows = np.full((windows, most + 1), int(tokens[-1]), dtype=np.int32)
    starts = np.zeros((windows, most), dtype=np.int32)
    target_bytes, target_document = (
        np.zeros((windows, most), dtype=np.int32),
        np.full((windows, most), -1, dtype=np.int32),
    )
    own_span, other_span = np.full((windows, length), -1, dtype=np.int32), np.full((windows, most), -1, dtype=np.int32)
    for place in range(windows):
        first, stop = int(edges[place]), int(edges[place + 1])
        if stop == first:
            continue
        begin, end = int(spans[first, 4]), int(spans[stop - 1, 3])
        size = end - begin
        rows[place, : size + 1] = tokens[begin : end + 1]
        starts[place, :size] = is_begin[begin:end]
        for number, (s0, s1, t0, t1, _) in enumerate(spans[first:stop]):
            own_span[place, s0 - place * length : s1 - place * length] = number
            other_span[place, t0 - begin : t1 - begin] = number
        used = other_span[place, :size] >= 0
        target_bytes[place, :size] = np.where(used, widths[begin + 1 : end + 1], 0)
        target_document[place, :size] = np.where(used, owners[begin + 1 : end + 1], -1)
        if size < most:
            starts[place, size] = 1  # padding is a document of its own
    is_single = (spans[:, 1] - spans[:, 0] == 1) & (spans[:, 3] - spans[:, 2] == 1)
    teacher = Packed(
        tokens=rows, target_bytes=target_bytes, target_document=target_document,
        target_mask=(other_span >= 0).astype(np.int32), starts=starts,
    )  # fmt: skip
    counted = packed.mask
    notes = SpanNotes(
        spans=len(spans), single=int(is_single.sum()), student_tokens=int(counted.sum()),
        unaligned_tokens=int((counted & (own_span < 0)).sum()), documents=documents, inexact=stream.inexact,
    )  # fmt: skip
    return TeacherWindows(packed=teacher, student_span=own_span, teacher_span=other_span), notes
