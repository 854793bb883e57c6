"""Read a trace of requests, a CSV file or JSON lines, in pieces, so that memory does not grow with its length.

CSV         arrival_s, input_tokens, output_tokens, and one of these columns or none:
              cached_tokens           prompt tokens found in a prefix cache
              prefix_hit_blocks512    the same in blocks of 512 tokens, as in the Mooncake trace without hashes
              block_hashes512         names of the blocks of 512 tokens, separated by spaces; any other size as well
JSON lines  as Mooncake publishes them (Qin et al. 2025): timestamp in ms, input_length, output_length, hash_ids

The names cover the prompt, or the prompt and its answer.  Only whole blocks are used: the last name of a prompt that
ends within a block is left out.  A mistake names its line.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flashstill.errors import BadInput, nearest, shortened
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.traffic import PIECE

NEEDED = ("arrival_s", "input_tokens", "output_tokens")
CACHED, HIT_BLOCKS, HIT_BLOCK, HASHES = "cached_tokens", "prefix_hit_blocks512", 512, "block_hashes"
JSON_NEEDED, HASH_IDS, MOONCAKE_BLOCK = ("timestamp", "input_length", "output_length"), "hash_ids", 512
MOST_COLUMNS, LONGEST_LINE, MOST_TOKENS, MOST_KEYS = 1000, 1_000_000, 2**31, 2**20


class Row(NamedTuple):
    """A request: seconds, tokens of the prompt, of the answer and found in a cache, and keys of its whole blocks."""

    arrival_s: float
    prompt: int
    output: int
    cached: int
    keys: tuple[int, ...] = ()


def hash_block_of(path: Path, asked: int | None = None) -> int:
    """Tokens of the blocks that a trace names, 0 if it names none. asked: what the user says of JSON lines."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            first = next(_lines(path, text), "")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if _is_json(first):
        return asked or MOONCAKE_BLOCK
    if asked is not None:
        raise BadInput(f"hash_block is for JSON lines; a column of {path} says it itself, as {HASHES}512")
    return _hash_column(path, next(csv.reader([first]), []))[1]


