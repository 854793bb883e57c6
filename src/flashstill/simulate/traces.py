"""Requests of a trace (flashstill/traces reads its formats) in pieces, so that memory does not grow with its length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.daily import PIECE
from flashstill.traces.reader import Trace
from flashstill.traces.requests import Row

MOST_KEYS = 2**20


def pieces_of(trace: Trace, speed: float = 1.0) -> Iterator[Arrivals]:
    """The requests of a trace, in pieces of bounded size. BadInput names the file and line of a mistake."""
    held: list[Row] = []
    keys = 0
    for _, row in trace.rows():
        held.append(row)
        keys += len(row.keys)
        if len(held) == PIECE or keys >= MOST_KEYS:
            yield _arrivals(held, speed)
            held, keys = [], 0
    if held:
        yield _arrivals(held, speed)


def _arrivals(rows: list[Row], speed: float) -> Arrivals:
    times, prompt, output, cached, keys, _ = zip(*rows, strict=True)
    whole = (np.array(values, dtype=np.int64) for values in (prompt, output, cached))
    found = Arrivals(np.array(times) / speed, *whole)
    ends = np.cumsum([len(each) for each in keys], dtype=np.int64)
    if ends[-1] == 0:
        return found
    return found._replace(key_ends=ends, keys=np.array([key for each in keys for key in each], dtype=np.int64))
