"""From a chain of thought to its answer, and whether that is the right one.

answer    what stands after the last marker, such as "####"; the whole text where there is no marker to look for;
          of that all of it, its first line, or its last number
exact     the same text, white space aside
numeric   the last number in it equals the right one within 1e-6 of its size; 1,234 and 3/4 and 5e3 are numbers
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from flashstill.errors import BadInput, unknown

MATCHERS = ("exact", "numeric")
PARTS = ("all", "line", "number")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?|[-+]?\.\d+")
TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Extract:
    """Where in a chain its answer is. part: one of PARTS."""

    marker: str = ""
    part: str = "all"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise BadInput(unknown("part of a chain", self.part, PARTS))

    def __call__(self, text: str) -> str | None:
        """The answer; None where the chain never comes to its marker, or holds no number where one is wanted."""
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
    """Whether both are the same text."""
    return " ".join(answer.split()) == " ".join(right.split())


def numeric(answer: str, right: str) -> bool:
    """Whether the last numbers of both are the same."""
    ours, reference = last_number(answer), last_number(right)
    return (
        ours is not None and reference is not None and math.isclose(ours, reference, rel_tol=TOLERANCE, abs_tol=1e-12)
    )


def last_number(text: str) -> float | None:
    """The last number of a text; None where there is none, or it is a division by zero."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    above, _, below = numbers[-1].replace(",", "").partition("/")
    value, divisor = float(above), float(below) if below.strip() else 1.0
    return value / divisor if divisor else None
