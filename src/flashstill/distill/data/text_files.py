"""Read plain text, JSONL and Parquet files into documents, with limits on their size.

Only regular files are read (a device or a pipe may never end), up to a size that fits in memory.  Parquet files can
decompress to any size and are therefore read in a separate process (parquet.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flashstill.bounded import check_regular, lone_surrogate, read_bounded
from flashstill.distill.data.parquet import texts_of
from flashstill.errors import BadInput

SUFFIXES = (".txt", ".md", ".rst", ".jsonl", ".parquet")
PLAIN_TEXT_DOCUMENT_CHARACTERS = 2000
MOST_PLAIN_BYTES = 256 * 2**20
"""limit for one plain-text file; in memory a character can take four bytes"""
MOST_LINE_CHARACTERS = 64 * 2**20
MOST_BYTES = 2**30
"""limit for all files of a source together"""
MOST_FILES = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A piece of text that goes as a whole into either the training or the held-out set."""

    name: str
    text: str


def from_path(path: Path) -> Iterator[Document]:
    """The documents of a file, or of all supported files below a directory; BadInput names the file that fails."""
    if not path.is_dir():
        yield from _from_file(path)
        return
    files: list[Path] = []
    for file in path.rglob("*"):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            files.append(file)
            if len(files) > MOST_FILES:
                raise BadInput(f"data directory {path} holds more than {MOST_FILES:,} files; give a smaller one")
    if not files:
        raise BadInput(f"data directory {path} holds no {', '.join(SUFFIXES)} file")
    if sum(file.stat().st_size for file in files) > MOST_BYTES:
        raise BadInput(f"data directory {path} holds more than {MOST_BYTES // 2**20} MiB of text; give a part of it")
    for file in sorted(files):
        yield from _from_file(file)


def _from_file(path: Path) -> Iterator[Document]:
    if path.suffix.lower() == ".jsonl":
        return _from_jsonl(path)
    return _from_parquet(path) if path.suffix.lower() == ".parquet" else _from_plain(path)


def _from_plain(path: Path) -> Iterator[Document]:
    """Split a plain-text file at blank lines into documents of at least 2,000 characters (the last may be shorter)."""
    try:
        content = read_bounded(path, MOST_PLAIN_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"data file {path} is not UTF-8 (byte {error.start}); convert it first") from error
    text = content.replace("\r\n", "\n").replace("\r", "\n")
    pending, size, count = [], 0, 0
    for part in re.split(r"\n\s*\n", text):
        pending.append(part)
        size += len(part)
        if size >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            yield Document(name=f"{path.name}#{count}", text="\n\n".join(pending))
            pending, size, count = [], 0, count + 1
    if pending:
        yield Document(name=f"{path.name}#{count}", text="\n\n".join(pending))


def _from_jsonl(path: Path) -> Iterator[Document]:
    for number, line in lines_of(path, f"data file {path}"):
        row = json_line(line, f"data file {path}, line {number}")
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise BadInput(f'data file {path}, line {number} has no "text" string')
        yield Document(name=f"{path.name}:{number}", text=valid(row["text"], f"data file {path}, line {number}"))


def _from_parquet(path: Path) -> Iterator[Document]:
    check_regular(path, MOST_BYTES)
    for number, text in enumerate(texts_of(path, MOST_BYTES)):
        yield Document(name=f"{path.name}:{number}", text=text)


def lines_of(path: Path, shown: str) -> Iterator[tuple[int, str]]:
    """(line number from 1, line) for each non-blank line of a UTF-8 file; `shown` names the file in error messages."""
    check_regular(path, MOST_BYTES)
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as stream:
            while line := stream.readline(MOST_LINE_CHARACTERS):
                number += 1
                if len(line) >= MOST_LINE_CHARACTERS:
                    raise BadInput(f"{shown}, line {number} is longer than {MOST_LINE_CHARACTERS:,} characters")
                if line.strip():
                    yield number, line.removesuffix("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown} is not UTF-8 (after line {number}); convert it first") from error
    except OSError as error:
        raise BadInput(f"{shown} cannot be read: {error.strerror or error}") from error


def json_line(line: str, where: str) -> object:
    """Parse one line of JSON; BadInput, with `where` as the place, if it is malformed."""
    try:
        value: object = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where} is not JSON") from error
    except RecursionError as error:
        raise BadInput(f"{where} nests too deeply") from error
    return value


def valid(text: str, where: str) -> str:
    """Return `text` unchanged; BadInput if it contains a lone surrogate, which UTF-8 cannot encode."""
    if (place := lone_surrogate(text)) is not None:
        raise BadInput(f"{where} holds text that is no valid Unicode (a lone surrogate at character {place})")
    return text
