"""Values with their intervals, one row each, and a tick at the least value that was claimed. Inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.axes import Axis, amount, span, tick_text
from flashstill.report.svg import CHARACTER, WIDTH, figure, key_rows, shortened, text
from flashstill.verdicts import HOLDS, MISSED, NOT_SHOWN, in_words

PITCH, FOOT = 22.0, 40.0
END = 16.0
"""free units on the right"""
KINDS = {HOLDS: "s3", MISSED: "s2", NOT_SHOWN: "s4"}
"""colour of a claimed minimum by the verdict on it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Whisker:
    """A row: its name, its value (None: nothing was measured), the ends of its interval, the claimed minimum and the
    verdict on it (verdicts.py)."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    bar: float | None = None
    verdict: str = ""


def whiskers(rows: Sequence[Whisker], axis: Axis, title: str, width: float = WIDTH) -> str:
    """The rows from top to bottom; "" if nothing was measured."""
    shown = [end for row in rows for end in (row.value, row.low, row.high, row.bar) if axis.shown(end)]
    if not shown:
        return ""
    has_bars = any(row.bar is not None for row in rows)
    drawn = [("value and interval", "s1")]
    drawn += [
        (f"claimed minimum, {each}", kind) for each, kind in KINDS.items() if each in {row.verdict for row in rows}
    ]
    key, top = key_rows(drawn, width, 4.0) if has_bars else ([], 4.0)
    label = min(0.9 * CHARACTER * max(len(row.name) for row in rows) + 10.0, 0.62 * width)
    xs = axis.scale([*shown, *([0.0] if axis.from_zero else [])], label, width - END, 5)
    foot = top + PITCH * len(rows)
    parts = [*key]
    for tick in xs.ticks:
        at = xs.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top:g}" y2="{foot:.1f}"/>')
        words = tick_text(tick, axis.unit)
        parts.append(text(min(at, width - CHARACTER * len(words) / 2.0), foot + 15.0, words, "middle"))
    parts.append(text((label + width - END) / 2.0, foot + FOOT - 8.0, axis.title, "middle"))
    for number, row in enumerate(rows):
        middle = top + PITCH * (number + 0.5)
        parts.append(text(label - 8.0, middle + 4.0, shortened(row.name, (label - 8.0) / 0.9), "end"))
        marks = []
        if row.low is not None and row.high is not None and axis.shown(row.low) and axis.shown(row.high):
            marks.append(
                f'<line class="line s1" x1="{xs.at(row.low):.1f}" x2="{xs.at(row.high):.1f}" y1="{middle:.1f}"'
                f' y2="{middle:.1f}"/>'
            )
        if row.bar is not None and axis.shown(row.bar):
            at, kind = xs.at(row.bar), KINDS[row.verdict]
            marks.append(
                f'<line class="limit {kind}" x1="{at:.1f}" x2="{at:.1f}" y1="{middle - 8.0:.1f}"'
                f' y2="{middle + 8.0:.1f}"/>'
            )
        if row.value is not None and axis.shown(row.value):
            marks.append(f'<circle class="dot s1" cx="{xs.at(row.value):.1f}" cy="{middle:.1f}" r="4"/>')
        parts.append(f"<g><title>{escape(said(row, axis.unit))}</title>{''.join(marks)}</g>")
    return figure(title, parts, foot + FOOT, width)


def said(row: Whisker, unit: str) -> str:
    """A row in words, for hover and for those who hear the page."""
    if row.value is None:
        return f"{row.name}: not measured"
    words = f"{row.name}: {amount(row.value, unit)}"
    if row.low is not None and row.high is not None:
        words += f" ({span(row.low, row.high, unit)})"
    if row.bar is not None:
        words += f"; at least {amount(row.bar, unit)} was claimed, which {in_words(row.verdict)}"
    return words
