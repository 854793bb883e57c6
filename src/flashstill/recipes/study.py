"""What the recipe of every study says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flashstill.checked import between, one_of
from flashstill.recipes.arithmetic import ARITHMETIC
from flashstill.recipes.ranges import Given, Name


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecipe:
    """Its name, its kind, how many seeds it takes (0, 1, ...), and in which arithmetic models run: auto (the faster on
    this machine), bf16 or fp32."""

    name: Name
    study: Given
    seeds: Annotated[int, between(1, 1000)] = 3
    arithmetic: Annotated[str, one_of(ARITHMETIC)] = "auto"

    def problems(self) -> Iterator[str]:
        """What is wrong with it, in sentences."""
        yield from ()

    def located(self, where: Path) -> StudyRecipe:
        """The same with its paths taken from the directory of its file; BadInput for a device or a pipe."""
        return self
