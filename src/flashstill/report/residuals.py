"""A small page without scripts: predicted against measured latencies, their residuals, and all numbers.

For each quantity two drawings: predicted over measured, both logarithmic, with the 80 % band of each prediction and the
line on which they agree; and the error (predicted / measured - 1) over the requests in flight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flashstill.units import show

Row = Mapping[str, Any]
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 320, 62, 40, 24, 14
TICKS = (1.0, 2.0, 5.0)
WORDS = ("model", "chip")
"""columns of text, aligned to the left"""
_STYLE = """
:root { --ink: #1b1b19; --soft: #77766f; --paper: #fcfcfa; --line: #e2e1da; --accent: #1f66bd; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececea; --soft: #a9a8a2; --paper: #171716; --line: #383733;
 --accent: #79b0f2; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem; background: var(--paper); color: var(--ink);
 font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
svg { width: 100%; max-width: 27rem; height: auto; } svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); } .same { stroke: var(--soft); stroke-dasharray: 4 3; }
.band { stroke: var(--accent); opacity: .45; } .dot { fill: var(--accent); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); } td.word, th.word { text-align: left; }
"""


class _Axis:
    """Maps values to places, logarithmically or not, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], start: float, end: float, is_log: bool) -> None:
        self._is_log, self._start, self._end = is_log, start, end
        low, high = min(values), max(values)
        if is_log:
            low, high = math.log10(low) - 0.06, math.log10(high) + 0.06
        else:
            margin = 0.08 * (high - low) or 0.1
            low, high = low - margin, high + margin
        self._low, self._high = low, high

    def at(self, value: float) -> float:
        """The place of a value."""
        place = math.log10(value) if self._is_log else value
        return self._start + (self._end - self._start) * (place - self._low) / (self._high - self._low)

    def ticks(self) -> list[float]:
        """Round numbers inside the axis."""
        if self._is_log:
            powers = range(math.floor(self._low), math.ceil(self._high) + 1)
            wide = self._high - self._low > 2.0
            found = [step * 10.0**power for power in powers for step in (TICKS[:1] if wide else TICKS)]
            return [value for value in found if self._low <= math.log10(value) <= self._high]
        rough = (self._high - self._low) / 5.0
        step = 10.0 ** math.floor(math.log10(rough))
        step *= next(factor for factor in (1.0, 2.0, 5.0, 10.0) if step * factor >= rough)
        first = math.ceil(self._low / step)
        return [step * number for number in range(first, math.floor(self._high / step) + 1)]


def residual_page(title: str, names: Mapping[str, str], rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """The page as HTML. names: quantity -> its name; rows: as `flashstill validate --measured --json` has them."""
    parts = [
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='color-scheme' content='light dark'>",
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
    ]
    for quantity, name in names.items():
        own = [row for row in rows if row["quantity"] == quantity]
        if own:
            mean = sum(abs(row["error"]) for row in own) / len(own)
            inside = sum(row["low"] <= row["measured"] <= row["high"] for row in own)
            parts += [
                f"<h2>{escape(name.capitalize())}</h2>",
                f"<p>Mean error {mean:.1%} over {len(own):,} rows; {inside:,} of them in the 80 % band.</p>",
                agreement_svg(own), residuals_svg(own), _table(own),
            ]  # fmt: skip
    return "\n".join([*parts, "</body></html>\n"])


def agreement_svg(rows: Sequence[Row]) -> str:
    """Predicted over measured seconds with the bands."""
    values = [row[key] for row in rows for key in ("measured", "predicted", "low", "high")]
    x = _Axis(values, LEFT, WIDTH - RIGHT, True)
    y = _Axis(values, HEIGHT - BOTTOM, TOP, True)
    ends = (min(values), max(values))
    marks = [_line(x.at(ends[0]), y.at(ends[0]), x.at(ends[1]), y.at(ends[1]), "same")]
    for row in rows:
        marks += [
            _line(x.at(row["measured"]), y.at(row["low"]), x.at(row["measured"]), y.at(row["high"]), "band"),
            _dot(x.at(row["measured"]), y.at(row["predicted"]), row),
        ]
    seconds = lambda value: show(value, "s")
    return _svg("predicted over measured", x, y, seconds, seconds, "measured", "predicted", marks)


def residuals_svg(rows: Sequence[Row]) -> str:
    """Relative errors over the requests in flight."""
    x = _Axis([row["concurrency"] for row in rows], LEFT, WIDTH - RIGHT, True)
    y = _Axis([0.0, *(row["error"] for row in rows)], HEIGHT - BOTTOM, TOP, False)
    marks = [_line(LEFT, y.at(0.0), WIDTH - RIGHT, y.at(0.0), "same")]
    marks += [_dot(x.at(row["concurrency"]), y.at(row["error"]), row) for row in rows]
    whole, percent = (lambda value: f"{value:,.6g}"), (lambda value: f"{value:+.0%}")
    return _svg("error over requests in flight", x, y, whole, percent, "requests in flight", "error", marks)


def _svg(label: str, x: _Axis, y: _Axis, x_text: Any, y_text: Any, x_name: str, y_name: str, marks: list[str]) -> str:
    low = HEIGHT - BOTTOM
    grid = [_line(x.at(tick), TOP, x.at(tick), low, "grid") for tick in x.ticks()]
    grid += [_line(LEFT, y.at(tick), WIDTH - RIGHT, y.at(tick), "grid") for tick in y.ticks()]
    texts = [_text(x.at(tick), low + 15, "middle", x_text(tick)) for tick in x.ticks()]
    texts += [_text(LEFT - 6, y.at(tick) + 4, "end", y_text(tick)) for tick in y.ticks()]
    texts += [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", x_name), _text(LEFT, 14, "start", y_name)]
    inner = "".join([*grid, *texts, *marks])
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(label)}'>{inner}</svg>"


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f"<line class='{kind}' x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'/>"


def _dot(x: float, y: float, row: Row) -> str:
    told = f"line {row['line']}: {row['model']}, {row['concurrency']:,} in flight, {row['error']:+.1%}"
    return f"<circle class='dot' cx='{x:.1f}' cy='{y:.1f}' r='3.5'><title>{escape(told)}</title></circle>"


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(text)}</text>"


def _table(rows: Sequence[Row]) -> str:
    heading = ("line", *WORDS, "in flight", "measured", "predicted", "80 % band", "error")
    lines = [
        (str(row["line"]), row["model"], row["chip"], f"{row['concurrency']:,}", show(row["measured"], "s"),
         show(row["predicted"], "s"), f"{show(row['low'], 's')} to {show(row['high'], 's')}", f"{row['error']:+.1%}")
        for row in rows
    ]  # fmt: skip
    head = "".join(_cell("th", name, name) for name in heading)
    body = "".join(
        f"<tr>{''.join(_cell('td', name, text) for name, text in zip(heading, line, strict=True))}</tr>"
        for line in lines
    )
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _cell(tag: str, name: str, text: str) -> str:
    return f"<{tag}{' class=word' if name in WORDS else ''}>{escape(text)}</{tag}>"
