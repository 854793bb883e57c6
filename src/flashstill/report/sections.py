"""A page of sections: charts without a script, the numbers of each in a table, and where they are from.

The pages of a simulation and of every question about money are written with it; all text is escaped by the template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.report.amounts import short
from flashstill.report.shell import render_page

_TEMPLATE = "sections.html.j2"
_NUMBER = re.compile(r"[-+]?\$?\d[\d.,]*(e[-+]?\d+)?( ?(%|[a-zA-Zµ]{1,3}))?( (\(|±|to ).*)?$")
"""a number, with a unit or a range at most: 41.8M, $0.298 ($0.155 to $0.368), 0.55 ± 0.05"""

Document = Mapping[str, Any]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Charts as (title, SVG), their numbers as headings and rows of text, and the sources of these."""

    title: str
    text: str = ""
    charts: Sequence[tuple[str, str]] = ()
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    sources: Sequence[str] = ()

    @property
    def of_words(self) -> list[bool]:
        """Whether most entries of each column are words, which stand to the left; numbers stand to the right."""
        columns = list(zip(*self.rows, strict=True))
        return [2 * sum(not _NUMBER.match(entry) for entry in column if entry) > sum(map(bool, column))
                for column in columns]  # fmt: skip


def render_sections(
    title: str,
    subtitle: str,
    sections: Sequence[Section],
    facts: Pairs = (),
    warnings: Sequence[str] = (),
    question: Pairs = (),
    notes: Sequence[str] = (),
) -> str:
    """The whole page as HTML. facts: its main figures; question: what was asked; notes: what the answer rests on."""
    return render_page(
        _TEMPLATE,
        title=title,
        subtitle=subtitle,
        sections=sections,
        facts=facts,
        warnings=warnings,
        question=question,
        notes=notes,
    )


def cell(value: Any) -> str:
    """A value of an answer as text: numbers in four figures, lists with commas, nothing for None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value) if value >= 1e4 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(cell(each) for each in value)
    return "" if value is None else str(value)