def read_trace(path: Path, speed: float = 1.0, hash_block: int | None = None) -> Iterator[Arrivals]:
    """The requests of a trace, in pieces. BadInput names the file and line of a mistake."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            lines = _lines(path, text)
            first = next(lines, "")
            rows = (
                _json_rows(path, first, lines, hash_block or MOONCAKE_BLOCK)
                if _is_json(first)
                else _csv_rows(path, first, lines)
            )
            yield from _pieces(rows, speed)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> BadInput:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return BadInput(f"the trace {path} cannot be read: {reason}")


def _is_json(line: str) -> bool:
    return line.lstrip("\ufeff \t").startswith("{")


def _lines(path: Path, text: Iterator[str]) -> Iterator[str]:
    """Lines, each checked for its length before it is parsed."""
    while line := text.readline(LONGEST_LINE + 1):  # type: ignore[attr-defined]  # a text file
        if len(line) > LONGEST_LINE:
            raise BadInput(f"{path} has a line of more than {LONGEST_LINE:,} characters")
        yield line


def _pieces(rows: Iterable[tuple[str, Row]], speed: float) -> Iterator[Arrivals]:
    """Arrivals of bounded size. rows: where each request stands, and what it is."""
    held: list[Row] = []
    before, keys = 0.0, 0
    for where, row in rows:
        if row.arrival_s < before:
            raise BadInput(f"{where}: arrives before the request above it; sort the trace by time")
        before = row.arrival_s
        held.append(row)
        keys += len(row.keys)
        if len(held) == PIECE or keys >= MOST_KEYS:
            yield _arrivals(held, speed)
            held, keys = [], 0
    if held:
        yield _arrivals(held, speed)


def _arrivals(rows: list[Row], speed: float) -> Arrivals:
    times, prompt, output, cached, keys = zip(*rows, strict=True)
    whole = (np.array(values, dtype=np.int64) for values in (prompt, output, cached))
    found = Arrivals(np.array(times) / speed, *whole)
    ends = np.cumsum([len(each) for each in keys], dtype=np.int64)
    if ends[-1] == 0:
        return found
    return found._replace(key_ends=ends, keys=np.array([key for each in keys for key in each], dtype=np.int64))


def _csv_rows(path: Path, first: str, lines: Iterator[str]) -> Iterator[tuple[str, Row]]:
    def all_lines() -> Iterator[str]:
        yield first
        yield from lines

    reader = csv.reader(all_lines())
    heading = next(reader, [])
    hashes, block = _hash_column(path, heading)
    columns = {name.strip(): number for number, name in enumerate(heading)}
    for name in NEEDED:
        if name not in columns:
            close = nearest(name, columns)[:1]
            raise BadInput(f"{path} has no column {name!r}" + (f"; is it {close[0]!r}?" if close else ""))
    for cells in reader:
        if not cells:
            continue
        where = f"{path}, line {reader.line_num}"
        if len(cells) < len(heading):
            raise BadInput(f"{where}: {len(cells)} of {len(heading)} columns")
        row = _request(where, cells, columns)
        if block:
            row = row._replace(keys=_keys(where, cells[columns[hashes]].split(), row, block))
        yield where, row


def _hash_column(path: Path, heading: list[str]) -> tuple[str, int]:
    """The column with names of blocks, and the tokens of a block; ("", 0) without one."""
    if len(heading) > MOST_COLUMNS:
        raise BadInput(f"{path} has {len(heading):,} columns; a trace has {', '.join(NEEDED)}")
    names = [name.strip() for name in heading]
    found = [name for name in names if name.startswith(HASHES)]
    if not found:
        return "", 0
    match = re.fullmatch(HASHES + r"([1-9][0-9]{0,8})", found[0])
    if len(found) > 1 or match is None:
        raise BadInput(
            f"{path} names blocks in {', '.join(found)}; one column such as {HASHES}512 says the block's size"
        )
    also = [name for name in (CACHED, HIT_BLOCKS) if name in names]
    if also:
        raise BadInput(f"{path} has {found[0]} and {also[0]}; what is found in a cache follows from one of them")
    return found[0], int(match[1])


def _request(where: str, row: list[str], columns: Mapping[str, int]) -> Row:
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
    return Row(arrival, prompt, output, min(cached, prompt - 1))


def _tokens(where: str, name: str, text: str, least: int) -> int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (least <= value <= MOST_TOKENS and value == int(value)):
        raise BadInput(f"{where}: {name} is {shortened(text)!r}, not a whole number of at least {least}")
    return int(value)


def _json_rows(path: Path, first: str, lines: Iterator[str], block: int) -> Iterator[tuple[str, Row]]:
    def all_lines() -> Iterator[str]:
        yield first.lstrip("\ufeff")
        yield from lines

    for number, line in enumerate(all_lines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{where}: not a JSON object") from error
        if not isinstance(values, dict):
            raise BadInput(f"{where}: not a JSON object")
        time, prompt, output = (_number(where, name, values) for name in JSON_NEEDED)
        for name, value in zip(JSON_NEEDED[1:], (prompt, output), strict=True):
            if not (1 <= value <= MOST_TOKENS and value == int(value)):
                raise BadInput(f"{where}: {name} is {shortened(str(value))!r}, not a whole number of at least 1")
        row = Row(time / 1000.0, int(prompt), int(output), 0)
        names = values.get(HASH_IDS, [])
        if not isinstance(names, list) or not all(isinstance(name, int | str) for name in names):
            raise BadInput(f"{where}: {HASH_IDS} is {shortened(str(names))!r}, not a list of numbers or texts")
        yield where, row._replace(keys=_keys(where, names, row, block))


def _number(where: str, name: str, values: Mapping[str, Any]) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
        close = [] if name in values else nearest(name, values)[:1]
        hint = f"; is it {close[0]!r}?" if close else ""
        raise BadInput(f"{where}: {name} is {shortened(str(value))!r}, not a number of at least 0{hint}")
    return float(value)


def _keys(where: str, names: list[Any], row: Row, block: int) -> tuple[int, ...]:
    """Keys of whole blocks, each a hash of its name and of all before it, so that equal keys mean equal prefixes."""
    of_prompt, of_all = -(-row.prompt // block), -(-(row.prompt + row.output) // block)
    if len(names) > of_all:
        raise BadInput(
            f"{where}: {len(names):,} names of blocks of {block} tokens for {row.prompt + row.output:,} tokens;"
            " is the block of another size?"
        )
    whole = (row.prompt if len(names) <= of_prompt else row.prompt + row.output) // block
    keys, key = [], 0
    for name in names[:whole]:
        key = hash((key, name)) & 0x7FFFFFFFFFFFFFFF
        keys.append(key)
    return tuple(keys)
