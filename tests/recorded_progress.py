"""Progress that keeps what it is told, for tests of what a user sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flashstill.progress import Advance, Silent


class RecordedProgress(Silent):
    """lines: what was said; notes: those of the advances of all tasks."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
        def advance(amount: float, note: str = "") -> None:
            self.notes.append(note)

        yield advance
