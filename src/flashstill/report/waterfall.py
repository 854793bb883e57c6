"""A waterfall: the steps that add up to a price, one row each, with subtotals. Inline SVG, as in svg.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.amounts import dollars
from flashstill.report.axes import snug
from flashstill.report.svg import WIDTH, base_axis, figure, shortened, text

TOP, PITCH, BAR, BOTTOM = 8.0, 24.0, 15.0, 40.0
LABEL, MARGIN = 172.0, 62.0
"""of names on the left; of the figures beside the bars"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one row adds (or takes off, below zero); a total stands for the sum of all rows above it."""

    name: str
    value: float
    is_total: bool = False


def waterfall(steps: Sequence[Step], x_title: str, title: str, show: Callable[[float], str] = dollars) -> str:
    """The steps from top to bottom, each bar beginning where the one above ended; "" without steps.

    A total is drawn from zero and the rows below continue from it.
    """
    if not steps:
        return ""
    ends = _ends(steps)
    xs = snug([0.0, *(end for pair in ends for end in pair)], LABEL, WIDTH - MARGIN, False, 4)
    height = TOP + PITCH * len(steps) + BOTTOM
    foot = height - BOTTOM
    parts = [base_axis(xs, TOP, foot, x_title, show)]
    for number, (step, (begin, end)) in enumerate(zip(steps, ends, strict=True)):
        top = TOP + PITCH * number + (PITCH - BAR) / 2.0
        left, right = sorted((xs.at(begin), xs.at(end)))
        colour = "total" if step.is_total else "s3" if step.value < 0.0 else "s1"
        parts += [
            f'<g class="{colour}"><title>{escape(f"{step.name}: {show(step.value)}")}</title><rect class="bar"'
            f' x="{left:.1f}" y="{top:.1f}" width="{max(right - left, 1.0):.1f}" height="{BAR:g}"/></g>',
            text(LABEL - 8, top + 12, shortened(step.name, LABEL - 12.0), "end", "strong" if step.is_total else ""),
            text(right + 5, top + 12, show(step.value)),
        ]
        if number + 1 < len(steps):
            at, below = xs.at(end), top + PITCH
            parts.append(f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{top + BAR:.1f}" y2="{below:.1f}"/>')
    return figure(title, parts, height)


def _ends(steps: Sequence[Step]) -> list[tuple[float, float]]:
    """Where each bar begins and ends."""
    ends, reached = [], 0.0
    for step in steps:
        begin = 0.0 if step.is_total else reached
        reached = step.value if step.is_total else reached + step.value
        ends.append((begin, reached))
    return ends
