"""Open a file of text, compressed or not, as a stream of bytes that is never held as a whole.

    .gz   .bz2   .xz   .zst        by the last suffix of the name, in front of which stands the format ("a.jsonl.gz")

A few compressed bytes can unfold to terabytes.  What a file may unfold to is therefore limited to FREE_BYTES, or
MOST_RATIO times its size where that is more; the memory of a decompressor is limited as well.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from flashstill.bounded import check_regular
from flashstill.errors import BadInput

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
MARKS = (
    (b"\x1f\x8b", "compressed by gzip", ".gz"),
    (b"BZh", "compressed by bzip2", ".bz2"),
    (b"\xfd7zXZ\x00", "compressed by xz", ".xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", ".zst"),
    (b"PAR1", "Parquet", ".parquet"),
    ((b"\xff\xfe", b"\xfe\xff"), "UTF-16 text", ""),
)
"""first bytes of files, what they are, and the suffix that says so"""
MOST_BYTES = 2**38
"""limit for one file as it lies on the disk; files are read as streams"""
FREE_BYTES = 2**30
"""what any file may unfold to"""
MOST_RATIO = 200
"""beyond FREE_BYTES: bytes per compressed byte; text compresses to a tenth, JSON that repeats itself to a fiftieth"""
MOST_DECODER_BYTES = 512 * 2**20
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError)


def suffix_of(path: Path) -> str:
    """The suffix that says what a file holds, in lower case: ".jsonl" of "a.jsonl" and of "a.jsonl.gz"."""
    suffixes = [each.lower() for each in path.suffixes]
    return (
        (suffixes[-2] if len(suffixes) > 1 else "") if suffixes and suffixes[-1] in COMPRESSED else path.suffix.lower()
    )


def misnamed(path: Path) -> str:
    """What a file is by its first bytes, and not by its name, as the end of a sentence; empty if they say nothing."""
    with path.open("rb") as file:
        first = file.read(8)
    for marks, what, suffix in MARKS:
        if first.startswith(marks):
            return f"it is {what}; give it the suffix {suffix}" if suffix else f"it is {what}; convert it to UTF-8"
    return ""


def most_unfolded(path: Path) -> int:
    """Limit in bytes on what a compressed file may unfold to."""
    return max(FREE_BYTES, MOST_RATIO * path.stat().st_size)


@contextlib.contextmanager
def opened(path: Path, shown: str) -> Iterator[IO[bytes]]:
    """A stream of the bytes of a file, decompressed.

    shown: names the file in messages.  Raises BadInput for anything but a regular file; reading raises it for a file
    that is damaged or unfolds to more than its limit.
    """
    check_regular(path, MOST_BYTES)
    try:
        with path.open("rb") as raw:
            if path.suffix.lower() not in COMPRESSED:
                yield raw
                return
            with (
                _decoder(path, raw) as decoded,
                io.BufferedReader(_Limited(decoded, most_unfolded(path), shown)) as read,
            ):
                yield read
    except DAMAGED as error:
        said = getattr(error, "strerror", None) or error
        raise BadInput(f"{shown} cannot be read: {said}") from error


def _decoder(path: Path, raw: IO[bytes]) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    if suffix == ".xz":
        return _Xz(raw)
    import pyarrow  # its decoder refuses windows above 128 MiB

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd")


class _Xz(io.RawIOBase):
    """lzma.LZMAFile takes no limit of memory; this takes one. Files of several streams are read to their end."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self._decoder = raw, lzma.LZMADecompressor(memlimit=MOST_DECODER_BYTES)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, b"" at the end."""
        while True:
            if self._decoder.eof:
                self._rest = (self._decoder.unused_data or self._raw.read(65536)).lstrip(b"\0")  # padding of streams
                if not self._rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(memlimit=MOST_DECODER_BYTES)
            elif self._decoder.needs_input and not self._rest:
                self._rest = self._raw.read(65536)
                if not self._rest:
                    raise EOFError("it ends before its end marker")
            part = self._decoder.decompress(self._rest, size)
            self._rest = b""
            if part:
                return part


class _Limited(io.RawIOBase):
    """A stream that raises BadInput once more than `most` bytes were read of it."""

    def __init__(self, decoded: Any, most: int, shown: str) -> None:
        self._decoded, self._left, self._most, self._shown = decoded, most, most, shown

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """As in io."""
        part = self._decoded.read(len(buffer))
        self._left -= len(part)
        if self._left < 0:
            raise BadInput(
                f"{self._shown} unfolds to more than {self._most // 2**20} MiB, {MOST_RATIO} times its size;"
                " decompress it yourself if it is what you want"
            )
        buffer[: len(part)] = part
        return len(part)
