"""Some of the requests of a trace, and pieces of it joined, with the names of their hash blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.state import Counts


def selected(requests: Arrivals, rows: Counts) -> Arrivals:
    """The requests with these numbers, in this order, each as often as it is named."""
    chosen = requests._replace(
        arrival_s=requests.arrival_s[rows],
        prompt=requests.prompt[rows],
        output=requests.output[rows],
        cached=requests.cached[rows],
    )
    if len(requests.key_ends) == 0:
        return chosen
    begins = np.concatenate([[0], requests.key_ends[:-1]])
    counts = (requests.key_ends - begins)[rows]
    ends = np.cumsum(counts)
    places = np.repeat(begins[rows] - (ends - counts), counts) + np.arange(int(counts.sum()))
    return chosen._replace(key_ends=ends, keys=requests.keys[places])


def joined(pieces: Sequence[Arrivals]) -> Arrivals:
    """One piece of several in a row; some of them may name no blocks."""
    if any(len(piece.key_ends) for piece in pieces):
        none = (np.zeros(len(piece.prompt), dtype=np.int64) for piece in pieces)
        pieces = [
            piece if len(piece.key_ends) else piece._replace(key_ends=ends)
            for piece, ends in zip(pieces, none, strict=True)
        ]
    whole = Arrivals._make(np.concatenate(columns) for columns in zip(*pieces, strict=True))
    if len(whole.key_ends) == 0:
        return whole
    shifts = np.cumsum([0, *(len(piece.keys) for piece in pieces[:-1])])
    return whole._replace(
        key_ends=np.concatenate([piece.key_ends + shift for piece, shift in zip(pieces, shifts, strict=True)])
    )


@dataclass(slots=True)
class WithinContext:
    """Requests that a model takes.  Longer ones are left out and counted, as engines turn them away before any work.

    tokens: of the model's context; requests, too_long: how many came so far, and were left out.
    """

    tokens: int
    requests: int = 0
    too_long: int = 0

    def of(self, pieces: Iterable[Arrivals]) -> Iterator[Arrivals]:
        """The pieces without them; in a closed loop as many begin as before. BadInput if none is left."""
        for piece in pieces:
            fits = piece.prompt + piece.output <= self.tokens
            self.requests += len(fits)
            if fits.all():
                yield piece
                continue
            self.too_long += int((~fits).sum())
            if fits.any():
                kept = selected(piece, np.flatnonzero(fits))
                closed = np.isinf(piece.arrival_s[-1])
                yield kept._replace(arrival_s=piece.arrival_s[: len(kept.prompt)]) if closed else kept
        self.check()

    def check(self) -> None:
        """BadInput if none is left at the end."""
        if self.too_long and self.too_long == self.requests:
            raise BadInput(f"every request is longer than the {self.tokens:,} tokens that the model was made for")

    def notes(self) -> tuple[str, ...]:
        """What a user should know of it."""
        if not self.too_long:
            return ()
        return (
            f"{self.too_long:,} of {self.requests:,} requests are longer than the model's context and are left out",
        )
