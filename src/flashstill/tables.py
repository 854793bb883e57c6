"""Text tables with aligned columns, fitted to a width if one is given.

Numbers are never truncated.  A table that is too wide first loses its `spare` columns, then the text in the first
column is shortened, then columns are dropped from the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flashstill.units import figures

Row = Sequence[str]
MARGIN, GAP = 2, 2  # characters before the first column, and between two
SHORTEST = 12  # minimum width of the first column, in characters


def table_lines(rows: Sequence[Row], width: int | None = None, spare: Sequence[str] = ()) -> list[str]:
    """Lines of a table of at most `width` characters; rows[0] has the headings. A last line lists dropped columns.

    spare: headings of columns to drop, least important first. If only the first cell of rows[0] is non-empty, it is
    a title of columns without headings, and nothing is dropped.
    """
    titled = not any(rows[0][1:])
    left_out: list[str] = []
    if width is not None and not titled:
        rows, left_out = _fitted(rows, width, spare)
    lines = [rows[0][0]] if titled else []
    body = rows[1:] if titled else rows
    widths = _widths(body)
    for row in body:
        first, *others = (cell.rjust(room) for cell, room in zip(row, widths, strict=True))
        cells = [row[0].ljust(len(first)), *others]
        lines.append(" " * MARGIN + (" " * GAP).join(cells).rstrip())
    if left_out:
        lines.append(f"left out, as the terminal is narrow: {', '.join(left_out)}")
    return lines


def _widths(rows: Sequence[Row]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return MARGIN + sum(widths) + GAP * (len(widths) - 1)


def _fitted(rows: Sequence[Row], width: int, spare: Sequence[str]) -> tuple[Sequence[Row], list[str]]:
    headings, widths = list(rows[0]), _widths(rows)
    kept = list(range(len(headings)))
    candidates = [headings.index(name) for name in spare if name in headings]
    others = [column for column in reversed(kept[1:]) if column not in candidates]

    def excess() -> int:
        return _total([widths[column] for column in kept]) - width

    _drop(kept, candidates, excess)
    if excess() > 0:
        widths[0] = max(min(widths[0], SHORTEST), widths[0] - excess())
    _drop(kept, others[:-1], excess)
    shown = [[_cut(row[column], widths[column]) if not column else row[column] for column in kept] for row in rows]
    return shown, [headings[column] for column in range(len(headings)) if column not in kept]


def _drop(kept: list[int], columns: Sequence[int], excess: Callable[[], int]) -> None:
    """Remove columns one by one until the table fits."""
    for column in columns:
        if excess() <= 0:
            return
        kept.remove(column)


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else cell[: width - 1] + "…"


class Table(NamedTuple):
    """What a result shows of itself. headings: one for each column, all empty if the rows say what they are."""

    headings: Row
    rows: Sequence[Row]
    caption: str = ""


class Displayed:
    """A result that shows itself as a table: as HTML in a notebook, as text by print() and in IPython's terminal."""

    __slots__ = ()

    def _table(self) -> Table:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def __str__(self) -> str:
        return text_table(*self._table())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def text_table(headings: Row, rows: Sequence[Row], caption: str = "") -> str:
    """A table for a terminal, with its caption above."""
    lines = [*([tuple(headings)] if any(headings) else [("", *[""] * (len(headings) - 1))]), *rows]
    return "\n".join(filter(None, [caption, *table_lines(lines)]))


MOST_ROWS = 100
"""rows of a result that are shown; `as_records` has all"""


def records_table(records: Sequence[Mapping[str, Any]], names: Sequence[str], caption: str = "") -> Table:
    """Some columns of flat rows, without those that are empty, and of many rows the first."""
    kept = [name for name in names if any(record.get(name) not in (None, "") for record in records)]
    if len(records) > MOST_ROWS:
        caption = f"{caption}, the first {MOST_ROWS} of {len(records):,} rows".removeprefix(", ")
    return Table(kept, [[cell(record.get(name)) for name in kept] for record in records[:MOST_ROWS]], caption)


def html_table(headings: Row, rows: Sequence[Row], caption: str = "") -> str:
    """An HTML table for a notebook; every cell is escaped."""
    from html import escape

    def line(cells: Row, tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line(headings, 'th')}</thead>" if any(headings) else ""
    return f"<table>{title}{head}<tbody>{''.join(line(row, 'td') for row in rows)}</tbody></table>"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, joining keys with "_": {"a": {"b": 1}} becomes {"a_b": 1}."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{name}_")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def cell(value: Any) -> str:
    """A value as short text; floats with four significant digits, and from 1e4 to 1e12 all those before the point."""
    if isinstance(value, float):
        return figures(value, 4) if abs(value) < 1e12 else f"{value:.4g}"
    return "" if value is None else str(value)
