"""Stacked bars: what each of several totals is made of, one row each, small parts summed and named. Inline SVG.

A part has the same colour in every row. Its name stands on the widest piece that has room for it, and every piece says
its value on hover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from flashstill.report.axes import amount, linear_ticks, tick_text
from flashstill.report.svg import CHARACTER, WIDTH, Scale, figure, key_rows, shortened, text

COLOURS = 8
"""of the page's style"""
SMALL = 0.02
"""share of its row below which a part is small; one that is small in every row is added to the others"""
BAR, PITCH, HEADING, FOOT = 20.0, 28.0, 24.0, 40.0
REST = "other"
"""class of the style for the small parts together"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """A row: its name, the size of each part, and the heading under which it stands with others."""

    name: str
    parts: Mapping[str, float]
    group: str = ""


def stacks(
    rows: Sequence[Stack],
    unit: str,
    title: str,
    x_title: str = "",
    is_share: bool = False,
    colours: Mapping[str, int] | None = None,
    width: float = WIDTH,
) -> str:
    """Rows from top to bottom with their totals; "" without any part above zero.

    unit: of the parts, as of an Axis; is_share: every row is drawn as long as the others, in per cent, its total beside
    it; colours: part -> number of its colour (0: neutral), where charts share them.
    """
    rows, classes = gathered(rows, colours or {})
    totals = [sum(row.parts.values()) for row in rows]
    if not rows or max(totals) <= 0.0:
        return ""
    told = {row.name for row in rows}  # a part that is a row of its own needs no legend, nor one that all rows are
    named = [] if len(classes) < 2 else [(name, kind) for name, kind in classes.items() if name not in told]
    key, top = key_rows(named, width, 4.0) if named else ([], 4.0)
    label = min(CHARACTER * max(len(row.name) for row in rows) + 10.0, 0.36 * width)
    ends = [amount(total, unit) for total in totals]
    right = width - 10.0 - CHARACTER * max(map(len, ends))
    longest = 1.0 if is_share else max(totals)
    xs = Scale(0.0, longest, label, right, linear_ticks(0.0, longest, 4 if width < WIDTH else 5), False)
    top, parts, group = top + 8.0, [*key], ""
    begin, bars = top, []
    for row, total, words in zip(rows, totals, ends, strict=True):
        if row.group != group:
            group = row.group
            bars.append(text(0.0, top + 15.0, group, "start", "strong"))
            top += HEADING
        bars.append(text(label - 8.0, top + 15.0, shortened(row.name, label - 8.0), "end"))
        bars += _row(row, total, unit, is_share, xs, top, classes)
        bars.append(text(xs.at((1.0 if is_share else total) if total > 0.0 else 0.0) + 5.0, top + 15.0, words))
        top += PITCH
    for tick in xs.ticks:
        at = xs.at(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{begin:.1f}" y2="{top:.1f}"/>')
        parts.append(text(at, top + 15.0, tick_text(tick, "ratio" if is_share else unit), "middle"))
    parts.append(text((label + right) / 2.0, top + FOOT - 8.0, x_title, "middle"))
    return figure(title, [*parts, *bars], top + FOOT, width)


def gathered(rows: Sequence[Stack], colours: Mapping[str, int]) -> tuple[list[Stack], dict[str, str]]:
    """Rows with their small parts summed, and the class of the style of every part left, the largest first.

    Small is what no row has SMALL of, and what there are no colours left for; one small part alone keeps its name.
    """
    names = list(dict.fromkeys(name for row in rows for name, part in row.parts.items() if part > 0.0))
    shares = {name: [row.parts.get(name, 0.0) / (sum(row.parts.values()) or 1.0) for row in rows] for name in names}
    ranked = sorted(names, key=lambda name: -sum(shares[name]))
    large = [name for name in ranked if max(shares[name]) >= SMALL][:COLOURS]
    small = [name for name in ranked if name not in large]
    if len(small) == 1 and len(large) < COLOURS:
        large, small = [*large, *small], []
    free = iter([number for number in range(1, COLOURS + 1) if number not in colours.values()])
    classes: dict[str, str] = {}
    for name in large:
        number = colours[name] if name in colours else next(free, 0)
        classes[name] = f"s{number}" if number else REST
    rest = f"{', '.join(small[:3])}{f' and {len(small) - 3} more' if len(small) > 3 else ''}"
    kept = []
    for row in rows:
        parts = {name: row.parts.get(name, 0.0) for name in large}
        if small:
            parts[rest] = sum(row.parts.get(name, 0.0) for name in small)
        kept.append(Stack(name=row.name, parts=parts, group=row.group))
    return kept, {**classes, **({rest: REST} if small else {})}


def _row(
    row: Stack, total: float, unit: str, is_share: bool, xs: Scale, top: float, classes: Mapping[str, str]
) -> list[str]:
    """The pieces of a row from left to right, with their name or their share where it has room."""
    pieces, reached = [], 0.0
    for name, part in row.parts.items():
        if part <= 0.0:
            continue
        left, right = (xs.at(end / total if is_share else end) for end in (reached, reached + part))
        reached += part
        words = f"{row.group + ', ' if row.group else ''}{row.name}, {name}: {amount(part, unit)} ({part / total:.1%})"
        room = right - left - 8.0
        alone = name == row.name or part == total  # the name or the total stands beside it
        label = next(
            (each for each in (name, f"{part / total:.0%}") if not alone and CHARACTER * len(each) <= room), ""
        )
        pieces.append(
            f'<g class="{classes[name]}"><title>{escape(words)}</title><rect class="piece" x="{left:.1f}" y="{top:.1f}"'
            f' width="{max(right - left, 0.5):.1f}" height="{BAR:g}"/>'
            f"{text((left + right) / 2.0, top + 14.5, label, 'middle', 'on') if label else ''}</g>"
        )
    return pieces
