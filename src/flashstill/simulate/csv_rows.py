"""Rows of small CSV files by column, each with its place, so that a mistake names its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from flashstill.bounded import check_regular
from flashstill.errors import BadInput, nearest, shortened

MOST_ROWS = 10_000_000
_NEAR_ENOUGH = 1


def rows_of(path: Path, needed: Sequence[Sequence[str]], also: Sequence[Sequence[str]] = ()) -> Iterator[list[str]]:
    """[place, values of the needed columns, values of the others or ""] of every row.

    needed, also: for each column the names that it may have.  BadInput names what is missing.
    """
    check_regular(path)
    try:
        # Spreadsheets write a byte order mark, which is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text)
            heading = [name.strip() for name in next(reader, [])]
            places = [_column(path, heading, names) for names in needed]
            others = [next((heading.index(name) for name in names if name in heading), None) for names in also]
            for count, row in enumerate(reader):
                if not row:
                    continue
                if count >= MOST_ROWS:
                    raise BadInput(f"{path} has more than {MOST_ROWS:,} rows")
                where = f"{path}, line {reader.line_num}"
                if len(row) < len(heading):
                    raise BadInput(f"{where}: {len(row)} of {len(heading)} columns")
                yield [where, *(row[at] for at in places), *("" if at is None else row[at] for at in others)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not CSV in UTF-8"
        raise BadInput(f"{path} cannot be read: {reason}") from error


def _column(path: Path, heading: Sequence[str], names: Sequence[str]) -> int:
    for name in names:
        if name in heading:
            return heading.index(name)
    close = nearest(names[0], heading)[:_NEAR_ENOUGH]
    wanted = " or ".join(repr(name) for name in names)
    raise BadInput(f"{path} has no column {wanted}" + (f"; is it {close[0]!r}?" if close else ""))


def number_in(where: str, name: str, text: str, least: float, most: float, whole: bool = False) -> float:
    """A number of a row. BadInput if it is none, or not between the ends."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise BadInput(f"{where}: {name} is {shortened(text)!r}, not {kind} from {least:g} to {most:g}")
    return value
