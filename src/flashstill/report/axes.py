"""Axes of charts: linear or logarithmic on both sides, with ticks that a reader can say: 1 µs, 10 ms, 1 kJ, $0.10.

An axis knows its unit; a frame knows where the plot is. Scales map values to places (svg.Scale).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flashstill.report.amounts import dollars, short, tokens
from flashstill.report.svg import CHARACTER, Scale, text
from flashstill.units import show

TITLE, FOOT = 18.0, 40.0
"""height of the y axis' title above the plot; of ticks and title below it"""
EDGE = 12.0
"""free units right of the plot"""
_SI = ("s", "J", "W", "B", "B/s", "FLOP", "FLOP/s", "V", "Hz", "m")
_WRITTEN_OUT = 1e-6
"""dollars from which on a tick is written without a power of ten"""
_MARGIN = 0.04
"""of the axis' length, left free beyond the least and the greatest value"""


YEAR = "calendar year"
"""unit of an axis of years, which have no prefixes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """What an axis shows: its title; the unit of its ticks; logarithmic or not; zero in view; greatest value first.

    unit: "1" (250, 12k), "tokens" (2M, 3B), "ratio" (40 %), YEAR (2028), "USD", "s", "J", "W", "B", "B/s",
    "FLOP/s" (with prefixes), or any other word, which is written after the number.
    """

    title: str
    unit: str = "1"
    log: bool = False
    from_zero: bool = False
    is_reversed: bool = False
    word: str = ""

    @property
    def name(self) -> str:
        """A word for the axis on hover, where its title is long."""
        return self.word or self.title

    def text(self, value: float) -> str:
        """The text of a tick."""
        return tick_text(value, self.unit)

    def shown(self, value: float | None) -> bool:
        """Whether a value has a place on this axis."""
        return value is not None and math.isfinite(value) and (not self.log or value > 0.0)

    def scale(self, values: Iterable[float | None], begin: float, end: float, most: int = 6) -> Scale:
        """The scale over the values that have a place, at most about so many ticks; raises ValueError without one."""
        known = [float(value) for value in values if value is not None and self.shown(value)]
        if not known:
            raise ValueError(f"no value of {self.title} has a place on its axis")
        if self.from_zero and not self.log:
            known.append(0.0)
        return snug(known, *((end, begin) if self.is_reversed else (begin, end)), self.log, most)


def tick_text(value: float, unit: str) -> str:
    """The text of a tick: 10 ms, $0.10, 2M, 40 %."""
    if unit == "USD":
        words = dollars(float(f"{value:.4g}"))
        if 0.0 < abs(value) < _WRITTEN_OUT:
            return f"${value:.0e}".replace("e-0", "e-")
        return words.rstrip("0").rstrip(".") if "." in words and abs(value) < 0.01 else words
    if unit in _SI:
        return "0" if value == 0.0 else _prefixed(value, unit, 4)
    if unit == "tokens":
        return tokens(value)
    if unit == "ratio":
        return f"{100.0 * value:.4g} %"
    if unit == YEAR:
        return f"{value:.6g}"
    return short(value) if unit in ("1", "") else f"{short(value)} {unit}"


def amount(value: float, unit: str) -> str:
    """A value in three figures with its unit, for hover texts and tables."""
    if unit == "USD":
        return dollars(value) if abs(value) >= _WRITTEN_OUT or value == 0.0 else f"${value:.3g}"
    if unit in ("ratio", "tokens"):
        return tick_text(float(f"{value:.3g}"), unit)
    if unit == YEAR:
        return tick_text(value, unit)
    if unit in _SI:
        return _prefixed(value, unit, 3)
    return f"{short(float(f'{value:.4g}'))} {'' if unit == '1' else unit}".strip()


def span(low: float, high: float, unit: str) -> str:
    """Both ends of an interval, their unit once where it is the same: 12.3 to 45 ms."""
    first, last = amount(low, unit), amount(high, unit)
    (number, _, word), (_, _, other) = first.partition(" "), last.partition(" ")
    return f"{number if word and word == other else first} to {last}"


def _prefixed(value: float, unit: str, digits: int) -> str:
    """With a prefix of the unit; nobody counts in kiloseconds."""
    return f"{value:,.0f} s" if unit == "s" and abs(value) >= 1e3 else show(value, unit, digits)


def snug(values: Sequence[float], begin: float, end: float, log: bool, most: int = 6) -> Scale:
    """A scale from the least to the greatest value with a small margin, with the readable ticks between them."""
    low, high = min(values), max(values)
    if log:
        if high <= low * (1.0 + 1e-9):
            low, high = low / 2.0, high * 2.0
        margin = math.exp(_MARGIN * (math.log(high) - math.log(low)))  # their ratio may be beyond a double
        low, high = max(low / margin, sys.float_info.min), min(high * margin, sys.float_info.max)
        return Scale(low, high, begin, end, log_ticks(low, high, most), True)
    if high <= low:
        low, high = (low - 0.5 * abs(low), high + 0.5 * abs(high)) if low else (0.0, 1.0)
    margin = _MARGIN * (high - low)
    low, high = (low if low == 0.0 else low - margin), (high if high == 0.0 else high + margin)
    return Scale(low, high, begin, end, linear_ticks(low, high, most), False)


def log_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Powers of ten, round steps between them, or even steps: two to `most` ticks between positive values."""
    most_power = sys.float_info.max_10_exp - 1  # of which a double has also the multiples
    decades = range(max(math.floor(math.log10(low)) - 1, -most_power), min(math.ceil(math.log10(high)), most_power) + 1)
    for factors in ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        ticks = _within((factor * 10.0**power for power in decades for factor in factors), low, high)
        if 2 <= len(ticks) <= most:
            return ticks
    powers = _within((10.0**power for power in decades), low, high)
    if len(powers) >= 2:
        return powers[:: -(-len(powers) // most)]
    return linear_ticks(low, high, most)


def linear_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten between two values."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 5.0, 10.0):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first <= most:
            break
    return tuple(step * number for number in range(first, last + 1))


def _within(ticks: Iterable[float], low: float, high: float) -> tuple[float, ...]:
    return tuple(tick for tick in ticks if low * (1.0 - 1e-9) <= tick <= high * (1.0 + 1e-9))


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """The plot inside a drawing: its edges, and the scales of its two axes."""

    left: float
    right: float
    top: float
    foot: float
    xs: Scale
    ys: Scale

    @classmethod
    def around(
        cls,
        x: Axis,
        y: Axis,
        x_values: Iterable[float | None],
        y_values: Iterable[float | None],
        box: tuple[float, float, float, float],
        most: int = 6,
    ) -> Frame:
        """A frame in a box (left, top, right, bottom) that leaves room for the ticks and titles of both axes."""
        left, top, right, bottom = box
        top, foot = top + TITLE, bottom - FOOT
        ys = y.scale(y_values, foot, top, most)
        left += 10.0 + CHARACTER * max((len(tick_text(tick, y.unit)) for tick in ys.ticks), default=1)
        xs = x.scale(x_values, left, right - EDGE, most)
        return cls(left=left, right=right - EDGE, top=top, foot=foot, xs=xs, ys=ys)

    def drawn(self, x: Axis, y: Axis) -> list[str]:
        """Grid, ticks and titles."""
        across = [f"M{self.left:.1f},{self.ys.at(tick):.1f}H{self.right:.1f}" for tick in self.ys.ticks]
        down = [f"M{self.xs.at(tick):.1f},{self.top:.1f}V{self.foot:.1f}" for tick in self.xs.ticks]
        parts = [f'<path class="grid" d="{"".join([*across, *down])}"/>']
        for tick in self.ys.ticks:
            at = self.ys.at(tick)
            parts.append(text(self.left - 6.0, at + 4.0, tick_text(tick, y.unit), "end"))
        ends = -math.inf
        for tick in sorted(self.xs.ticks, key=self.xs.at):
            at, words = self.xs.at(tick), tick_text(tick, x.unit)
            half = CHARACTER * len(words) / 2.0
            centre = min(at, self.right + EDGE - half)
            if centre - half > ends + 4.0:
                parts.append(text(centre, self.foot + 15.0, words, "middle"))
                ends = centre + half
        middle = (self.left + self.right) / 2.0
        parts.append(text(middle, self.foot + FOOT - 8.0, x.title, "middle"))
        parts.append(text(max(self.left - 44.0, 2.0), self.top - 7.0, y.title))
        return parts
