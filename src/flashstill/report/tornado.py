"""A tornado: what a figure becomes at the low and high end of each of its inputs, the widest on top. Inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.amounts import dollars
from flashstill.report.axes import snug
from flashstill.report.svg import WIDTH, Scale, base_axis, figure, shortened, text

TOP, PITCH, BAR, BOTTOM, LABEL, MARGIN = 26.0, 24.0, 15.0, 40.0, 226.0, 14.0
MOST = 16
"""rows drawn; the table has all"""
LOG_FROM = 30.0
"""ratio of the largest to the smallest figure from which the axis is logarithmic"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """An input: the figure at the low and at the high end of the input's range; None where it is never reached."""

    name: str
    low: float | None
    high: float | None


def width_of(driver: Driver, base: float) -> float:
    """How far the ends of a driver lie apart, its base included; infinite where one is never reached."""
    if driver.low is None or driver.high is None:
        return math.inf
    ends = (base, driver.low, driver.high)
    return max(ends) - min(ends)


def tornado(
    drivers: Sequence[Driver],
    base: float,
    x_title: str,
    title: str,
    show: Callable[[float], str] = dollars,
    ends: tuple[str, str] = ("at its low end", "at its high end"),
) -> str:
    """A row for each driver around the base, sorted by width, the widest first; "" without drivers.

    A figure that is never reached (None) is drawn paler and to the right edge.  ends: what the two ends of an input
    are called.
    """
    drawn = sorted(drivers, key=lambda each: -width_of(each, base))[:MOST]
    if not drawn:
        return ""
    values = [base, *(end for each in drawn for end in (each.low, each.high) if end is not None)]
    log = min(values) > 0.0 and max(values) / min(values) >= LOG_FROM
    xs = snug(values, LABEL, WIDTH - MARGIN, log, 4)
    height = TOP + PITCH * len(drawn) + BOTTOM
    foot, middle = height - BOTTOM, xs.at(base)
    parts = [base_axis(xs, TOP, foot, x_title, show)]
    for number, each in enumerate(drawn):
        top = TOP + PITCH * number + (PITCH - BAR) / 2.0
        words = f"{each.name}: {_end(each.low, show)} {ends[0]}, {_end(each.high, show)} {ends[1]}"
        bars = "".join(_side(end, colour, middle, xs, top) for colour, end in ((1, each.low), (2, each.high)))
        parts.append(f"<g><title>{escape(words)}</title>{bars}</g>")
        parts.append(text(LABEL - 8, top + 12, shortened(each.name, LABEL - 12.0), "end"))
    parts.append(f'<line class="mark" x1="{middle:.1f}" x2="{middle:.1f}" y1="{TOP - 4}" y2="{foot}"/>')
    for at, colour, word in ((LABEL - 60.0, 1, ends[0]), (LABEL + 90.0, 2, ends[1])):
        parts.append(f'<circle class="dot s{colour}" cx="{at + 4:.0f}" cy="11" r="4"/>')
        parts.append(text(at + 12, 15, word))
    return figure(title, parts, height)


def _end(value: float | None, show: Callable[[float], str]) -> str:
    return "never" if value is None else show(value)


def _side(value: float | None, number: int, middle: float, xs: Scale, top: float) -> str:
    left, right = sorted((middle, xs.end if value is None else xs.at(value)))
    kind = "bar open" if value is None else "bar"
    return f'<rect class="{kind} s{number}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{BAR:g}"/>'
