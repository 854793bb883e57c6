"""What charts share: scales from values to places, ticks, words, legends and the drawing itself. Inline SVG.

Colours are those of the page's style (`--series-1` and on), for light and for dark; everything that is text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from flashstill.report.amounts import short

WIDTH = 480.0
LEFT, RIGHT, BOTTOM = 56.0, 12.0, 40.0
"""of the plot's frame, in units of the view box"""
CHARACTER = 8.2
"""room for a character, in the same units: enough for the larger text of a narrow screen"""
_HOURS = (1, 3, 6, 12, 24, 48, 120, 168, 336, 730, 1460, 2190, 4380, 8760)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A series: its name and its points; a value of None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to places, linear or logarithmic."""

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float, log: bool = False) -> Scale:
        low, high = min(values), max(values)
        if log:
            ticks = _log_ticks(low, high)
            return cls(ticks[0], ticks[-1], begin, end, ticks, True)
        high = high if high > low else low + 1.0
        step = _step((high - low) / 4.0)
        first = math.floor(low / step)
        ticks = tuple(step * number for number in range(first, math.ceil(high / step - 1e-9) + 1))
        return cls(ticks[0], ticks[-1], begin, end, ticks, False)

    @classmethod
    def hours(cls, span: float, begin: float, end: float) -> Scale:
        """Exactly so many hours from 0 on, with ticks at whole hours, days, weeks or months."""
        pace = next((each for each in _HOURS if span / each <= 9.0), _HOURS[-1] * math.ceil(span / _HOURS[-1] / 9.0))
        return cls(
            0.0, span, begin, end, tuple(float(pace * tick) for tick in range(math.floor(span / pace) + 1)), False
        )

    def at(self, value: float) -> float:
        """The place of a value."""
        if self.log:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    """Ticks around positive values: 1, 2 and 5 times powers of ten, or powers of ten alone over two decades or more."""
    begins, ends = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if math.log10(high / low) < 2.0:
        powers = [factor * 10.0**power for power in range(begins, ends + 1) for factor in (1.0, 2.0, 5.0)]
        first = max(number for number, tick in enumerate(powers) if tick <= low * (1 + 1e-9))
        last = min(number for number, tick in enumerate(powers) if tick >= high * (1 - 1e-9))
        if last > first:
            return tuple(powers[first : last + 1])
        return tuple(powers[first : first + 2])
    pace = -(-(ends - begins) // 7)
    return tuple(10.0**power for power in range(begins, begins + pace * -(-(ends - begins) // pace) + 1, pace))


def _step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least this."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


def shortened(name: str, room: float) -> str:
    """A name that fits into so many units, its end left out if need be."""
    most = max(int(room / CHARACTER), 2)
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def base_axis(xs: Scale, top: float, foot: float, x_title: str, show: Callable[[float], str] = short) -> str:
    """Vertical grid lines with their ticks and title below, for charts of rows; as many ticks have words as fit."""
    ticks = xs.ticks[:: 1 if len(xs.ticks) <= 6 else 2]
    words = [_below(xs.at(tick), show(tick)) for tick in ticks]
    pace = next(pace for pace in range(1, len(ticks) + 1) if _are_apart(words[::pace])) if ticks else 1
    parts = [
        f'<line class="grid" x1="{xs.at(tick):.1f}" x2="{xs.at(tick):.1f}" y1="{top:g}" y2="{foot:g}"/>'
        for tick in ticks
    ]
    parts += [text(at, foot + 15, word, "middle") for at, word in words[::pace]]
    return "".join([*parts, text((xs.begin + xs.end) / 2.0, foot + BOTTOM - 7, x_title, "middle")])


def _below(x: float, words: str) -> tuple[float, str]:
    """Words under a tick and their middle, kept inside the drawing."""
    return min(x, WIDTH - 1.0 - CHARACTER * len(words) / 2.0), words


def _are_apart(words: Sequence[tuple[float, str]]) -> bool:
    """Whether there is room between words around their middles."""
    return all(
        right - left >= CHARACTER * (len(first) + len(second)) / 2.0
        for (left, first), (right, second) in pairwise(words)
    )


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words at a place, escaped; kind: a class of the style."""
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def key_rows(names: Sequence[tuple[str, str]], width: float = WIDTH, left: float = LEFT) -> tuple[list[str], float]:
    """A legend of (name, class of the style) in as many rows as it needs, and where it ends."""
    parts, at, row = [], left, 0
    for name, kind in names:
        shown = shortened(name, width - left - 30.0)
        room = 24.0 + CHARACTER * len(shown)
        if at + room - 10.0 > width and at > left:
            at, row = left, row + 1
        y = 11.0 + 17.0 * row
        parts.append(f'<rect class="key {kind}" x="{at:.0f}" y="{y - 5:.0f}" width="10" height="10" rx="2"/>')
        parts.append(text(at + 14.0, y + 4.0, shown))
        at += room
    return parts, 11.0 + 17.0 * (row + 1)


def figure(title: str, parts: Sequence[str], height: float, width: float = WIDTH) -> str:
    """The whole drawing, with its title for those who hear the page.

    One that is much wider than others keeps its size, and scrolls in its card.
    """
    size = f' wide" width="{1.1 * width:.0f}"' if width > 1.2 * WIDTH else '"'
    return (
        f'<svg class="chart{size} viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        + "".join(parts)
        + "</svg>"
    )
