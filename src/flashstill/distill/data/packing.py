"""Packing: turn documents into fixed-length windows of tokens.

Documents (pieces.py) are concatenated and cut into windows of L+1 tokens.  Consecutive windows share one token, so
every token is a target once:  inputs = tokens[:, :L],  targets = tokens[:, 1:].
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.pieces import Ints, Piece, text_pieces
from flashstill.distill.data.stream import Columns, padding_of, stream_of
from flashstill.distill.data.text_files import Document
from flashstill.errors import BadInput
from flashstill.files import replacing


class TooShort(BadInput):
    """The pieces do not fill one window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """W windows of L targets each.

    tokens [W, L+1]: token ids.  target_bytes [W, L]: UTF-8 bytes of each target (0 for a separator).
    target_document [W, L]: index of the target's document (-1 for a separator).  target_mask [W, L]: 1 where the target
    counts in the loss; None if all count.  window_group [W]: index of the packing that a window came from (`joined`).
    starts [W, L]: 1 where an input begins a document, which sees nothing before it; None in files of earlier versions,
    where the documents of a window see each other.  known_hash: of arrays that are not in memory (stored.py).
    """

    tokens: Ints
    target_bytes: Ints
    target_document: Ints
    target_mask: Ints | None = None
    window_group: Ints | None = None
    starts: Ints | None = None
    known_hash: str = ""

    @property
    def windows(self) -> int:
        return int(self.tokens.shape[0])

    @property
    def length(self) -> int:
        return int(self.tokens.shape[1]) - 1

    @property
    def token_count(self) -> int:
        """Number of targets, W * L: the token count that training and evaluation report."""
        return self.windows * self.length

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[W, L]: True where the target counts in the loss."""
        return self.mask_of(np.arange(self.windows))

    def mask_of(self, windows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """[len(windows), L]: the mask of some windows."""
        if self.target_mask is None:
            return np.ones((len(windows), self.length), dtype=np.bool_)
        return self.target_mask[windows].astype(np.bool_)

    def documents_in(self, window: int) -> list[slice]:
        """The inputs of each document in a window; all inputs where documents see each other."""
        begins = [] if self.starts is None else (np.flatnonzero(self.starts[window, 1:]) + 1).tolist()
        return [slice(first, stop) for first, stop in itertools.pairwise([0, *begins, self.length])]

    @property
    def hash(self) -> str:
        """SHA-256 of shape, tokens and document starts: what a model's outputs depend on; part of the key of cached
        teacher outputs."""
        if self.known_hash:
            return self.known_hash
        if self.starts is None:
            return hashlib.sha256(repr(self.tokens.shape).encode() + self.tokens.tobytes()).hexdigest()
        arrays = [np.ascontiguousarray(array, dtype=np.int32) for array in (self.tokens, self.starts)]
        return hash_of(self.tokens.shape, *(hashlib.sha256(array.tobytes()).hexdigest() for array in arrays))

    def first(self, windows: int) -> Packed:
        """A packing of only the first `windows` windows."""
        return self.taken(slice(windows))

    def taken(self, rows: slice | npt.NDArray[np.int64]) -> Packed:
        """A packing of some windows."""
        names = ("tokens", "target_bytes", "target_document", "target_mask", "window_group", "starts")
        arrays: dict[str, Any] = {name: getattr(self, name) for name in names}
        taken: dict[str, Any] = {name: None if array is None else array[rows] for name, array in arrays.items()}
        return Packed(**taken)

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically."""
        arrays = {
            "tokens": np.ascontiguousarray(self.tokens),
            "target_bytes": np.ascontiguousarray(self.target_bytes),
            "target_document": np.ascontiguousarray(self.target_document),
        }
        optional = {"target_mask": self.target_mask, "window_group": self.window_group, "starts": self.starts}
        arrays |= {name: np.ascontiguousarray(array) for name, array in optional.items() if array is not None}
        with replacing(path) as temporary:
            save_file(arrays, temporary)

    @staticmethod
    def load(path: Path) -> Packed:
        """Read a file that `save` or `write_packing` (stored.py) wrote; BadInput if it is damaged."""
        if path.suffix == ".npy":
            return opened(path)
        try:
            arrays: dict[str, Any] = load_file(path)
            return Packed(**arrays)
        except (SafetensorError, TypeError, OSError) as error:
            raise BadInput(f"{path} is an incomplete packing file; delete it and run again") from error


def record_of(length: int) -> np.dtype[Any]:
    """The layout of a window of `length` targets in a file of windows."""
    return np.dtype([
        ("tokens", "<i4", (length + 1,)), ("target_bytes", "<u2", (length,)), ("target_document", "<i4", (length,)),
        ("counts", "u1", (length,)), ("starts", "u1", (length,)),
    ])  # fmt: skip


