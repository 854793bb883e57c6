"""Rows of JSON files, as streams: JSON lines, arrays of objects, an object that holds one array, and CSV or TSV.

A line that is no JSON is one bad row; a broken array ends its file, since nothing says where its next entry begins.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from flashstill.bounded import is_deeper
from flashstill.compressed import opened
from flashstill.distill.data.rows import Row
from flashstill.errors import BadInput, shortened

MOST_LINE_CHARACTERS = 64 * 2**20
CHUNK = 2**20
END = "\x04\x04the end of the table"
DEEP, NOT_JSON = "nests too deeply", "is not JSON"


def json_lines(path: Path) -> Iterator[Row]:
    """Every line that is not blank of a JSONL file."""
    shown = f"data file {path}"
    with opened(path, shown) as stream:
        for number, line in enumerate(bounded_lines(stream), 1):
            where, name = f"{shown}, line {number}", f"{path.name}:{number}"
            if line is None:
                yield Row(name=name, where=where, problem=f"is longer than {MOST_LINE_CHARACTERS:,} characters")
                continue
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield Row(name=name, where=where, problem=f"is not UTF-8 (byte {error.start})")
                continue
            if text.strip():
                yield parsed(text, name, where)


def bounded_lines(stream: IO[bytes]) -> Iterator[bytes | None]:
    """Lines without their ends; None for each that is longer than MOST_LINE_CHARACTERS, which is not kept."""
    while line := stream.readline(MOST_LINE_CHARACTERS):
        if len(line) < MOST_LINE_CHARACTERS:
            yield line.removesuffix(b"\n")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(CHUNK)
        yield None


def parsed(text: str, name: str, where: str) -> Row:
    """A row from its JSON text."""
    try:
        value = json.loads(text)
    except RecursionError:
        return Row(name=name, where=where, problem=DEEP)
    except ValueError:
        return Row(name=name, where=where, problem=NOT_JSON)
    return Row(name=name, where=where, value=value, problem=DEEP if is_deeper(value) else "")


def json_values(path: Path) -> Iterator[Row]:
    """The rows of a .json file: the entries of an array, or objects one after another.

    An object alone whose only list of objects is one of its entries ({"data": [...]}) stands for that list.
    """
    shown = f"data file {path}"
    with opened(path, shown) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
        try:
            values = _Values(text, shown)
            if values.next_character() == "[":
                values.skip()
                entries: Iterator[Any] = values.entries("]")
            else:
                entries = _unwrapped(list(_some(values.entries(""), 2)), values)
            for number, value in enumerate(entries, 1):
                problem = DEEP if is_deeper(value) else ""
                yield Row(name=f"{path.name}:{number}", where=f"{shown}, record {number}", value=value, problem=problem)
        except UnicodeDecodeError as error:
            raise BadInput(f"{shown} is not UTF-8; convert it first") from error


def _some(entries: Iterator[Any], count: int) -> Iterator[Any]:
    for _, entry in zip(range(count), entries, strict=False):
        yield entry


def _unwrapped(first: list[Any], values: _Values) -> Iterator[Any]:
    if len(first) == 1 and isinstance(first[0], dict):
        lists = [each for each in first[0].values() if isinstance(each, list) and each and isinstance(each[0], dict)]
        if len(lists) == 1 and not {"messages", "conversations", "prompt"} & set(first[0]):
            yield from lists[0]
            return
    yield from first
    yield from values.entries("")


class _Values:
    """JSON values one after another in a stream of text, of which a few megabytes are held at a time."""

    def __init__(self, text: IO[str], shown: str) -> None:
        self._text, self._shown, self._held, self._place, self._ended = text, shown, "", 0, False
        self._decoder, self._number = json.JSONDecoder(), 0

    def next_character(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            while self._place < len(self._held):
                if not self._held[self._place].isspace():
                    return self._held[self._place]
                self._place += 1
            if not self._more(CHUNK):
                return ""

    def skip(self) -> None:
        """Pass over a character."""
        self._place += 1

    def entries(self, end: str) -> Iterator[Any]:
        """Values up to the character `end`, or to the end of the stream; commas between them are passed over."""
        while (character := self.next_character()) != end:
            if character == ",":
                self.skip()
            elif not character:
                raise BadInput(f"{self._shown} ends inside its array, after record {self._number}")
            else:
                self._number += 1
                yield self._value()

    def _value(self) -> Any:
        size = CHUNK
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._held, self._place)
            except RecursionError as error:
                raise BadInput(f"{self._shown}, record {self._number} {DEEP}") from error
            except ValueError:  # not kept: it would hold the text of each try until a garbage collection
                stop = -1
            if stop >= 0 and (stop < len(self._held) or self._ended):  # a number might go on behind what is held
                self._place = stop
                return value
            if not self._more(size):
                if stop >= 0:
                    continue
                raise BadInput(f"{self._shown}, record {self._number} {NOT_JSON}")
            size *= 2

    def _more(self, size: int) -> bool:
        part = self._text.read(size)
        if len(self._held) - self._place + len(part) > MOST_LINE_CHARACTERS:
            raise BadInput(
                f"{self._shown}, record {self._number} {NOT_JSON}, or longer than {MOST_LINE_CHARACTERS:,} characters"
            )
        self._held, self._place, self._ended = self._held[self._place :] + part, 0, not part
        return bool(part)


def table_rows(path: Path, separator: str) -> Iterator[Row]:
    """The rows of a CSV or TSV file by the names of its first line; where it names nothing, "column 3" is the third.

    separator: "," also means ";" where only that stands in the first line.
    """
    shown = f"data file {path}"
    with opened(path, shown) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        budget = _Budget(shown)
        lines = _text_lines(text, budget)
        try:
            first = next(lines, "")
            if separator == "," and "," not in first and ";" in first:
                separator = ";"
            reader = csv.reader(_again(first, lines), delimiter=separator)
            records = _closed(_records(reader, budget), shown)
            heading = [name or f"column {place}" for place, name in enumerate(next(records, []), 1)]
            if twice := next((name for name, count in Counter(heading).items() if count > 1), ""):
                raise BadInput(f"{shown} names the column {shortened(twice)!r} twice in its first line")
            for number, cells in enumerate(records, 1):
                name, where = f"{path.name}:{number}", f"{shown}, row {number} (line {reader.line_num})"
                if cells and len(cells) != len(heading):
                    problem = f"has {len(cells)} cells, where the first line names {len(heading)}"
                    yield Row(name=name, where=where, problem=problem)
                elif cells:
                    yield Row(name=name, where=where, value=dict(zip(heading, cells, strict=True)))
        except UnicodeDecodeError as error:
            raise BadInput(f"{shown} is not UTF-8; convert it first") from error
        except csv.Error as error:
            raise BadInput(f"{shown} is no table: {error}") from error


class _Budget:
    """Characters that a record may still have: quotes let it go on over any number of lines."""

    def __init__(self, shown: str) -> None:
        self._shown, self._taken = shown, 0

    def take(self, line: str) -> None:
        """Count a line; BadInput if its record has more than MOST_LINE_CHARACTERS."""
        self._taken += len(line)
        if self._taken >= MOST_LINE_CHARACTERS:
            raise BadInput(f"{self._shown} has a row of more than {MOST_LINE_CHARACTERS:,} characters")

    def renew(self) -> None:
        """A record is over."""
        self._taken = 0


def _records(reader: Iterator[list[str]], budget: _Budget) -> Iterator[list[str]]:
    """The records of a csv.reader with fields of up to MOST_LINE_CHARACTERS; the limit is one of the whole process, so
    that it is put back after each record."""
    while True:
        before = csv.field_size_limit(MOST_LINE_CHARACTERS)
        try:
            record = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if record is None:
            return
        budget.renew()
        yield record


def _closed(records: Iterator[list[str]], shown: str) -> Iterator[list[str]]:
    """The records before the line END; BadInput if it does not stand alone, as a quote before it was never closed."""
    for number, record in enumerate(records):
        if record == [END]:
            return
        if record and record[-1].endswith(END):
            raise BadInput(f"{shown} has a quote in row {number} that is never closed")
        yield record


def _text_lines(text: IO[str], budget: _Budget) -> Iterator[str]:
    while line := text.readline(MOST_LINE_CHARACTERS):
        budget.take(line)
        yield line


def _again(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
    yield from lines
    yield END  # csv takes the end of a file inside a quote for the end of the quote
