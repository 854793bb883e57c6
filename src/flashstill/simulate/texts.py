"""Names of the units of prompts and answers, for conversations of which only the lengths are known.

A turn whose prompt is at least as long as the turn before it with its answer begins with these, as clients send the
whole conversation; a shorter one (of a context that was cut) shares nothing.  Of several turns that go on with the same
one, the second has a text of its own from there on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.simulate.state import Counts

FACTOR = 6_364_136_249
"""a unit's name is FACTOR times the number of its text, and its place in it; a prime, to fill buckets evenly"""


@dataclass(slots=True, eq=False)
class Text:
    """A prompt and its answer. parts: (first token, number of a text), one after the other; tokens: of both; goes_on:
    whether a turn has gone on with the last of its parts."""

    parts: tuple[tuple[int, int], ...]
    tokens: int
    goes_on: bool = False


class Texts:
    """Makes texts. unit: tokens that a name stands for."""

    def __init__(self, unit: int) -> None:
        self._unit, self._count = unit, 0

    def goes_on(self, before: Text | None, prompt: int, output: int) -> Text:
        """The text of a request with so many tokens, after another one or the first."""
        tokens = prompt + output
        if before is None or prompt < before.tokens:
            self._count += 1
            return Text(((0, self._count),), tokens)
        if before.goes_on:
            self._count += 1
            return Text((*before.parts, (before.tokens, self._count)), tokens)
        before.goes_on = True
        return Text(before.parts, tokens)

    def names(self, text: Text) -> Counts:
        """Names of its whole units; equal ones mean that all tokens up to the unit's end are equal."""
        units = np.arange(text.tokens // self._unit)
        names: Counts = units.copy()
        for first, number in text.parts:
            at = first // self._unit
            names[at:] = units[at:] + number * FACTOR
        return names
