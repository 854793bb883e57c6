"""From a chain of thought to its answer, and whether that is the right one.

answer    what stands after the last marker, such as "####"; the whole text where there is no marker to look for
exact     the same text, white space aside
numeric   the last number in it equals the right one within 1e-6 of its size; 1,234 and 3/4 and 5e3 are numbers
"""

from __future__ import annotations

import math
import re

MATCHERS = ("exact", "numeric")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?|[-+]?\.\d+")
TOLERANCE = 1e-6


def answer_of(text: str, marker: str) -> str | None:
    """The answer of a chain; None where it never comes to its marker."""
    if not marker:
        return text.strip()
    _, found, after = text.rpartition(marker)
    return after.strip() if found else None


def exact(answer: str, right: str) -> bool:
    """Whether both are the same text."""
    return " ".join(answer.split()) == " ".join(right.split())


def numeric(answer: str, right: str) -> bool:
    """Whether the last numbers of both are the same."""
    ours, wanted = last_number(answer), last_number(right)
    return ours is not None and wanted is not None and math.isclose(ours, wanted, rel_tol=TOLERANCE, abs_tol=1e-12)


def last_number(text: str) -> float | None:
    """The last number of a text; None where there is none, or it is a division by zero."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    above, _, below = found[-1].replace(",", "").partition("/")
    value, divisor = float(above), float(below) if below.strip() else 1.0
    return value / divisor if divisor else None
