"""Some of the requests of a trace, and pieces of it joined, with the names of their hash blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flashstill.simulate.loop import Arrivals
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
    """One piece of several in a row."""
    whole = Arrivals._make(np.concatenate(columns) for columns in zip(*pieces, strict=True))
    if len(whole.key_ends) == 0:
        return whole
    shifts = np.cumsum([0, *(len(piece.keys) for piece in pieces[:-1])])
    return whole._replace(
        key_ends=np.concatenate([piece.key_ends + shift for piece, shift in zip(pieces, shifts, strict=True)])
    )
