"""The keys common to recipes of all studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flashstill.checked import between, one_of
from flashstill.recipes.arithmetic import ARITHMETIC
from flashstill.recipes.ranges import Given, Name


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecipe:
    """Name, kind, number of seeds (0, 1, ...), and the arithmetic in which models run: auto (the faster on this
    machine), bf16 or fp32. most_seeds: more are run, up to this many, until the interval of every claimed figure
    decides; fewer than `seeds`: none beyond these."""

    name: Name
    study: Given
    seeds: Annotated[int, between(1, 1000)] = 3
    most_seeds: Annotated[int, between(0, 1000)] = 10
    arithmetic: Annotated[str, one_of(ARITHMETIC)] = "auto"

    def problems(self) -> Iterator[str]:
        """Errors in the recipe, as sentences."""
        yield from ()

    def models(self) -> Mapping[str, str]:
        """The models that it begins with, by the key that names them: directories, names or ids."""
        return {}

    def located(self, where: Path) -> StudyRecipe:
        """The recipe with paths relative to its file's directory made absolute; BadInput for a device or a pipe."""
        return self
