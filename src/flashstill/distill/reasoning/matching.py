"""Extracts the answer from a chain of thought and compares it with the right one.

answer    the text after the last marker, such as "####", or the whole text if the marker is empty; of it all, the
          first line, or the last number
exact     equal text, ignoring white space
numeric   its last number equals the right one within a relative 1e-6; 1,234 and 3/4 and 5e3 are numbers
expression   see expressions.py
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from flashstill.errors import BadInput, unknown

EXPRESSION = "expression"
MATCHERS = ("exact", "numeric", EXPRESSION)
PARTS = ("all", "line", "number")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?|[-+]?\.\d+")
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Extract:
    """How to find the answer in a chain. part: one of PARTS."""

    marker: str = ""
    part: str = "all"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise BadInput(unknown("part of a chain", self.part, PARTS))

    def __call__(self, text: str) -> str | None:
        """The answer; None if the chain lacks the marker, or the number that `part` asks for."""
        if self.marker:
            _, marker, text = text.rpartition(self.marker)
            if not marker:
                return None
        text = text.strip()
        if self.part == "number":
            numbers = _NUMBER.findall(text)
            return numbers[-1].replace(",", "") if numbers else None
        return text.split("\n")[0].strip() if self.part == "line" else text


def exact(answer: str, right: str) -> bool:
    """Whether both texts are equal, ignoring white space."""
    return " ".join(answer.split()) == " ".join(right.split())


def numeric(answer: str, right: str) -> bool:
    """Whether the last numbers of both texts are equal."""
    ours, reference = last_number(answer), last_number(right)
    return (
        ours is not None and reference is not None and math.isclose(ours, reference, rel_tol=TOLERANCE, abs_tol=1e-12)
    )


def last_number(text: str) -> float | None:
    """The last number of a text; None if there is none, or it is a division by zero."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    above, _, below = numbers[-1].replace(",", "").partition("/")
    value, divisor = float(above), float(below) if below.strip() else 1.0
    return value / divisor if divisor else None
