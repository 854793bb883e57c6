"""Row-by-row reader for a CSV file of cases: an unreadable row never affects the other rows.

Bytes that are not UTF-8 are preserved (surrogateescape) so that they can be written back.  An unclosed quote would
swallow all following rows, so such a row ends at its line end and carries a reason.
"""

from __future__ import annotations

import csv
import difflib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from flashstill.errors import BadInput
from flashstill.plan.case import CASE_FIELDS

REQUIRED = ("model", "chip")
TEXT: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}
MOST_CHARACTERS = 4_000_000
"""most characters of one row"""
MOST_LINE = 100 * MOST_CHARACTERS
"""most characters of one line; a longer line (as in /dev/zero) means the file is not CSV"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: its cells as in the file, and the reason why it cannot be parsed (empty if it can)."""

    cells: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Header and lazily read rows. asked: column index of each case field.

    defaults: values of fields that a row leaves empty.
    """

    columns: tuple[str, ...]
    asked: dict[str, int]
    defaults: dict[str, Any]
    rows: Iterator[Row]


def read_table(text: TextIO, name: str, defaults: Mapping[str, Any] | None = None) -> Table:
    """The cases in a text opened with `TEXT` and called `name`; BadInput if its header is not that of a case table.

    defaults: values for rows whose cell of that field is empty or that have no such column.
    """
    records = _Records(text, name)
    header, reason = next(((cells, reason) for cells, reason in records if cells), ([], ""))
    if reason:
        raise BadInput(f"the first line of {name} cannot be read: {reason}")
    columns = tuple(cell.strip() for cell in header)
    if not any(columns):
        raise BadInput(f"{name} is empty; its first line names the columns, as model,chip,tp")
    if any("\0" in column for column in columns):
        raise BadInput(f"{name} is not CSV in UTF-8 (UTF-16, perhaps); save it as CSV in UTF-8")
    asked = _asked(columns, name, defaults or {})
    return Table(columns=columns, asked=asked, defaults=dict(defaults or {}), rows=_rows(records, len(columns)))


def _rows(records: Iterator[tuple[list[str], str]], width: int) -> Iterator[Row]:
    for cells, reason in records:
        if not cells:
            continue  # a blank line
        if not reason and len(cells) < width:
            reason = f"the row has {len(cells)} cells for {width} columns"
        elif not reason and any(cell.strip() for cell in cells[width:]):
            reason = f"the row has {len(cells)} cells for {width} columns; the last {len(cells) - width} are left out"
        yield Row(cells=(*cells[:width], *[""] * (width - len(cells))), reason=reason)


def _asked(columns: Sequence[str], name: str, defaults: Mapping[str, Any]) -> dict[str, int]:
    """Column index of each field; headers may be in any case, with dashes or underscores, as the options."""
    seen: set[str] = set()
    asked: dict[str, int] = {}
    for index, column in enumerate(columns):
        field = column.lower().replace("-", "_")
        if (column and column in seen) or field in asked:
            raise BadInput(f"{name} has two columns {column!r}; give every column a name of its own")
        seen.add(column)
        if field in CASE_FIELDS:
            asked[field] = index
    missing = [field for field in REQUIRED if field not in asked and field not in defaults]
    if missing:
        for mark, what in ((";", "semicolons"), ("\t", "tabs")):
            if len(columns) == 1 and mark in columns[0]:
                raise BadInput(f"{name} is separated by {what}; save it with commas between the cells")
        raise BadInput(f"{name} has no column {missing[0]}; the columns are named as the options of predict")
    for column in columns:
        close = difflib.get_close_matches(column[:40], CASE_FIELDS, n=1, cutoff=0.8)
        if column.lower().replace("-", "_") not in CASE_FIELDS and close and close[0] not in asked:
            raise BadInput(f"{name} has a column {column!r}; did you mean {close[0]!r}?")
    return asked


class _Records(Iterator[tuple[list[str], str]]):
    """The records of a CSV text, each with the reason why it cannot be parsed (empty if it can)."""

    def __init__(self, text: TextIO, name: str) -> None:
        self._text, self._name = text, name
        self._again: deque[str] = deque()  # lines to read again after a record that was abandoned
        self._lines: list[str] = []  # lines of the current record
        self._ended = False
        self._reader = csv.reader(self._feed())

    def __next__(self) -> tuple[list[str], str]:
        before = csv.field_size_limit(2 * MOST_CHARACTERS)  # a process-wide setting, so restored after each record
        try:
            return self._record()
        finally:
            csv.field_size_limit(before)

    def _record(self) -> tuple[list[str], str]:
        self._lines, self._ended = [], False
        try:
            cells = next(self._reader)
        except _TooLong:
            return self._give_up(f"the row is longer than {MOST_CHARACTERS:,} characters, or a quote is not closed")
        except csv.Error as error:
            return self._give_up(f"the row is no CSV: {error}")
        if self._ended:  # the text ended within a record
            return self._give_up("a quote is never closed")
        return cells, ""

    def _give_up(self, reason: str) -> tuple[list[str], str]:
        """Return the first line of the record as cells, with the reason; parsing resumes at the next line."""
        first, *behind = self._lines
        self._again.extendleft(reversed(behind))
        self._reader = csv.reader(self._feed())
        if not behind and len(first) >= MOST_CHARACTERS and not first.endswith("\n"):
            self._skip_line()
        plain = (first if len(first) < MOST_CHARACTERS else first[:1000]).replace('"', "").rstrip("\r\n")
        return next(csv.reader([plain]), []) or [""], reason

    def _skip_line(self) -> None:
        for _ in range(MOST_LINE // MOST_CHARACTERS):
            part = self._read_line()
            if not part or part.endswith("\n"):
                return
        raise BadInput(f"{self._name} has a line of more than {MOST_LINE:,} characters; it is no CSV of cases")

    def _read_line(self) -> str:
        try:
            return self._text.readline(MOST_CHARACTERS)
        except OSError as error:
            raise BadInput(f"{self._name} cannot be read: {(error.strerror or str(error)).lower()}") from error

    def _feed(self) -> Iterator[str]:
        characters = 0
        while line := self._again.popleft() if self._again else self._read_line():
            characters = len(line) + (characters if self._lines else 0)
            self._lines.append(line)
            if characters >= MOST_CHARACTERS:
                raise _TooLong
            yield line
        self._ended = True


class _TooLong(Exception):
    """A record exceeds `MOST_CHARACTERS`."""
