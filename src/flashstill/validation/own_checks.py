"""What is odd about a user's own measurements: another unit, and repeats of a case that contradict each other.

A latency 100 times shorter than predicted is in seconds where milliseconds belong: no prediction is so far off, and
facts made of it would be wrong by the most that a stack can move.  One that is 100 times longer may be true, of a tiny
model or a busy server, and is only told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from flashstill.plan.case import Case
from flashstill.validation.own import LATENCIES, Compared

UNLIKELY, APART = 100.0, 2.0
"""times by which a latency is off its prediction, so that its unit is in doubt; by which repeats of a case lie apart"""


def in_seconds(compared: Sequence[Compared]) -> str:
    """A sentence with the line of the first latency that is too short for milliseconds, or nothing."""
    for each in compared:
        for column, measured, predicted in _columns(each):
            if measured * UNLIKELY < predicted:
                times = f"{predicted / measured:,.0f} times shorter than predicted"
                return (
                    f"line {each.row.line}: {column} is {measured * 1e3:.4g}, {times}; write milliseconds, not seconds"
                )
    return ""


def oddities(compared: Sequence[Compared]) -> list[str]:
    """Sentences for requests that failed, latencies that are very long, and cases measured several times, far apart."""
    told = [
        f"line {each.row.line}: {each.row.failed} requests failed and are in none of its figures"
        for each in compared
        if each.row.failed
    ]
    repeats: dict[tuple[Case, str], list[tuple[float, int]]] = defaultdict(list)
    for each in compared:
        for column, measured, predicted in _columns(each):
            repeats[each.row.case, column].append((measured, each.row.line))
            if measured > UNLIKELY * predicted:
                times = f"{measured / predicted:,.0f} times longer than predicted"
                told.append(f"line {each.row.line}: {column} is {measured * 1e3:.4g}, {times}; is it in milliseconds?")
    for (_, column), rows in repeats.items():
        least, most = min(rows), max(rows)
        if most[0] > APART * least[0]:
            first, last = sorted((least[1], most[1]))
            times = f"{most[0] / least[0]:.2g} times apart"
            told.append(f"lines {first} and {last} measure the same case, with a {column} {times}")
    return told


def _columns(each: Compared) -> list[tuple[str, float, float]]:
    """Of each measured latency its column, and the measured and the predicted seconds."""
    columns = {quantity: column for column, quantity in LATENCIES.items()}
    return [(columns[quantity], *seconds[:2]) for quantity, seconds in each.seconds.items()]
