"""Packings on the disk: written in blocks of windows, read by memory map.

    train.npy     a structured array [W]: tokens [L+1], target_bytes [L], target_document [L], counts [L], starts [L]
    train.json    its digest, written after it

A window is one record, so that reading some windows reads little else; see Packed for the arrays (counts: target_mask).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.distill.data.packing import Packed, TooShort, hash_of, opened, record_of
from flashstill.distill.data.stream import Columns, padding_of
from flashstill.files import replacing, write_text

BLOCK_TOKENS = 2**20


def write_packing(path: Path, columns: Iterator[Columns], length: int, windows: int, whole: bool = False) -> Packed:
    """Write at most `windows` windows of a stream of tokens (stream.py), and open them; `path` ends in .npy.

    The file gets its name when it is complete.  whole: pad the last, partial window instead of dropping it.  Raises
    BadInput if the stream does not fill one window.
    """
    return _written(path, length, _rows(_blocks(columns, length, windows, whole), length))


def write_windows(path: Path, parts: Sequence[Packed], rows: Sequence[npt.NDArray[np.int64]]) -> Packed:
    """Write some windows of several packings, in their order, and open them; documents are numbered anew."""
    return _written(path, parts[0].length, _copied(parts, rows))


def _written(path: Path, length: int, blocks: Iterator[npt.NDArray[Any]]) -> Packed:
    layout, count = record_of(length), 0
    digests = hashlib.sha256(), hashlib.sha256()
    with replacing(path) as temporary, temporary.open("wb") as stream:
        _header(stream, layout, 0)
        begin = stream.tell()
        for rows in blocks:
            stream.write(rows.tobytes())
            digests[0].update(np.ascontiguousarray(rows["tokens"]).tobytes())
            digests[1].update(rows["starts"].astype(np.int32).tobytes())
            count += len(rows)
        if not count:
            raise TooShort(f"the text is too short; one window needs {length} tokens")
        stream.seek(0)
        _header(stream, layout, count)
        assert stream.tell() == begin
    digest = hash_of((count, length + 1), *(each.hexdigest() for each in digests))
    write_text(path.with_suffix(".json"), json.dumps({"hash": digest, "windows": count}))
    return opened(path)


def _rows(blocks: Iterator[Columns], length: int) -> Iterator[npt.NDArray[Any]]:
    """Records of the windows of each block."""
    for block in blocks:
        rows = np.zeros((len(block.tokens) - 1) // length, dtype=record_of(length))
        places = np.arange(len(rows))[:, None] * length + np.arange(length + 1)[None, :]
        rows["tokens"] = block.tokens[places]
        rows["target_bytes"] = np.minimum(block.target_bytes[places[:, 1:]], 2**16 - 1)
        rows["target_document"] = block.target_document[places[:, 1:]]
        rows["counts"], rows["starts"] = block.counts[places[:, 1:]], block.starts[places[:, :-1]]
        yield rows


def _copied(parts: Sequence[Packed], rows: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[Any]]:
    length, first = parts[0].length, 0
    at_a_time = max(1, BLOCK_TOKENS // length)
    for part, places in zip(parts, rows, strict=True):
        last = -1
        for begin in range(0, len(places), at_a_time):
            some = part.taken(places[begin : begin + at_a_time])
            copy = np.zeros(some.windows, dtype=record_of(length))
            copy["tokens"], copy["target_bytes"] = some.tokens, some.target_bytes
            copy["target_document"] = np.where(some.target_document < 0, -1, some.target_document + first)
            copy["counts"], copy["starts"] = some.mask, 0 if some.starts is None else some.starts
            last = max(last, int(some.target_document.max()))
            yield copy
        first += last + 1


def _header(stream: Any, layout: np.dtype[Any], windows: int) -> None:
    """NumPy's header; it leaves room for a number of windows that grows."""
    described = {"descr": np.lib.format.dtype_to_descr(layout), "fortran_order": False, "shape": (windows,)}
    np.lib.format.write_array_header_1_0(stream, described)


def _blocks(columns: Iterator[Columns], length: int, windows: int, whole: bool) -> Iterator[Columns]:
    """The stream in pieces of whole windows and one token more, which the next piece begins with."""
    held: list[Columns] = []
    size, left, size_wanted = 0, windows, max(1, BLOCK_TOKENS // length) * length
    for part in columns:
        held.append(part)
        size += len(part.tokens)
        while left and size > min(size_wanted, left * length):
            joined = Columns.joined(held)
            count = min(left, (size - 1) // length)
            yield joined.part(slice(0, count * length + 1))
            held, size, left = [joined.part(slice(count * length, None))], size - count * length, left - count
        if not left:
            return
    missing = -(size - 1) % length if whole and size > 1 else 0
    if missing:
        held.append(padding_of(int(held[-1].tokens[-1]), missing))
    if left and size + missing > length:
        count = min(left, (size + missing - 1) // length)
        yield Columns.joined(held).part(slice(0, count * length + 1))
