"""Values of a trace's cells: times, tokens and names of blocks, as text from CSV or typed from JSON and Parquet.

Each function raises ValueError for what it does not take; the reader (reader.py) says where that stands.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flashstill.traces.formats import DATE, UNITS, WHOLE_MS

MOST_TOKENS, MOST_S = 2**31, 1e12
_EPOCH, _EPOCH_UTC = datetime(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)


def clock(unit: str) -> Callable[[Any], float]:
    """A function from a cell to seconds. unit: of UNITS, DATE or WHOLE_MS."""
    if unit == DATE:
        return _Dates()
    factor = UNITS["ms" if unit == WHOLE_MS else unit]
    whole = unit == WHOLE_MS
    parts = round(1.0 / factor)  # divided by, so that 27482 ms are 27.482 s to the bit

    def seconds(cell: Any) -> float:
        value = float(cell) if type(cell) is str else number(cell)
        if not 0.0 <= value * factor <= MOST_S or (whole and value != int(value)):
            raise ValueError
        return value if parts == 1 else value / parts

    return seconds


class _Dates:
    """Seconds since 1970 of ISO 8601, all with a time zone or all without."""

    def __init__(self) -> None:
        self.zoned: bool | None = None

    def __call__(self, cell: Any) -> float:
        date = datetime.fromisoformat(cell) if type(cell) is str else cell
        if not isinstance(date, datetime):
            raise ValueError
        zoned = date.tzinfo is not None
        if self.zoned is None:
            self.zoned = zoned
        elif zoned != self.zoned:
            raise ValueError
        return (date - (_EPOCH_UTC if zoned else _EPOCH)).total_seconds()


def is_date(cell: Any) -> bool:
    """Whether a cell is a date and no number."""
    if isinstance(cell, datetime):
        return True
    try:
        datetime.fromisoformat(cell.strip())
    except (ValueError, AttributeError):
        return False
    return not cell.strip().isdigit()  # 20240510 is both


def number(cell: Any) -> float:
    """A number, which in JSON is not a truth value or a text."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise ValueError
    try:
        value = float(cell)
    except OverflowError as error:
        raise ValueError from error
    if math.isnan(value):
        raise ValueError
    return value


def tokens(cell: Any, least: int) -> int:
    """A whole number of tokens."""
    if type(cell) is str and cell.isdecimal() and len(cell) < 10:  # nearly always, and much faster
        count = int(cell)
        if count >= least:
            return count
    value = number(cell)
    if not (least <= value <= MOST_TOKENS and value == int(value)):
        raise ValueError
    return int(value)


def names(cell: Any) -> list[Any]:
    """Names of blocks: a list of JSON, or text with spaces or commas between them."""
    if cell is None:
        return []
    if isinstance(cell, str):
        text = cell.strip()
        if not text.startswith("["):
            return text.replace(",", " ").split()
        try:
            cell = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError from error
    if not isinstance(cell, list) or not all(
        isinstance(name, int | str) and not isinstance(name, bool) for name in cell
    ):
        raise ValueError
    return cell
