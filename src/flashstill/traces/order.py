"""Requests of a trace in order of time, from where they are read; and whether the blocks that they name are of the size
that is taken for them.

Requests come as (line, request with its time as written, how many blocks it names); where: a line in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.traces.formats import DATE, Format
from flashstill.traces.reading import Reading
from flashstill.traces.requests import Row, are_of_blocks

MOST_SORTED, CHECKED = 2_000_000, 64
EPOCH_S = 1e8
"""numbers as times above it count from 1970, and are read from the first request on"""
Requests = Iterator[tuple[int, Row, int]]


def checked_blocks(rows: Requests, block: int, where: Callable[[int], str]) -> Requests:
    """The same requests, after the names of the first ones were found to be of blocks of so many tokens."""
    held: list[tuple[int, Row, int]] = []
    for each in rows:
        held.append(each)
        if len(held) == CHECKED:
            break
    wrong = [
        (line, row, count)
        for line, row, count in held
        if count and not are_of_blocks(count, row.prompt, row.output, block)
    ]
    if 2 * len(wrong) > sum(count > 0 for _, _, count in held):
        line, row, count = wrong[0]
        raise BadInput(
            f"{where(line)}: {count:,} names for {row.prompt:,} tokens are not those of blocks of {block} tokens; say"
            " how large they are with --hash-block"
        )
    yield from chain(held, rows)


def in_order_of_time(rows: Requests, path: Path) -> Requests:
    """All requests in order of arrival, held in memory; a turn without a time stays behind the turn before it.

    BadInput for too many of them.
    """
    held: list[tuple[float, tuple[int, Row, int]]] = []
    known: dict[Any, float] = {}
    for each in rows:
        if len(held) == MOST_SORTED:
            raise BadInput(f"{path} has over {MOST_SORTED:,} requests, too many to sort here; sort them by time")
        arrival_s, turn = each[1].arrival_s, each[1].turn
        if turn is not None:
            if not turn.has_time:  # its own is that of the line above it, of another conversation perhaps
                arrival_s = known.get(turn.name, arrival_s)
            known[turn.name] = arrival_s
        held.append((arrival_s, each))
    return (each for _, each in sorted(held, key=itemgetter(0)))


def from_start(
    rows: Requests, form: Format, reading: Reading, where: Callable[[int], str]
) -> Iterator[tuple[int, Row]]:
    """Requests of the part that is read, with times from its beginning on. BadInput where they are not in order."""
    is_part, before = reading.is_part, 0.0
    zero: float | None = None
    for line, row, _ in rows:
        if zero is None:
            counts = form.relative or row.arrival_s >= EPOCH_S or reading.is_part
            zero = row.arrival_s if counts or form.unit == DATE else 0.0
        at = row.arrival_s - zero if zero else row.arrival_s
        if row.turn is None or row.turn.has_time:
            if at < before:
                raise BadInput(
                    f"{where(line)}: arrives before the request above it; sort the trace by time, or give --sort-trace"
                )
            before = at
        if is_part:
            if at >= reading.end_s and not form.delay:
                return
            if at >= reading.end_s:
                continue  # turns of earlier conversations may follow
            if at < reading.trace_from_s:
                continue
            at -= reading.trace_from_s
        yield line, (row if at == row.arrival_s else Row(at, *row[1:]))
