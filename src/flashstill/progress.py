"""Progress reporting of long work: the Protocol, and an implementation that prints nothing.

The progress bars are in flashstill/console.py; distilling and evaluating depend only on this Protocol.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the number of units just finished and a short note, such as the current loss."""

    def __call__(self, amount: float, note: str = "") -> None: ...


class Progress(Protocol):
    """An object that displays progress."""

    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> AbstractContextManager[Advance]:
        """Open a task of `total` units of which `done` were finished by an earlier run."""
        ...

    def say(self, text: str) -> None:
        """Print one line."""
        ...


class Silent:
    """Prints nothing; for tests and library use."""

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
        def advance(amount: float, note: str = "") -> None:
            pass

        yield advance

    def say(self, text: str) -> None:
        pass
