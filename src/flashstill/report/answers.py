"""The page of a command's answer about money, from its JSON document alone: charts, their numbers, sources, question.

A part of an answer that has no chart of its own is shown as a table, so that a page never hides a number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flashstill.outputs import written_out
from flashstill.report.asic import asic_page
from flashstill.report.capacity import capacity_page
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
    command = str(document.get("schema", "")).removeprefix("flashstill.").split("/")[0]
    draw = family_page if "family" in document else PAGES.get(command, _plain)
    page = draw(document)
    return render_sections(
        page.title,
        page.subtitle,
        [*page.sections, *others(document, page.shown)],
        facts=page.facts,
        warnings=page.warnings,
        notes=[str(note) for note in document.get("notes") or ()],
        question=question_of(document),
    )


def _plain(document: Document) -> Page:
    return Page(title=str(document.get("schema", "answer")), subtitle="All numbers of the answer.")


PAGES: dict[str, Callable[[Document], Page]] = {
    "asic": asic_page,
    "capacity": capacity_page,
    "economics": economics_page,
}
