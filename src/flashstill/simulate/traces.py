"""Read a trace of requests: CSV with the columns arrival_s, input_tokens, output_tokens, and optionally cached_tokens.

The column prefix_hit_blocks512 of the Mooncake trace (blocks of 512 tokens found in its cache) is read as well.  Files
are read in pieces, so that memory does not grow with their length; a mistake names its line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from flashstill.errors import BadInput, nearest, shortened
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.traffic import PIECE

NEEDED = ("arrival_s", "input_tokens", "output_tokens")
CACHED, HIT_BLOCKS, HIT_BLOCK = "cached_tokens", "prefix_hit_blocks512", 512
MOST_COLUMNS, LONGEST_LINE, MOST_TOKENS = 1000, 1_000_000, 2**31


def read_trace(path: Path, speed: float = 1.0) -> Iterator[Arrivals]:
    """The requests of a trace, in pieces. BadInput names the file and line of a mistake."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            yield from _pieces(path, _lines(path, text), speed)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadInput(f"the trace {path} cannot be read: {reason}") from error


def _lines(path: Path, text: Iterator[str]) -> Iterator[str]:
    """Lines, each checked for its length before it is parsed."""
    while line := text.readline(LONGEST_LINE + 1):  # type: ignore[attr-defined]  # a text file
        if len(line) > LONGEST_LINE:
            raise BadInput(f"{path} has a line of more than {LONGEST_LINE:,} characters")
        yield line


def _pieces(path: Path, lines: Iterator[str], speed: float) -> Iterator[Arrivals]:
    reader = csv.reader(lines)
    heading = next(reader, [])
    if len(heading) > MOST_COLUMNS:
        raise BadInput(f"{path} has {len(heading):,} columns; a trace has {', '.join(NEEDED)}")
    columns = {name.strip(): number for number, name in enumerate(heading)}
    for name in NEEDED:
        if name not in columns:
            close = nearest(name, columns)[:1]
            raise BadInput(f"{path} has no column {name!r}" + (f"; is it {close[0]!r}?" if close else ""))
    rows: list[tuple[float, int, int, int]] = []
    before = 0.0
    for row in reader:
        if not row:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) < len(heading):
            raise BadInput(f"{where}: {len(row)} of {len(heading)} columns")
        rows.append(_request(where, row, columns, speed))
        if rows[-1][0] < before:
            raise BadInput(f"{where}: arrives before the request above it; sort the trace by arrival_s")
        before = rows[-1][0]
        if len(rows) == PIECE:
            yield _arrivals(rows)
            rows = []
    if rows:
        yield _arrivals(rows)


def _request(where: str, row: list[str], columns: Mapping[str, int], speed: float) -> tuple[float, int, int, int]:
    """One request: seconds, prompt, output and cached tokens."""
    text = row[columns[NEEDED[0]]]
    try:
        arrival = float(text)
    except ValueError:
        arrival = math.nan
    if not 0.0 <= arrival < math.inf:
        raise BadInput(f"{where}: arrival_s is {shortened(text)!r}, not a time of at least 0 seconds")
    prompt, output = (_tokens(where, name, row[columns[name]], 1) for name in NEEDED[1:])
    cached = 0
    if CACHED in columns:
        cached = _tokens(where, CACHED, row[columns[CACHED]], 0)
    elif HIT_BLOCKS in columns:
        cached = HIT_BLOCK * _tokens(where, HIT_BLOCKS, row[columns[HIT_BLOCKS]], 0)
    return arrival / speed, prompt, output, min(cached, prompt - 1)


def _tokens(where: str, name: str, text: str, least: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= MOST_TOKENS and value == int(value)):
        raise BadInput(f"{where}: {name} is {shortened(text)!r}, not a whole number of at least {least}")
    return int(value)


def _arrivals(rows: list[tuple[float, int, int, int]]) -> Arrivals:
    times, prompt, output, cached = zip(*rows, strict=True)
    whole = (np.array(values, dtype=np.int64) for values in (prompt, output, cached))
    return Arrivals(np.array(times), *whole)
