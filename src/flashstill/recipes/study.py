"""What the recipe of every study says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecipe:
    """Its name, its kind, how many seeds it takes (0, 1, ...), and in which arithmetic models run: auto (the faster on
    this machine), bf16 or fp32."""

    name: str
    study: str
    seeds: int = 3
    arithmetic: str = "auto"

    def problems(self) -> Iterator[str]:
        """What is wrong with it, in sentences."""
        yield from ()

    def located(self, base: Path) -> StudyRecipe:
        """The same with its paths taken from `base`, the directory of its file."""
        return self
