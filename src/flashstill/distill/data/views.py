"""A packed text as a teacher reads it that sees a system prompt which the student does not: context distillation.

Snell, Klein and Zhong 2022, "Learning by Distilling Context": the student learns what the teacher says with a prompt,
without reading the prompt.  Per window of the student's text:

    student   [user, answer] [user, answer] ...                     L targets
    teacher   [system, user, answer] [system, user, answer] ...     more tokens
    place     the teacher's position that predicts a target of the student, -1 for targets that are not learned

Both are rendered by the chat template; the tokens that are learned are the same in both, which is checked.  Text that
is no conversation is read by the teacher as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.layouts import Chat
from flashstill.distill.data.packing import Packed
from flashstill.distill.data.pieces import Ints, Piece
from flashstill.distill.data.rows import Unusable
from flashstill.errors import BadInput
from flashstill.files import replacing

MISALIGNED = "is rendered with other answers once the teacher's system prompt stands before it"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """tokens [W, M+1]: what the teacher reads in the windows of a packed text, padded on the right; starts [W, M]:
    nonzero where an input begins a document; place [W, L]: the position in M that predicts each target, or -1."""

    tokens: Ints
    starts: Ints
    place: Ints

    @property
    def length(self) -> int:
        """Inputs of a window, M."""
        return int(self.starts.shape[1])

    @property
    def hash(self) -> str:
        """SHA-256 of everything; part of the key of signals."""
        arrays = (self.tokens, self.starts, self.place)
        return hashlib.sha256(b"".join(repr(each.shape).encode() + each.tobytes() for each in arrays)).hexdigest()

    @property
    def packed(self) -> Packed:
        """The teacher's windows as a packed text, without bytes or documents."""
        nothing = np.zeros_like(self.starts)
        return Packed(tokens=self.tokens, target_bytes=nothing, target_document=nothing - 1, starts=self.starts)

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically."""
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("tokens", "starts", "place")}
        with replacing(path) as temporary:
            save_file(arrays, temporary)

    @staticmethod
    def load(path: Path) -> View:
        """Read a file that `save` wrote; BadInput if it is damaged."""
        try:
            return View(**load_file(path))
        except (SafetensorError, TypeError, OSError) as error:
            raise BadInput(f"{path} is an incomplete file of a teacher's view; delete it and run again") from error


def prompted(chat: Chat, system: str) -> Chat:
    """A conversation with a system prompt before it; one of its own follows in the same message."""
    first = chat.messages[0]
    if first["role"] == "system":
        joined = {**first, "content": f"{system}\n\n{first['content']}"}
        messages, shift = (joined, *chat.messages[1:]), 0
    else:
        messages, shift = ({"role": "system", "content": system}, *chat.messages), 1
    answers = tuple(place + shift for place in chat.answers)
    return Chat(messages=messages, answers=answers, tools=chat.tools, arguments=chat.arguments)


def check_aligned(student: Piece, teacher: Piece) -> None:
    """Unusable unless the tokens that are learned are the same in both."""
    own, other = learned_places(student), learned_places(teacher)
    if len(own) != len(other) or not np.array_equal(student.tokens[own], teacher.tokens[other]):
        raise Unusable(MISALIGNED)


def learned_places(piece: Piece) -> npt.NDArray[np.int64]:
    """Places of the tokens of a piece that are learned; never the first."""
    counts = np.ones(len(piece.tokens), dtype=np.bool_) if piece.counts is None else piece.counts.copy()
    counts[0] = False
    return np.flatnonzero(counts)


def view_of(pieces: Iterable[Piece], which: int, length: int, windows: int) -> View:
    """The view of a packing of these pieces, in windows of `length` targets; which: of the system prompts."""
    rows = [_Row() for _ in range(windows)]
    place = np.full((windows, length), -1, dtype=np.int32)
    used, last = 0, -1
    for piece in pieces:
        if len(piece.tokens) < 2:
            continue
        first = used - 1 if piece.tokens[0] == last else used
        used, last = first + len(piece.tokens), int(piece.tokens[-1])
        targets = learned_places(piece)
        targets = targets[(first + targets - 1) // length < windows]
        if piece.seen and len(targets):
            seen = piece.seen[which]
            ends = learned_places(seen)[: len(targets)]
            begun = rows[(first + int(targets[0]) - 1) // length].add(seen.tokens[: int(ends[-1]) + 1])
            place.reshape(-1)[first + targets - 1] = begun + ends - 1
            continue
        for window in np.unique((first + targets - 1) // length).tolist():
            inside = targets[(first + targets - 1) // length == window]
            begin = max(0, window * length - first)  # the first input of the piece in this window
            begun = rows[window].add(piece.tokens[begin : int(inside[-1]) + 1])
            place.reshape(-1)[first + inside - 1] = begun + inside - begin - 1
    return _padded(rows, place)


class _Row:
    """The documents of one window of a teacher."""

    def __init__(self) -> None:
        self.tokens: list[Ints] = []
        self.begins: list[int] = []
        self.size = 0

    def add(self, tokens: Ints) -> int:
        """Append a document; returns its place in the window."""
        begun = self.size
        self.tokens.append(tokens)
        self.begins.append(begun)
        self.size += len(tokens)
        return begun


def _padded(rows: Sequence[_Row], place: Ints) -> View:
    longest = max(2, *(row.size for row in rows))
    tokens = np.zeros((len(rows), longest), dtype=np.int32)
    starts = np.zeros((len(rows), longest), dtype=np.int32)
    for window, row in enumerate(rows):
        if row.tokens:
            tokens[window, : row.size] = np.concatenate(row.tokens)
        starts[window, [0, *row.begins, row.size if row.size < longest else 0]] = 1  # padding is a document too
    return View(tokens=tokens, starts=starts[:, :-1], place=place)


def joined_views(views: Sequence[View]) -> View:
    """The views of packings that are joined one after another."""
    longest = max(view.tokens.shape[1] for view in views)

    def wider(array: Ints, size: int) -> Ints:
        return np.pad(array, ((0, 0), (0, size - array.shape[1])))

    return View(
        tokens=np.concatenate([wider(view.tokens, longest) for view in views]),
        starts=np.concatenate([wider(view.starts, longest - 1) for view in views]),
        place=np.concatenate([view.place for view in views]),
    )
