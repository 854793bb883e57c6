"""Lines of requests: linked through Pool.counts, with their ends and length in three neighbouring columns of a row."""

from __future__ import annotations

from flashstill.simulate import state as field
from flashstill.simulate.compiled import compiled
from flashstill.simulate.state import NONE, Counts, Pool


@compiled
def push(rows: Counts, pool: Pool, row: int, head: int, place: int) -> None:
    """Put a request at the end of the line whose first column is `head`."""
    pool.counts[place, field.FOLLOWING] = NONE
    if rows[row, head + 2] == 0:
        rows[row, head] = place
    else:
        pool.counts[rows[row, head + 1], field.FOLLOWING] = place
    rows[row, head + 1] = place
    rows[row, head + 2] += 1


@compiled
def push_front(rows: Counts, pool: Pool, row: int, head: int, place: int) -> None:
    """Put a request at the front of a line."""
    pool.counts[place, field.FOLLOWING] = rows[row, head] if rows[row, head + 2] else NONE
    if rows[row, head + 2] == 0:
        rows[row, head + 1] = place
    rows[row, head] = place
    rows[row, head + 2] += 1


@compiled
def pop(rows: Counts, pool: Pool, row: int, head: int) -> int:
    """Take the first request from a line that has one."""
    place = rows[row, head]
    rows[row, head] = pool.counts[place, field.FOLLOWING]
    rows[row, head + 2] -= 1
    return int(place)
