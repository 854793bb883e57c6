"""Percentiles with their intervals, a row for each latency on a logarithmic axis. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.report.axes import Axis, amount, span
from flashstill.report.marks import mark
from flashstill.report.svg import BOTTOM, RIGHT, WIDTH, base_axis, figure, key_rows, text

LABEL, STEP = 92.0, 13.0
"""of names on the left; height of one percentile"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A value with the ends of its interval, of a row and a group: the 95th percentile of TTFT."""

    row: str
    label: str
    value: float
    low: float | None
    high: float | None


def intervals(bars: Sequence[Bar], x: Axis, title: str) -> str:
    """A dot for each percentile of each row, and its interval as a line; values above zero only."""
    rows, labels = list(dict.fromkeys(each.row for each in bars)), list(dict.fromkeys(each.label for each in bars))
    shown = [each for each in bars if each.value > 0.0]
    if not shown:
        return ""
    key, top = key_rows([(label, f"s{number}") for number, label in enumerate(labels, start=1)], left=4.0)
    pitch = STEP * len(labels) + 10.0
    height = top + pitch * len(rows) + BOTTOM
    ends = [end for each in shown for end in (each.value, each.low, each.high) if end is not None and end > 0.0]
    xs = x.scale(ends, LABEL, WIDTH - RIGHT, 5)
    parts = [base_axis(xs, top, height - BOTTOM, x.title, x.text)]
    for number, row in enumerate(rows):
        parts.append(text(LABEL - 8.0, top + pitch * (number + 0.5) + 4.0, row, "end"))
    for each in shown:
        place = labels.index(each.label)
        at = top + pitch * rows.index(each.row) + STEP * (place + 0.5) + 5.0
        low, high = (xs.at(each.value if end is None or end <= 0.0 else end) for end in (each.low, each.high))
        words = f"{each.row}, {each.label}: {amount(each.value, x.unit)}"
        if each.low is not None and each.high is not None:
            words += f" ({span(each.low, each.high, x.unit)})"
        path = f"M{low:.1f},{at:.1f}H{high:.1f}"
        parts.append(mark("circle", xs.at(each.value), at, words, place + 1, 3.5, path))
    return figure(title, [*parts, *key], height)
