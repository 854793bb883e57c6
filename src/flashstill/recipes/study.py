"""What the recipe of every study says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRecipe:
    """Its name, its kind, and how many seeds it takes (0, 1, ...)."""

    name: str
    study: str
    seeds: int = 3
