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
    """A prompt and its answer, as a list whose head is the last part. first, number: the first token of that part, and
    the number of its text; before: the parts before it.  tokens: of all; goes_on: whether a turn has gone on with the
    last part."""

    first: int
    number: int
    tokens: int
    before: Text | None = None
    goes_on: bool = False


class Texts:
    """Makes texts. unit: tokens that a name stands for."""

    def __init__(self, unit: int) -> None:
        self._unit, self._count = unit, 0

    def goes_on(self, before: Text | None, prompt: int, output: int) -> Text:
        """The text of a request with so many tokens, after another one or the first."""
        tokens = prompt + output
        if before is not None and prompt >= before.tokens and not before.goes_on:
            before.goes_on = True
            return Text(before.first, before.number, tokens, before.before)
        self._count += 1
        if before is None or prompt < before.tokens:
            return Text(0, self._count, tokens)
        return Text(before.tokens, self._count, tokens, before)

    def names(self, text: Text) -> Counts:
        """Names of its whole units; equal ones mean that all tokens up to the unit's end are equal."""
        end = text.tokens // self._unit
        names: Counts = np.arange(end)
        part: Text | None = text
        while part is not None and end:
            first = min(part.first // self._unit, end)
            names[first:end] += part.number * FACTOR
            part, end = part.before, first
        return names
