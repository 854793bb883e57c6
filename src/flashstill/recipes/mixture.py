"""Keys of the text of a recipe: how documents stand in windows, and a mixture of sources in the place of `data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flashstill.recipes.ranges import Given, Positive

WINDOWS = ("stream", "documents")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceRecipe:
    """One [[mixture]]. weight: its share of the tokens, relative to the weights of the others."""

    source: Given
    weight: Positive = 1.0


def problems(mixture: Sequence[SourceRecipe], has_specialists: bool, align: str) -> Iterator[str]:
    """Errors in a mixture, as sentences. align: how two tokenizers are aligned, if they are."""
    if not mixture:
        return
    if has_specialists:
        yield "teachers with data of their own (specialists) leave no room for a [[mixture]]; leave one of them out"
    if align == "spans":
        yield "two tokenizers are aligned on one text: give data instead of a [[mixture]]"
    if len({each.source for each in mixture}) < len(mixture):
        yield "mixture names a source twice; give it the sum of the weights"
