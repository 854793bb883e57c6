"""What a page shows of a result that it was started with: the JSON answer of a command, drawn as its --out page is.

The file may come from anywhere: it is read up to a bound, its numbers are finite, and one that lacks what a chart needs
is refused with a sentence. Texts are escaped where they become SVG, and stay texts in the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashstill.bounded import is_deeper, lone_surrogate
from flashstill.checked import json_object
from flashstill.errors import BadInput, shortened
from flashstill.explore.view import Chart, Table, View
from flashstill.report.answers import PAGES, command_of, page_of
from flashstill.report.money import others, question_of
from flashstill.report.pages import Page
from flashstill.report.sections import Document, Section
from flashstill.report.simulation import simulation_page

MOST_BYTES = 2**26
MOST_ROWS = 1000
"""rows of a table; of a longer one every n-th is shown, and its caption says so"""
LARGEST = 1e300
TRAFFIC = "simulate"
_BROKEN = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""what drawing raises where a part is missing or of another kind"""


def result_views(path: Path) -> tuple[View, ...]:
    """The views of a run's directory or of a saved answer; BadInput for anything else."""
    if path.is_dir():
        from flashstill.explore.directories import directory_views

        return directory_views(path)
    return answer_views(path)


def answer_views(path: Path) -> tuple[View, ...]:
    """The views of a command's saved JSON answer: its charts, and every other number. BadInput for another file."""
    document, shown = json_object(path, MOST_BYTES), shortened(str(path), 200)
    known = sorted({*PAGES, TRAFFIC})
    command = command_of(document)
    if command not in known:
        what = f"is the answer of `flashstill {shortened(command)}`" if command else "is no answer of a command"
        raise BadInput(f"{shown} {what}; give what `flashstill {'|'.join(known)} ... --json` printed")
    _check_values(document, shown)
    try:
        return _views(command, document, f"flashstill explore {path.name}")
    except _BROKEN as error:
        if document.get("fits") is False:
            reason = shortened(str(document.get("reason")), 300)
            raise BadInput(f"{shown} says that nothing was feasible: {reason}") from error
        place = (
            f": the key {error} is missing"
            if isinstance(error, KeyError)
            else f" ({type(error).__name__}: {shortened(str(error))})"
        )
        raise BadInput(
            f"{shown} is no whole answer of `flashstill {command}`{place}; write it anew with --json"
        ) from error


def _check_values(document: Any, shown: str) -> None:
    """BadInput for numbers that are none, or larger than any can be, texts that are none, and brackets too deep."""
    if is_deeper(document):
        raise BadInput(f"{shown} nests too deep to be an answer")
    level: list[Any] = [document]
    while level:
        held = level.pop()
        if isinstance(held, Mapping):
            level += (*held, *held.values())
        elif isinstance(held, list):
            level += held
        elif isinstance(held, str) and lone_surrogate(held) is not None:
            raise BadInput(f"{shown} holds a text with half a character: {shortened(held)!a}")
        elif isinstance(held, int | float) and not -LARGEST < held < LARGEST:
            raise BadInput(f"{shown} holds a number that no answer has: {shortened(str(held)[:100])}")


def _views(command: str, document: Document, line: str) -> tuple[View, ...]:
    """The charts of the answer, and its other numbers."""
    page = _page(command, document)
    notes = tuple(dict.fromkeys([*page.warnings, *(str(note) for note in document.get("notes") or ())]))
    charts = [_facts(page), *charts_of(page.sections)]
    title = {TRAFFIC: "Traffic", "asic": "Own chip", "capacity": "Capacity"}.get(command, command.capitalize())
    first = View(
        name=f"result-{command}",
        title=page.title,
        lead=page.subtitle,
        charts=_present(charts),
        command=line,
        notes=notes,
    )
    asked = Section(title="What was asked", headings=["", "value"], rows=[list(pair) for pair in question_of(document)])
    rest = View(
        name="result-numbers",
        title=f"All other numbers: {title}",
        lead=f"Every other number of the answer of flashstill {command}.",
        charts=_present(charts_of([asked, *others(document, page.shown)])),
        command=line,
    )
    return (first, rest) if rest.charts else (first,)


def _page(command: str, document: Document) -> Page:
    if command != TRAFFIC:
        return page_of(document)
    asked = document.get("question") or {}
    title = f"{asked.get('model')} on {asked.get('chip')}" if asked.get("model") else "Traffic"
    run = document if "latencies" in document else None
    return simulation_page(title, run, document.get("knee"), document.get("rows") or ())


def _facts(page: Page) -> Chart:
    rows = tuple((str(name), str(value)) for name, value in page.facts)
    table = Table(caption="Main figures", columns=("figure", "value"), rows=rows)
    return Chart(name="main", title="Main figures", svg="", table=table)


def charts_of(sections: Sequence[Section]) -> list[Chart]:
    """A section's charts, each with the section's table; a section without a chart is a table alone."""
    charts = []
    for number, section in enumerate(sections):
        caption = f"{section.title}. {section.text}" if section.text else section.title
        table = _table(caption, section)
        drawn = [(title, svg) for title, svg in section.charts if svg] or [("", "")]
        for place, (title, svg) in enumerate(drawn):
            words = ": ".join(part for part in (section.title, title) if part)
            charts.append(Chart(name=f"{_name(section.title)}-{number}-{place}", title=words, svg=svg, table=table))
    return charts


def _table(caption: str, section: Section) -> Table:
    pace = max(-(-len(section.rows) // MOST_ROWS), 1)
    rows = tuple(tuple(str(cell) for cell in row) for row in section.rows[::pace])
    thinned = f". One row in {pace} of {len(section.rows):,}." if pace > 1 else ""
    return Table(
        caption=f"{caption.rstrip(chr(46)) if thinned else caption}{thinned}",
        columns=tuple(str(each) for each in section.headings),
        rows=rows,
    )


def _present(charts: Sequence[Chart]) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart.svg or chart.table.rows)


def _name(title: str) -> str:
    """A title as a word for addresses and files."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40] or "part"
