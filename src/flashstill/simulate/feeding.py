"""Requests for the event loop in parts that it passes quickly, so that progress is told and a Ctrl-C is heard.

Where parts end changes nothing of what happens.  Parts grow as long as the loop passes one in less than `QUICK_S`.  In
a closed loop all requests that have a time of arrival stand in the first part, and the loop asks for the next part
while enough are left for all in flight to be followed (loop.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.selection import joined

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
        """The next part; empty if there is none. Requests that come at one moment are never parted."""
        if self._at == len(self._piece.arrival_s) and self._following is not None:
            self._go_on(self._following)
        now = perf_counter()
        if now - self._handed_s < QUICK_S:
            self._size = min(2 * self._size, MOST)
        elif now - self._handed_s > 4 * QUICK_S:
            self._size = max(self._size // 2, FIRST)
        self._handed_s = now
        first, times = self._at, self._piece.arrival_s
        size = len(times) if self._whole else max(self._size, self._least)
        end = min(first + size, len(times))
        if self._closed or end == first:
            self._at = end
            return part_of_arrivals(self._piece, first, end)
        end = int(np.searchsorted(times, times[end - 1], side="right"))
        while end == len(times) and self._following is not None and self._following.arrival_s[0] == times[-1]:
            rest = part_of_arrivals(self._piece, first, end)
            self._go_on(joined([rest, self._following]))
            first, times = 0, self._piece.arrival_s
            end = int(np.searchsorted(times, rest.arrival_s[-1], side="right"))
        self._at = end
        return part_of_arrivals(self._piece, first, end)

    def _go_on(self, piece: Arrivals) -> None:
        self._piece, self._following, self._at = piece, next(self._pieces, None), 0
