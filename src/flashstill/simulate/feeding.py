"""Requests for the event loop in parts that it passes quickly, so that progress is told and a Ctrl-C is heard.

Where parts end changes nothing of what happens.  Parts grow as long as the loop passes one in less than `QUICK_S`.  In
a closed loop all requests that have a time of arrival stand in the first part, and the loop asks for the next part
while enough are left for all in flight to be followed (loop.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import numpy as np

from flashstill.simulate.loop import Arrivals

FIRST, MOST, QUICK_S = 64, 16384, 0.05


def part_of_arrivals(piece: Arrivals, first: int, end: int) -> Arrivals:
    """Requests [first, end) of a piece."""
    rows = slice(first, end)
    part = Arrivals(piece.arrival_s[rows], piece.prompt[rows], piece.output[rows], piece.cached[rows])
    if not len(piece.key_ends):
        return part
    before, ends = int(piece.key_ends[first - 1]) if first else 0, piece.key_ends[rows]
    last = int(ends[-1]) if len(ends) else before
    return part._replace(key_ends=ends - before, keys=piece.keys[before:last])


def joined_arrivals(one: Arrivals, two: Arrivals) -> Arrivals:
    """Requests one after the other; in a closed loop, which names no blocks."""
    return Arrivals(
        np.concatenate([one.arrival_s, two.arrival_s]),
        np.concatenate([one.prompt, two.prompt]),
        np.concatenate([one.output, two.output]),
        np.concatenate([one.cached, two.cached]),
    )


def no_arrivals() -> Arrivals:
    """No request."""
    none = np.zeros(0, dtype=np.int64)
    return Arrivals(np.zeros(0), none, none, none)


class Feed:
    """Parts of pieces of arrivals. closed: of a closed loop; whole: pieces as they are."""

    def __init__(self, pieces: Iterable[Arrivals], closed: bool = False, whole: bool = False) -> None:
        self._pieces, self._size, self._whole = iter(pieces), FIRST, whole
        self._piece, self._at, self._closed = next(self._pieces, no_arrivals()), 0, closed
        self._following = next(self._pieces, None)
        self._least = 2 * int(np.count_nonzero(np.isfinite(self._piece.arrival_s))) + FIRST if closed else 0
        self._handed_s = -np.inf

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after what `next` has given."""
        return self._at == len(self._piece.arrival_s) and self._following is None

    def next(self) -> Arrivals:
        """The next part; empty if there is none."""
        if self._at == len(self._piece.arrival_s) and self._following is not None:
            self._piece, self._following, self._at = self._following, next(self._pieces, None), 0
        now = perf_counter()
        if now - self._handed_s < QUICK_S:
            self._size = min(2 * self._size, MOST)
        elif now - self._handed_s > 4 * QUICK_S:
            self._size = max(self._size // 2, FIRST)
        self._handed_s = now
        size = len(self._piece.arrival_s) if self._whole else max(self._size, self._least)
        first, self._at = self._at, min(self._at + size, len(self._piece.arrival_s))
        return part_of_arrivals(self._piece, first, self._at)
