"""How long work tells how far it is: a Protocol, and the silent one.

The coloured bars live beside the command line; the learning arm only knows this shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the amount of work just finished, and a short note (for example the current loss)."""

    def __call__(self, amount: float, note: str = "") -> None: ...


class Progress(Protocol):
    """Something that shows progress."""

    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> AbstractContextManager[Advance]:
        """Open a task of `total` units of which `done` were finished by an earlier run."""
        ...

    def say(self, text: str) -> None:
        """One line for the reader."""
        ...


class Silent:
    """Shows nothing; for tests and for use as a library."""

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
        def advance(amount: float, note: str = "") -> None:
            pass

        yield advance

    def say(self, text: str) -> None:
        pass
