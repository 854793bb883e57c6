"""Cells of a CSV file: text into the fields of a case, and text that no spreadsheet takes for a formula."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flashstill.errors import BadInput, shown
from flashstill.plan.case import TYPES, Case
from flashstill.units import parse_amount, parse_count

WHOLE = frozenset(name for name, kind in TYPES.items() if kind.startswith("int"))
REAL = frozenset(name for name, kind in TYPES.items() if kind.startswith("float"))
LONGEST_NAME = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_FORMULA = re.compile(r"[=@\t\r\n\uff0b\uff0d\uff1d\uff20]|[+-](?![-+]*\Z)")


def case_of(cells: Mapping[str, str], defaults: Mapping[str, Any]) -> Case:
    """The case of a row's cells by field, empty ones left out, over what is given for all rows.

    BadInput names the first cell that cannot be read.
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
    return Case.of(**values)


def whole(name: str, text: str) -> int:
    """A whole number, as 16, 1e3, 4k or 4Ki; BadInput for anything else."""
    number = parse_count(text)
    if number is None:
        raise BadInput(f"{name} is {shown(text)}, not a whole number that can be counted here, as 16, 4k or 4Ki")
    return number


def real(name: str, text: str) -> float:
    """A finite number or a share, as 0.7 or 70%; BadInput for anything else."""
    number = parse_amount(text, "1")
    if number is None:
        raise BadInput(f"{name} is {shown(text)}, not a number")
    return number


def unformulated(cell: str) -> str:
    """`cell` behind an apostrophe where a spreadsheet would run it as a formula; numbers stay as they are."""
    if not cell or cell[0].isalnum() or not _FORMULA.match(cell):
        return cell
    return cell if _NUMBER.fullmatch(cell.removesuffix("%")) else f"'{cell}"
