"""Whether a figure bears out the least value that was claimed of it: decided by its 95 % interval, never by its mean.

    holds       the whole interval is at or above the bar
    missed      the whole interval is below the bar
    not shown   the interval holds the bar, or there is none (one seed, a share of nothing)

A share of a difference (`given`) says nothing where the difference itself may be zero: it is then not shown either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HOLDS, MISSED, NOT_SHOWN = "holds", "missed", "not shown"
_VERBS = {HOLDS: "holds", MISSED: "is missed", NOT_SHOWN: "is not shown"}


def verdict(figure: Mapping[str, Any], figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The verdict on one of a study's `figures`; "" if nothing was claimed of it.

    A figure has value, low and high, each of them a number or None, and may have `bar`, the least value claimed, and
    `given`, the name of another of the figures, whose interval must be above zero.
    """
    if figure.get("bar") is None:
        return ""
    given = figures.get(figure.get("given") or "")
    if figure["value"] is None or figure["low"] is None or (given is not None and not _above(given, 0.0)):
        return NOT_SHOWN
    if figure["low"] >= figure["bar"]:
        return HOLDS
    return MISSED if figure["high"] < figure["bar"] else NOT_SHOWN


def _above(figure: Mapping[str, Any], least: float) -> bool:
    return figure["low"] is not None and bool(figure["low"] > least)


def in_words(verdict: str) -> str:
    """A verdict as a verb: "holds", "is missed", "is not shown"."""
    return _VERBS[verdict]
