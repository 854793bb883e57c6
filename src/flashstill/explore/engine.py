"""The engine behind the page: fact rows, what may be asked for, and what the page was started with.

One lock stands around each answer (explore/answers.py), so that views compute one at a time and share nothing that
changes: an edit makes fact rows of its own, of which the last few are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flashstill.arch import Architecture
from flashstill.explore.catalogue import Catalogue
from flashstill.explore.commands import Given
from flashstill.facts import Facts

KEPT_EDITS = 16
"""sets of edits whose fact rows are kept, with the chips that were built from them"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """facts: of the start, with its edits.  given: how the command line says them."""

    facts: Facts
    catalogue: Catalogue
    given: Given = field(default_factory=Given)
    _edited: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_edited", lru_cache(maxsize=KEPT_EDITS)(self.facts.edited))

    def edited(self, edits: tuple[str, ...]) -> Facts:
        """The fact rows with the edits of a state; BadInput or MissingFact for an edit that cannot be."""
        return self._edited(edits)  # type: ignore[no-any-return]

    def model(self, name: str) -> Architecture:
        """The architecture of a state's model."""
        return self.catalogue.architecture(name)
