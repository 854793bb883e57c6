"""The CSV files of facts: columns, units and kinds, and every mistake of a row in one sentence."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from flashstill.bounded import check_regular
from flashstill.errors import BadInput, nearest, shortened, shown
from flashstill.facts.lawful import complaint
from flashstill.facts.row import Fact, Machine

COLUMNS = ("name", "quantity", "value", "low", "high", "unit", "per", "condition", "kind", "source", "as_of", "note")
KINDS = ("datasheet", "measured", "secondary", "estimate", "what-if")
UNITS = {
    "FLOP/s", "B", "B/s", "1", "W", "nm", "mm2", "USD", "USD/h", "USD/kWh", "pJ", "s", "year", "J",
    "mm", "um2", "1/cm2", "1/mm2", "USD/B", "USD/mm2", "USD/W", "USD/Mtok", "Hz", "W/mm2", "g/kWh", "L/kWh", "1/s",
}  # fmt: skip
_WORDS = tuple(column for column in COLUMNS if column not in ("value", "low", "high"))
MACHINES_FILE = "machines.csv"
FIRST_YEAR, LAST_YEAR = 1950, 2100
MOST_BYTES = 2**28
"""of a file of facts: the package's largest has one MB"""


def _read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    check_regular(path, MOST_BYTES)
    try:
        # Spreadsheets write a byte order mark, which is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            found = tuple(reader.fieldnames or ())
            if found != tuple(columns):
                first = f"; its first line is {shortened(','.join(found), 60)!r}" if found else "; it has no line"
                raise BadInput(f"{path} must have the columns {','.join(columns)}{first}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV in UTF-8: {error}") from error


def read_machines(path: Path) -> list[Machine]:
    """The machines of a file as machines.csv; BadInput for columns that are missing, a name that cannot be typed or a
    year that is none."""
    machines = []
    for number, row in enumerate(_read_csv(path, ("name", "title", "maker", "class", "year")), start=2):
        if None in row or None in row.values():
            raise BadInput(f"{path}, line {number} has not 5 fields")
        name = row["name"]
        if not name.isprintable() or name != name.strip() or not name:
            raise BadInput(f"{path}, line {number}: {shown(name)} is no name of a chip: letters, digits and signs")
        try:
            year = int(row["year"])
        except (TypeError, ValueError) as error:
            raise BadInput(f"{path}: the year {row['year']!r} of {row['name']!r} is not a number") from error
        if not FIRST_YEAR <= year <= LAST_YEAR:
            raise BadInput(f"{path}: the year {year} of {name!r} does not lie between {FIRST_YEAR} and {LAST_YEAR}")
        machines.append(
            Machine(name=row["name"], title=row["title"], maker=row["maker"], chip_class=row["class"], year=year)
        )
    return machines


def read_rows(path: Path) -> list[Fact]:
    """The rows of one CSV file; BadInput names the first invalid one."""
    return [_fact(path, number, row) for number, row in enumerate(_read_csv(path, COLUMNS), start=2)]


def _fact(path: Path, number: int, row: dict[str, str]) -> Fact:
    place = f"{path}, line {number}"
    if None in row or None in row.values():
        raise BadInput(f"{place} has not {len(COLUMNS)} fields")
    try:
        value = float(row["value"])
        low = float(row["low"] or row["value"])
        high = float(row["high"] or row["value"])
    except ValueError as error:
        raise BadInput(f"{place}: value, low and high must be numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= value <= high):
        raise BadInput(f"{place}: expected low <= value <= high, all finite")
    for column, choices in (("unit", UNITS), ("kind", KINDS)):
        if row[column] not in choices:
            close = ", ".join(nearest(row[column], choices))
            raise BadInput(f"{place}: unknown {column} {row[column]!r}; the nearest known: {close}")
    if not (row["name"] and row["quantity"] and row["source"] and row["as_of"]):
        raise BadInput(f"{place}: name, quantity, source and as_of must not be empty")
    wrong = complaint(row["quantity"], row["unit"], value)
    if wrong:
        raise BadInput(f"{place}: {wrong}")
    return Fact(value=value, low=low, high=high, **{column: row[column] for column in _WORDS})


def to_csv(facts: Iterable[Fact]) -> str:
    """Rows as CSV text with a header, readable by `read_rows`."""
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for fact in facts:
        writer.writerow([getattr(fact, column) for column in COLUMNS])
    return stream.getvalue()
