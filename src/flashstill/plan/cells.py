"""Cells of a CSV file: text parsed into case fields, and text escaped where spreadsheets would run it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flashstill.errors import BadInput, shown
from flashstill.plan.acceptance import NOT_MEASURED
from flashstill.plan.case import TYPES, Case
from flashstill.plan.drafts import MEASURED, RATES
from flashstill.units import parse_amount, parse_count

WHOLE = frozenset(name for name, kind in TYPES.items() if kind.startswith("int"))
REAL = frozenset(name for name, kind in TYPES.items() if kind.startswith("float"))
LONGEST_NAME = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_FORMULA = re.compile(r"[=@\t\r\n\uff0b\uff0d\uff1d\uff20]|[+-](?![-+]*\Z)")


def case_of(cells: Mapping[str, str], defaults: Mapping[str, Any]) -> Case:
    """The case of a row: its non-empty cells by field, and `defaults` for all other fields.

    BadInput names the first cell that cannot be parsed.
    """
    values = dict(defaults)
    for name, text in cells.items():
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise BadInput(f"{name} is {shown(text)}, which is no text in UTF-8")
        if name in WHOLE:
            values[name] = whole(name, text)
        elif name in REAL:
            values[name] = real(name, text)
        elif len(text) > LONGEST_NAME:
            raise BadInput(f"{name} is {shown(text)}, longer than any name or path")
        else:
            values[name] = text
    if values.get("draft") and MEASURED not in cells and any(name in cells for name in RATES):
        values[MEASURED] = NOT_MEASURED  # the row's own rate counts more than records, of a file or of all rows
    return Case.of(**values)


def whole(name: str, text: str) -> int:
    """Parse a whole number such as 16, 1e3, 4k or 4Ki; BadInput for anything else."""
    number = parse_count(text)
    if number is None:
        raise BadInput(f"{name} is {shown(text)}, not a whole number that can be counted here, as 16, 4k or 4Ki")
    return number


def real(name: str, text: str) -> float:
    """Parse a finite number or a percentage, such as 0.7 or 70%; BadInput for anything else."""
    number = parse_amount(text, "1")
    if number is None:
        raise BadInput(f"{name} is {shown(text)}, not a number")
    return number


def unformulated(cell: str) -> str:
    """`cell`, prefixed with an apostrophe if a spreadsheet would run it as a formula; numbers stay unchanged."""
    if not cell or cell[0].isalnum() or not _FORMULA.match(cell):
        return cell
    return cell if _NUMBER.fullmatch(cell.removesuffix("%")) else f"'{cell}"
