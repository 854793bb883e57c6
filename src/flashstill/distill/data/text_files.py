"""Read documents of data files, one at a time: plain text, JSON lines, JSON, CSV, Parquet, Arrow, compressed or not.

Only regular files are read (a device or a pipe may never end), as streams: no file is ever in memory as a whole.
Records that cannot be used are counted in a tally (rows.py), which refuses the data if there are too many.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

from flashstill.bounded import check_regular, lone_surrogate
from flashstill.compressed import opened, suffix_of
from flashstill.distill.data import json_rows, saved
from flashstill.distill.data.json_rows import MOST_LINE_CHARACTERS
from flashstill.distill.data.layouts import Columns, Document, document_of
from flashstill.distill.data.rows import Row, Tally, Unusable
from flashstill.distill.data.saved import SUFFIXES
from flashstill.distill.data.tables import columnar_rows
from flashstill.errors import BadInput

__all__ = ["SUFFIXES", "Document", "from_path", "json_line", "lines_of", "valid"]
PLAIN_TEXT_DOCUMENT_CHARACTERS = 2000
MOST_PLAIN_CHARACTERS = 4 * 2**20
"""a document of plain text without a blank line is cut at the end of a line beyond this"""
MOST_BYTES = 2**30
"""limit for a file of lines that is read for other purposes than text"""


def from_path(path: Path, tally: Tally, columns: Columns | None = None, split: str = "") -> Iterator[Document]:
    """The documents of a file, or of all data files below a directory; see saved.py for splits.

    Raises BadInput naming the file that cannot be read, or the first bad record if there are too many.
    """
    asked = columns or Columns()
    for file in saved.files_of(path, split):
        if suffix_of(file) in (*saved.JSON_LINES, *saved.JSON, *saved.TABLES, *saved.COLUMNAR):
            yield from _from_rows(_rows(file, asked), tally, asked)
        else:
            for document in _from_plain(file):
                tally.good += 1
                yield document


def _rows(path: Path, columns: Columns) -> Iterator[Row]:
    suffix = suffix_of(path)
    if suffix in saved.COLUMNAR:
        return columnar_rows(path, columns.names)
    if suffix in saved.TABLES:
        return json_rows.table_rows(path, "\t" if suffix == ".tsv" else ",")
    return json_rows.json_lines(path) if suffix in saved.JSON_LINES else json_rows.json_values(path)


def _from_rows(rows: Iterator[Row], tally: Tally, columns: Columns) -> Iterator[Document]:
    for row in rows:
        if row.problem:
            tally.skip(row.where, row.problem, row.problem.partition(" (")[0])
            continue
        try:
            document = document_of(row.value, row.name, columns)
        except Unusable as error:
            tally.skip(row.where, str(error), error.kind)
            continue
        tally.good += 1
        yield document


def _from_plain(path: Path) -> Iterator[Document]:
    """Split a plain-text file at blank lines into documents of at least 2,000 characters (the last may be shorter)."""
    for count, text in enumerate(_gathered(_paragraphs(path))):
        yield Document(name=f"{path.name}#{count}", text=text)


def _gathered(paragraphs: Iterator[str]) -> Iterator[str]:
    pending: list[str] = []
    size = 0
    for part in paragraphs:
        pending.append(part)
        size += len(part)
        if size >= PLAIN_TEXT_DOCUMENT_CHARACTERS:
            yield "\n\n".join(pending)
            pending, size = [], 0
    if pending:
        yield "\n\n".join(pending)


def _paragraphs(path: Path) -> Iterator[str]:
    """Runs of lines that are not blank."""
    shown = f"data file {path}"
    lines: list[str] = []
    size = number = 0
    with opened(path, shown) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
        try:
            while line := text.readline(MOST_LINE_CHARACTERS):
                number += 1
                if len(line) >= MOST_LINE_CHARACTERS:
                    raise BadInput(f"{shown}, line {number} is longer than {MOST_LINE_CHARACTERS:,} characters")
                if line.strip():
                    lines.append(line)
                    size += len(line)
                if lines and (size > MOST_PLAIN_CHARACTERS or not line.strip()):
                    yield "".join(lines).removesuffix("\n")
                    lines, size = [], 0
        except UnicodeDecodeError as error:
            raise _not_utf8(shown, number, error) from error
    if lines:
        yield "".join(lines).removesuffix("\n")


def _not_utf8(shown: str, number: int, error: UnicodeDecodeError) -> BadInput:
    """A sentence with the line; number: of the last line that was read, before the bytes that were decoded next."""
    line = number + 1 + error.object.count(b"\n", 0, error.start)
    return BadInput(f"{shown} is not UTF-8 (line {line:,}); convert it first")


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
        raise _not_utf8(shown, number, error) from error
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
