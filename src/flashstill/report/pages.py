"""What the page of an answer has beside its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flashstill.report.sections import Pairs, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Title, main figures, sections with charts, and the keys of the answer that these show."""

    title: str
    subtitle: str
    facts: Pairs = ()
    sections: Sequence[Section] = ()
    warnings: Sequence[str] = ()
    shown: Sequence[str] = ()
