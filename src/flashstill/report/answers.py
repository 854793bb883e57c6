"""The page of a command's answer about money, from its JSON document alone: charts, their numbers, sources, question.

A part of an answer that has no chart of its own is shown as a table, so that a page never hides a number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flashstill.outputs import written_out
from flashstill.report.ahead import arrays_page, ceiling_page, trends_page
from flashstill.report.asic import asic_page
from flashstill.report.capacity import capacity_page
from flashstill.report.cascade import cascade_page
from flashstill.report.codesign import codesign_page
from flashstill.report.economics import economics_page
from flashstill.report.family import family_page
from flashstill.report.money import others, question_of
from flashstill.report.pages import Page
from flashstill.report.sections import Document, render_sections


def write_answer_page(out: Path, document: Document) -> None:
    """Write the page of an answer: its schema says which command it is of."""
    page = render_answer(document)
    with written_out(out) as stream:
        stream.write(page)


def render_answer(document: Document) -> str:
    """The whole page as HTML."""
    page = page_of(document)
    return render_sections(
        page.title,
        page.subtitle,
        [*page.sections, *others(document, page.shown)],
        facts=page.facts,
        warnings=page.warnings,
        notes=[str(note) for note in document.get("notes") or ()],
        question=question_of(document),
    )


def command_of(document: Document) -> str:
    """The command that an answer's schema names, as asic of flashstill.asic/1; "" without one."""
    name, _, version = str(document.get("schema", "")).partition("/")
    return name.removeprefix("flashstill.") if name.startswith("flashstill.") and version else ""


def page_of(document: Document) -> Page:
    """What the page of an answer shows beside every other number, which `others` has."""
    draw = family_page if "family" in document else PAGES.get(command_of(document), _plain)
    return draw(document)


def _plain(document: Document) -> Page:
    return Page(title=str(document.get("schema", "answer")), subtitle="All numbers of the answer.")


PAGES: dict[str, Callable[[Document], Page]] = {
    "arrays": arrays_page,
    "asic": asic_page,
    "capacity": capacity_page,
    "codesign": codesign_page,
    "ceiling": ceiling_page,
    "cascade": cascade_page,
    "economics": economics_page,
    "trends": trends_page,
}
