"""Check the header of an untrusted GGUF file before loading it.

    "GGUF", version, number of tensors, number of metadata entries; then each entry as (name, type, value) and each
    tensor as (name, shape, type, offset)

All numbers are little-endian.  Everything they refer to must lie within the file, because other readers allocate
arrays of whatever counts, lengths and dimensions the header states.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flashstill.bounded import check_regular
from flashstill.errors import BadInput

MOST_TENSORS, MOST_ENTRIES, MOST_ITEMS, MOST_NAME = 100_000, 10_000, 4_000_000, 1_024
MOST_ALIGNMENT = 2**20
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_COUNTS = ("block_count", "expert_count", "embedding_length", "feed_forward_length", "head_count", "vocab_size")


class _Reader:
    """A read position in the file's bytes; ValueError on reading beyond the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def skip(self, count: int) -> int:
        """Advance by `count` bytes and return the position before them."""
        begin = self.place
        if count > len(self.data) - begin:
            raise ValueError("it ends before its header does")
        self.place += count
        return begin

    def number(self, kind: str) -> Any:
        return struct.unpack_from(f"<{kind}", self.data, self.skip(struct.calcsize(f"<{kind}")))[0]

    def text(self, most: int | None = None) -> str:
        length = self.number("Q")
        if most is not None and length > most:
            raise ValueError(f"a name in it has {length} bytes")
        begin = self.skip(length)
        return "" if most is None else self.data[begin : begin + length].decode()

    def value(self, kind: int) -> Any:
        """Read a metadata value of this type: a number or a short text; None for other texts and arrays, which are
        skipped."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            length = self.number("Q")
            begin = self.skip(length)
            return self.data[begin : begin + length].decode(errors="replace") if length <= MOST_NAME else None
        if kind != _ARRAY:
            raise ValueError(f"an entry has the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in _NUMBERS:
            self.skip(count * struct.calcsize(_NUMBERS[inner]))
        elif inner == _STRING and count <= MOST_ITEMS:
            for _ in range(count):
                self.text()
        else:
            raise ValueError(f"an entry has {count} items of type {inner}")
        return None


def check_gguf(file: Path) -> Mapping[str, Any]:
    """The metadata's numbers and short texts by name, None for all else; BadInput if the header refers to data beyond
    the end of the file, or its metadata exceeds its tensors."""
    check_regular(file)
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _check(_Reader(data))
    except (ValueError, OSError, struct.error) as error:
        raise BadInput(f"{file} cannot be read as a GGUF model: {error}") from error


def _check(reader: _Reader) -> dict[str, Any]:
    if reader.data[reader.skip(4) : 4] != b"GGUF":
        raise ValueError("it does not begin as one")
    version, tensors, entries = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version} is not known")
    if tensors > MOST_TENSORS or entries > MOST_ENTRIES:
        raise ValueError(f"it promises {tensors} tensors and {entries} entries")
    fields = {reader.text(MOST_NAME): reader.value(reader.number("I")) for _ in range(entries)}
    shapes, last = [], 0
    for _ in range(tensors):
        name, rank = reader.text(MOST_NAME), reader.number("I")
        if rank > 4:
            raise ValueError(f"tensor {name} has {rank} dimensions")
        shape = [reader.number("Q") for _ in range(rank)]
        shapes.append(shape)
        last = max(last, _end(name, shape, reader.number("I"), reader.number("Q")))
    aligned = fields.get("general.alignment", 32)
    if not isinstance(aligned, int) or not 0 < aligned <= MOST_ALIGNMENT:
        raise ValueError(f"its tensors are aligned to {aligned}")
    begin = math.ceil(reader.place / aligned) * aligned
    if begin + last > len(reader.data):
        raise ValueError(f"its tensors take {begin + last} bytes, it has {len(reader.data)}")
    _check_counts(fields, shapes)
    return fields


def _end(name: str, shape: list[int], kind: int, offset: int) -> int:
    """Byte offset of a tensor's end, relative to the start of the tensor data."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    values, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    count = math.prod(shape)
    if not count or count % values:
        raise ValueError(f"tensor {name} has {count} values of a format that stores {values} together")
    end: int = offset + count // values * size
    return end


def _check_counts(fields: Mapping[str, Any], shapes: list[list[int]]) -> None:
    largest = max((max(shape, default=0) for shape in shapes), default=0)
    for name, value in fields.items():
        most = len(shapes) if name.endswith("block_count") else largest
        if name.endswith(_COUNTS) and isinstance(value, int) and value > most:
            raise ValueError(f"{name} is {value}, more than its {len(shapes)} tensors hold")
