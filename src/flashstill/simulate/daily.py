"""Arrivals whose rate changes over the day, and lengths drawn from a list: what thinking traffic looks like.

A renewal process of unit rate, with gamma-distributed gaps of the window's coefficient of variation, is run through the
integral of the rate: arrival k comes at the time at which so many requests are expected as the first k gaps sum to
(Gerhardt and Nelson 2009; for cv = 1 the Poisson process of that rate).  Nothing is smoothed within a window.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.csv_rows import number_in, rows_of
from flashstill.simulate.state import Counts, Values
from flashstill.traces.lengths import lengths_in
from flashstill.traces.sources import check_no_client

RATES, CVS = ("rate", "rate_req_per_s", "total_rate_req_per_s"), ("cv", "rate_weighted_cv")
PIECE = 65536
"""requests made or read at a time"""
SPARE, MARGIN = 64, 1.2
"""gaps drawn beyond those that a window needs"""


class Day(NamedTuple):
    """Windows [W]: start and width in seconds, requests per second, coefficient of variation of the gaps."""

    start_s: Values
    width_s: Values
    rate: Values
    cv: Values


def read_day(path: Path, cv: float, scale: float = 1.0) -> Day:
    """The windows of a CSV file with the columns window_start_s, rate and perhaps cv. scale: factor of all rates.

    The last window is as long as the one before it.  cv: where the file has none.  BadInput names a mistake's line.
    """
    check_no_client(path)
    rows = []
    for where, start, rate, own_cv in rows_of(path, [["window_start_s"], RATES], [CVS]):
        rows.append(
            (
                number_in(where, "window_start_s", start, 0.0, 1e12),
                number_in(where, "rate", rate, 0.0, 1e9) * scale,
                number_in(where, "cv", own_cv, 1e-3, 1e3) if own_cv.strip() else cv,
            )
        )
        if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
            raise BadInput(f"{where}: window_start_s does not rise; sort the rows")
    if len(rows) < 2:
        raise BadInput(f"{path} needs at least two windows, as the last one is as long as the one before it")
    start_s, rate_per_s, cvs = (np.array(values) for values in zip(*rows, strict=True))
    if not rate_per_s.any():
        raise BadInput(f"{path}: no window has any requests")
    width_s = np.append(np.diff(start_s), start_s[-1] - start_s[-2])
    return Day(start_s=start_s - start_s[0], width_s=width_s, rate=rate_per_s, cv=cvs)


def arrival_times(day: Day, numbers: np.random.Generator, piece: int) -> Iterator[Values]:
    """The times of all arrivals in order, at most `piece` at a time."""
    at = None  # expected requests from the beginning of the window to its next arrival
    for start_s, width_s, rate, cv in zip(*day, strict=True):
        shape = 1.0 / cv**2
        if at is None:
            at = float(numbers.gamma(shape, 1.0 / shape))
        budget = rate * width_s
        while at < budget:
            count = min(piece, int(MARGIN * (budget - at)) + SPARE)
            places = at + np.concatenate([[0.0], np.cumsum(numbers.gamma(shape, 1.0 / shape, count))])
            used = min(int(np.searchsorted(places, budget)), count)
            yield start_s + places[:used] / rate
            at = float(places[used])
        at -= budget


def read_lengths(path: Path) -> tuple[Counts, Counts]:
    """Prompt and output tokens of a file with two such columns, in any format of a trace."""
    lengths = list(lengths_in(path))
    if not lengths:
        raise BadInput(f"{path} holds no lengths")
    prompts, outputs = np.array(lengths, dtype=np.int64).T
    return prompts, outputs
