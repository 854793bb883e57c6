"""Small charts as inline SVG: lines over a number, and percentiles with their intervals. No script is needed.

Colours are those of the page's style (`--series-1` and on), for light and for dark; everything that is text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.amounts import short

WIDTH, HEIGHT = 480.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 12.0, 26.0, 40.0
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A value with the ends of its interval, of a row and a group: the 95th percentile of TTFT."""

    row: str
    label: str
    value: float
    low: float | None
    high: float | None


def lines(
    series: Sequence[Line], x_title: str, title: str, marks: Sequence[tuple[float, str]] = (), log_y: bool = False
) -> str:
    """Lines over one axis, with marks: vertical lines at a number, with a word."""
    points = [(x, y) for each in series for x, y in each.points if y is not None and (not log_y or y > 0.0)]
    if not points:
        return ""
    xs = Scale.over([*(x for x, _ in points), *(x for x, _ in marks)], LEFT, WIDTH - RIGHT)
    ys = Scale.over([*(y for _, y in points), *(() if log_y else (0.0,))], HEIGHT - BOTTOM, TOP, log_y)
    parts = [axes(xs, ys, x_title)]
    for place, word in marks:
        at = xs.at(place)
        side = "end" if at > (LEFT + WIDTH) / 2.0 else "start"
        parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        shift = -4.0 if side == "end" else 4.0
        parts.append(f'<text x="{at + shift:.1f}" y="{TOP + 11}" text-anchor="{side}">{escape(word)}</text>')
    for number, each in enumerate(series, start=1):
        for run in _runs(each.points, log_y):
            path = " ".join(f"{xs.at(x):.1f},{ys.at(y):.1f}" for x, y in run)
            parts.append(f'<polyline class="line s{number}" points="{path}"/>')
            if each.dots or len(run) == 1:
                parts += [
                    f'<circle class="dot s{number}" cx="{xs.at(x):.1f}" cy="{ys.at(y):.1f}" r="3"/>' for x, y in run
                ]
    names = [each.name for each in series] if len(series) > 1 else []
    return figure(title, [*parts, *legend(names)], HEIGHT)


def intervals(bars: Sequence[Bar], x_title: str, title: str) -> str:
    """A row for each latency on a logarithmic axis: a dot for each percentile, and its interval as a line."""
    rows, labels = list(dict.fromkeys(each.row for each in bars)), list(dict.fromkeys(each.label for each in bars))
    shown = [each for each in bars if each.value > 0.0]
    if not shown:
        return ""
    left, pitch = 92.0, 13.0 * len(labels) + 10.0
    height = TOP + pitch * len(rows) + BOTTOM
    ends = [end for each in shown for end in (each.value, each.low, each.high) if end is not None and end > 0.0]
    xs = Scale.over(ends, left, WIDTH - RIGHT, log=True)
    parts = [base_axis(xs, TOP, height - BOTTOM, x_title)]
    for number, row in enumerate(rows):
        middle = TOP + pitch * (number + 0.5)
        parts.append(f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{escape(row)}</text>')
    for each in shown:
        place = labels.index(each.label)
        at = TOP + pitch * rows.index(each.row) + 13.0 * (place + 0.5) + 5.0
        low, high = (each.value if end is None or end <= 0.0 else end for end in (each.low, each.high))
        words = f"{each.row}, {each.label}: {each.value:.4g}"
        parts.append(
            f'<g class="s{place + 1}"><title>{escape(words)}</title>'
            f'<line class="line" x1="{xs.at(low):.1f}" x2="{xs.at(high):.1f}" y1="{at}" y2="{at}"/>'
            f'<circle class="dot" cx="{xs.at(each.value):.1f}" cy="{at}" r="3.5"/></g>'
        )
    return figure(title, [*parts, *legend(labels)], height)


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
    def exact(cls, values: Sequence[float], begin: float, end: float) -> Scale:
        """A logarithmic scale from the least to the greatest value, with the ticks between them."""
        low, high = min(values), max(values)
        if high <= low:
            return cls.over(values, begin, end, log=True)
        ticks = tuple(tick for tick in _log_ticks(low, high) if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9))
        return cls(low, high, begin, end, ticks, True)

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
            share = math.log(value / self.low) / math.log(self.high / self.low)
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


def _runs(points: Sequence[tuple[float, float | None]], log: bool) -> list[list[tuple[float, float]]]:
    """Points without gaps between them."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or (log and y <= 0.0):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def axes(
    xs: Scale,
    ys: Scale,
    x_title: str,
    y_text: Callable[[float], str] = short,
    height: float = HEIGHT,
    x_text: Callable[[float], str] = short,
) -> str:
    """The grid, ticks and titles of the plot's frame."""
    parts = []
    for tick in ys.ticks:
        at = ys.at(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(y_text(tick))}</text>')
    for tick in xs.ticks:
        at, foot = xs.at(tick), height - BOTTOM
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{foot}" y2="{foot + 4}"/>')
        parts.append(_below(at, foot + 16, x_text(tick)))
    middle = (LEFT + WIDTH - RIGHT) / 2.0
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(x_title)}</text>')
    return "".join(parts)


def base_axis(xs: Scale, top: float, foot: float, x_title: str, show: Callable[[float], str] = short) -> str:
    """Vertical grid lines with their ticks and title below, for charts of rows."""
    ticks = xs.ticks[:: 1 if len(xs.ticks) <= 6 else 2]
    parts = [
        f'<line class="grid" x1="{xs.at(tick):.1f}" x2="{xs.at(tick):.1f}" y1="{top:g}" y2="{foot:g}"/>'
        f"{_below(xs.at(tick), foot + 15, show(tick))}"
        for tick in ticks
    ]
    return "".join([*parts, text((xs.begin + xs.end) / 2.0, foot + BOTTOM - 7, x_title, "middle")])


def _below(x: float, y: float, words: str) -> str:
    """Words under a tick, kept inside the drawing."""
    half = 1.0 + 8.0 * len(words) / 2.0
    return text(min(x, WIDTH - half), y, words, "middle")


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words at a place, escaped; kind: a class of the style."""
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def legend(names: Sequence[str]) -> list[str]:
    """A dot and a name for each series, in one row above the plot."""
    parts, at = [], LEFT
    for number, name in enumerate(names, start=1):
        parts.append(f'<circle class="dot s{number}" cx="{at + 4:.0f}" cy="11" r="4"/>')
        parts.append(f'<text x="{at + 12:.0f}" y="15">{escape(name)}</text>')
        at += 26.0 + CHARACTER * len(name)
    return parts


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
    """The whole drawing, with its title for those who hear the page."""
    return (
        f'<svg class="chart{" wide" if width > 1.2 * WIDTH else ""}" viewBox="0 0 {width:g} {height:g}" role="img"'
        f' aria-label="{escape(title)}">' + "".join(parts) + "</svg>"
    )
