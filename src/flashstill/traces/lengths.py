"""Lengths alone: the tokens of prompts and answers in a file of any format of a trace, with times or without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flashstill.errors import BadInput, nearest, shortened
from flashstill.traces import values
from flashstill.traces.formats import FORMATS
from flashstill.traces.sources import source_of

MOST_ROWS = 10_000_000


def lengths_in(path: Path) -> Iterator[tuple[int, int]]:
    """Tokens of each prompt and its answer, without requests that failed. BadInput names the line of a mistake."""
    with source_of(path) as source:
        there = [each for each in FORMATS.values() if {each.prompt, each.output} <= set(source.columns)]
        if not there:
            missing = next(name for name in ("input_tokens", "output_tokens") if name not in source.columns)
            close = nearest(missing, source.columns)[:1]
            raise BadInput(f"{path} has no column {missing!r}" + (f"; is it {shortened(close[0])!r}?" if close else ""))
        names = there[0].prompt, there[0].output
        least = 0 if there[0].skips else 1
        for count, (line, cells) in enumerate(source.rows(names)):
            if count >= MOST_ROWS:
                raise BadInput(f"{path} has more than {MOST_ROWS:,} rows")
            found = []
            for name, cell, fewest in zip(names, cells, (1, least), strict=True):
                try:
                    found.append(values.tokens(cell, fewest))
                except ValueError:
                    shown = shortened(str(cell))
                    raise BadInput(
                        f"{path}, {source.place} {line}: {name} is {shown!r}, not a whole number of at least {fewest}"
                    ) from None
            if found[1]:
                yield found[0], found[1]
