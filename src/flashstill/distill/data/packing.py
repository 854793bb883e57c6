"""Packing: turn documents into fixed-length windows of tokens.

Documents are concatenated with an end-of-text token between them and cut into windows of L+1 tokens.  Consecutive
windows share one token, so every token is a target once:  inputs = tokens[:, :L],  targets = tokens[:, 1:].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from flashstill.distill.data.text_files import Document
from flashstill.errors import BadInput
from flashstill.files import replacing

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """W windows of L targets each.

    tokens [W, L+1]: token ids.  target_bytes [W, L]: UTF-8 bytes of each target (0 for a separator).
    target_document [W, L]: index of the target's document (-1 for a separator).  target_mask [W, L]: 1 where the target
    counts in the loss; None if all count.  window_group [W]: index of the packing that a window came from (`joined`).
    """

    tokens: Ints
    target_bytes: Ints
    target_document: Ints
    target_mask: Ints | None = None
    window_group: Ints | None = None

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
        shape = (self.windows, self.length)
        return np.ones(shape, dtype=np.bool_) if self.target_mask is None else self.target_mask.astype(np.bool_)

    @property
    def hash(self) -> str:
        """SHA-256 of the shape and the tokens; part of the key of cached teacher outputs."""
        return hashlib.sha256(repr(self.tokens.shape).encode() + self.tokens.tobytes()).hexdigest()

    def first(self, windows: int) -> Packed:
        """A packing of only the first `windows` windows."""
        return Packed(
            tokens=self.tokens[:windows],
            target_bytes=self.target_bytes[:windows],
            target_document=self.target_document[:windows],
            target_mask=None if self.target_mask is None else self.target_mask[:windows],
            window_group=None if self.window_group is None else self.window_group[:windows],
        )

    def save(self, path: Path) -> None:
        """Write a safetensors file atomically."""
        arrays = {
            "tokens": np.ascontiguousarray(self.tokens),
            "target_bytes": np.ascontiguousarray(self.target_bytes),
            "target_document": np.ascontiguousarray(self.target_document),
        }
        optional = {"target_mask": self.target_mask, "window_group": self.window_group}
        arrays |= {name: np.ascontiguousarray(array) for name, array in optional.items() if array is not None}
        with replacing(path) as temporary:
            save_file(arrays, temporary)

    @staticmethod
    def load(path: Path) -> Packed:
        """Read a file that `save` wrote; BadInput if it is damaged."""
        try:
            return Packed(**load_file(path))
        except (SafetensorError, TypeError, OSError) as error:
            raise BadInput(f"{path} is an incomplete packing file; delete it and run again") from error


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
    )


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
            )
            for part in parts
        ]
    )


def pack(
    documents: Sequence[Document],
    tokenizer: Any,
    length: int,
    windows: int,
    most_per_document: int | None = None,
    whole: bool = False,
) -> Packed:
    """Pack documents into at most `windows` windows of `length` targets; fewer if the text runs out.

    tokenizer: a fast Hugging Face tokenizer.  most_per_document: take at most this many tokens, from the middle of each
    document, so that a small sample covers many documents.  whole: pad the last, partial window with separators instead
    of dropping it.  Raises BadInput if the text does not fill one window.
    """
    separator = tokenizer.eos_token_id
    if separator is None:
        raise BadInput("the model's tokenizer names no end-of-text token (eos_token)")
    ids, sizes, owners = [separator], [0], [-1]
    needed = windows * length + 1
    for index, document in enumerate(documents):
        encoded = _encoded(document, tokenizer)
        own_ids, widths = encoded["input_ids"], _target_bytes(document.text, encoded["offset_mapping"])
        span = _middle(len(own_ids), most_per_document)
        ids += [*own_ids[span], separator]
        sizes += [*widths[span], 0]
        owners += [index] * len(own_ids[span]) + [-1]
        if len(ids) >= needed:
            break
    if whole:
        missing = -(len(ids) - 1) % length
        ids, sizes, owners = ids + [separator] * missing, sizes + [0] * missing, owners + [-1] * missing
    count = min(windows, (len(ids) - 1) // length)
    if count < 1:
        raise BadInput(f"the text is only {len(ids) - 1} tokens long; one window needs {length}")
    rows = np.arange(count)[:, None] * length + np.arange(length + 1)[None, :]
    flat: Callable[[list[int]], Ints] = lambda values: np.asarray(values, dtype=np.int32)
    return Packed(
        tokens=flat(ids)[rows], target_bytes=flat(sizes)[rows[:, 1:]], target_document=flat(owners)[rows[:, 1:]]
    )


def _encoded(document: Document, tokenizer: Any) -> Any:
    try:
        return tokenizer(document.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a Rust panic of the tokenizers library, which is a BaseException
            raise
        raise BadInput(f"the tokenizer cannot read {document.name}: its rules backtrack without end") from error


def _middle(count: int, most: int | None) -> slice:
    if most is None or count <= most:
        return slice(0, count)
    start = (count - most) // 2
    return slice(start, start + most)


def _target_bytes(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """UTF-8 bytes that each token adds; the sum is exact even if one character is split over several tokens."""
    if text.isascii():
        ends = np.asarray([end for _, end in offsets], dtype=np.int64)
    else:
        width = np.cumsum([0] + [len(character.encode()) for character in text])
        ends = width[[end for _, end in offsets]]
    ends = np.maximum.accumulate(ends) if len(ends) else ends
    sizes: list[int] = np.diff(ends, prepend=0).tolist()
    return sizes