def opened(path: Path) -> Packed:
    """A packing whose arrays stay on the disk (stored.py)."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        rows: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if rows.dtype != record_of(rows.dtype["tokens"].shape[0] - 1) or len(rows) != about["windows"]:
            raise ValueError("not as its description says")
        digest = str(about["hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is an incomplete packing file; delete it and run again") from error
    return Packed(
        tokens=rows["tokens"], target_bytes=rows["target_bytes"], target_document=rows["target_document"],
        target_mask=rows["counts"], starts=rows["starts"], known_hash=digest,
    )  # fmt: skip


def hash_of(shape: tuple[int, ...], tokens: str, starts: str) -> str:
    """The hash of a packing, from the shape of its tokens and the SHA-256 of tokens and of starts, as int32."""
    return hashlib.sha256(f"{tuple(map(int, shape))} {tokens} {starts}".encode()).hexdigest()


def joined(parts: Sequence[Packed]) -> Packed:
    """Concatenate packings of equal window length; `window_group` records which packing each window came from."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(int(part.target_document.max()) + 1 for part in parts)])
    owners = [part.target_document for part in parts]
    documents = [np.where(own < 0, -1, own + first) for own, first in zip(owners, before, strict=False)]
    return Packed(
        tokens=np.concatenate([part.tokens for part in parts]),
        target_bytes=np.concatenate([part.target_bytes for part in parts]),
        target_document=np.concatenate(documents).astype(np.int32),
        target_mask=np.concatenate([part.mask for part in parts]).astype(np.int32),
        window_group=np.repeat(np.arange(len(parts)), [part.windows for part in parts]).astype(np.int32),
        starts=_joined_starts(parts),
    )


def _joined_starts(parts: Sequence[Packed]) -> Ints | None:
    if all(part.starts is None for part in parts):
        return None
    whole = [np.zeros((part.windows, part.length)) if part.starts is None else part.starts for part in parts]
    return np.concatenate(whole).astype(np.int32)


def joined_rows(parts: Sequence[Packed], padding: int) -> Packed:
    """Concatenate packings of different window lengths, right-padding with token `padding`; padding is masked out."""
    length = max(part.length for part in parts)

    def wider(array: Ints, filling: int) -> Ints:
        return np.pad(array, ((0, 0), (0, length - array.shape[1])), constant_values=filling)

    return joined(
        [
            Packed(
                tokens=np.pad(part.tokens, ((0, 0), (0, length - part.length)), constant_values=padding),
                target_bytes=wider(part.target_bytes, 0),
                target_document=wider(part.target_document, -1),
                target_mask=wider(part.mask.astype(np.int32), 0),
                starts=None if part.starts is None else wider(part.starts, 0),
            )
            for part in parts
        ]
    )


def pack(
    documents: Iterable[Document],
    tokenizer: Any,
    length: int,
    windows: int,
    most_per_document: int | None = None,
    whole: bool = False,
) -> Packed:
    """Pack documents of text; see `text_pieces` and `pack_pieces`. tokenizer: a fast Hugging Face tokenizer."""
    return pack_pieces(text_pieces(documents, tokenizer, most_per_document), length, windows, whole)


def pack_pieces(pieces: Iterable[Piece], length: int, windows: int, whole: bool = False) -> Packed:
    """Pack pieces into at most `windows` windows of `length` targets; fewer if they run out.

    Where a piece begins with the token that ended the one before, both share it: a target of the one, the first input
    of the other.  Otherwise the first token of a piece is a target that does not count.  whole: pad the last, partial
    window instead of dropping it.  Raises BadInput if the pieces do not fill one window.
    """
    columns: list[Columns] = []
    count = 0
    for part in stream_of(pieces):
        columns.append(part)
        count += len(part.tokens)
        if count > windows * length:
            break
    missing = -(count - 1) % length if whole and count else 0
    if missing:
        columns.append(padding_of(int(columns[-1].tokens[-1]), missing))
    rows_count = min(windows, (count + missing - 1) // length)
    if rows_count < 1:
        raise TooShort(f"the text is only {max(0, count - 1)} tokens long; one window needs {length}")
    rows = np.arange(rows_count)[:, None] * length + np.arange(length + 1)[None, :]
    flat = Columns.joined(columns)
    counts = flat.counts[rows[:, 1:]]
    return Packed(
        tokens=flat.tokens[rows],
        target_bytes=flat.target_bytes[rows[:, 1:]],
        target_document=flat.target_document[rows[:, 1:]],
        target_mask=None if counts.all() else counts.astype(np.int32),
        starts=flat.starts[rows[:, :-1]].astype(np.int32),
    )
