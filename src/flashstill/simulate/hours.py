"""Numbers of replicas by hour: given one by one, as pairs, or as a CSV file with the columns hour and replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from flashstill.errors import BadInput, shown
from flashstill.simulate.csv_rows import number_in, rows_of

Hours = Sequence[int] | Sequence[tuple[float, int]]
MOST_REPLICAS, MOST_HOURS = 100_000, 1e7


def schedule_of(asked: str | Path | Hours | None) -> tuple[tuple[float, int], ...]:
    """(hour, copies), in order, from hour 0 on; after the last one its number stays. BadInput names a mistake."""
    if asked is None:
        return ()
    if isinstance(asked, (str, Path)):
        source, rows = str(asked), list(rows_of(Path(asked), [["hour"], ["replicas"]]))
    else:
        source = "replicas_by_hour"
        if not isinstance(asked, Iterable):
            raise BadInput(f"{source} is {shown(asked)}, not the path of a CSV file or numbers by hour")
        pairs = [each if isinstance(each, (tuple, list)) else (hour, each) for hour, each in enumerate(asked)]
        rows = [
            [f"{source}, entry {number}", str(hour), str(count)] for number, (hour, count) in enumerate(pairs, start=1)
        ]
    found: list[tuple[float, int]] = []
    for where, hour_text, count_text in rows:
        hour = number_in(where, "hour", hour_text, 0.0, MOST_HOURS)
        count = int(number_in(where, "replicas", count_text, 0.0, MOST_REPLICAS, whole=True))
        if found and hour <= found[-1][0]:
            raise BadInput(f"{where}: hour {hour:g} does not come after {found[-1][0]:g}; sort the rows by hour")
        found.append((hour, count))
    if not found or found[0][0] > 0.0:
        raise BadInput(f"{source}: the first row must be of hour 0")
    if not any(count for _, count in found):
        raise BadInput(f"{source}: there are never any replicas")
    return tuple(found)
