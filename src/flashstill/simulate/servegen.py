"""The requests of ServeGen's clients, from a folder as Alibaba publishes it (Xiang et al. 2026, NSDI; github.com/
alibaba/ServeGen), with two files for each client:

    chunk-N-trace.csv      without a heading: window's start in seconds, requests per second, coefficient of variation
                           of the gaps, and the pattern with its parameters
    chunk-N-dataset.json   start -> {"input_tokens": "{tokens: share, ...}", "output_tokens": ...}, of longer windows

Each client is a renewal process of its own (daily.py) with lengths of its own, drawn from the seed and its number
alone.  Gaps are gamma-distributed with the window's coefficient of variation, also where ServeGen fitted a Weibull
distribution to them; with 1 where the file states 0.  A window without a distribution of lengths takes that of the
last one which has one, or else the first.  A length of 0 tokens is taken as 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.csv_rows import number_in
from flashstill.simulate.daily import PIECE, Day, arrival_times
from flashstill.simulate.state import Counts, Values

NAME = re.compile(r"chunk-([0-9]{1,9})-trace\.csv")
MOST_CLIENTS, MOST_BYTES, MOST_TOKENS, LATEST_S = 10_000, 256 * 2**20, 2**31, 1e8
FOLDER_BYTES = 2 * 2**30
"""of all files, whose distributions are held in memory"""
STEP_S, STEP_REQUESTS = 600.0, 1e6
"""drawn at a time: so many seconds, or fewer for about so many requests"""
LENGTHS = ("input_tokens", "output_tokens")
OTHERS = ("image", "audio", "video")
"""kinds of prompts that are not text"""


class Lengths(NamedTuple):
    """Distributions of tokens from a moment on: for prompts and for answers tokens [K] and cumulated shares [K]."""

    start_s: float
    tokens: tuple[Counts, Counts]
    shares: tuple[Values, Values]


class Client:
    """One client: its arrivals in order, and what it asks."""

    def __init__(self, day: Day, lengths: list[Lengths], seed: int, number: int) -> None:
        self._lengths, self._starts = lengths, np.array([each.start_s for each in lengths])
        self._times = arrival_times(day, np.random.default_rng([seed, 5, number]), PIECE)
        self._drawn = np.random.default_rng([seed, 6, number])
        self._held: Values = np.zeros(0)

    def until(self, end_s: float) -> tuple[Values, Counts, Counts]:
        """Times, prompts and answers of its next requests before a moment."""
        held = [self._held]
        while not len(held[-1]) or held[-1][-1] < end_s:
            more = next(self._times, None)
            if more is None:
                break
            held.append(more)
        times = np.concatenate(held)
        used = int(np.searchsorted(times, end_s))
        self._held = times[used:]
        return times[:used], *self._tokens(times[:used])

    def _tokens(self, times: Values) -> tuple[Counts, Counts]:
        window = np.maximum(np.searchsorted(self._starts, times, side="right") - 1, 0)
        found = np.ones((2, len(times)), dtype=np.int64)
        for at in np.unique(window):
            chosen = np.flatnonzero(window == at)
            for kind in range(2):
                tokens, shares = self._lengths[at].tokens[kind], self._lengths[at].shares[kind]
                places = np.searchsorted(shares, self._drawn.random(len(chosen)), side="right")
                found[kind, chosen] = tokens[np.minimum(places, len(tokens) - 1)]
        return found[0], found[1]


def requests_of_clients(folder: Path, seed: int, scale: float = 1.0) -> Iterator[Arrivals]:
    """The requests of all clients in order of arrival, in pieces. scale: factor of all rates.

    BadInput names the file and line of a mistake.
    """
    clients, ends, peak = [], 0.0, 0.0
    for number, path in clients_in(folder):
        day = _day(path, scale)
        ends = max(ends, float(day.start_s[-1] + day.width_s[-1]))
        peak += float(day.rate.max())
        if day.rate.any():
            clients.append(Client(day, _lengths(path.with_name(f"chunk-{number}-dataset.json")), seed, number))
    if not clients:
        raise BadInput(f"no client in {folder} has any requests")
    end_s, step_s = 0.0, min(STEP_S, STEP_REQUESTS / peak)
    while end_s < ends:
        end_s += step_s
        parts = [client.until(end_s) for client in clients]
        times, prompt, output = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(times, kind="stable")
        for first in range(0, len(order), PIECE):
            part = order[first : first + PIECE]
            yield Arrivals(times[part], prompt[part], output[part], np.zeros(len(part), dtype=np.int64))


def clients_in(folder: Path) -> list[tuple[int, Path]]:
    """Number and arrivals of each client. BadInput for a folder that is not ServeGen's."""
    found = sorted((int(name[1]), path) for path in folder.iterdir() if (name := NAME.fullmatch(path.name)))
    if not found:
        raise BadInput(
            f"{folder} is a folder without ServeGen's chunk-N-trace.csv; give one as data/language/m-large, or a file"
        )
    if len(found) > MOST_CLIENTS:
        raise BadInput(f"{folder} has more than {MOST_CLIENTS:,} clients")
    files = (each for number, path in found for each in (path, path.with_name(f"chunk-{number}-dataset.json")))
    held_bytes = sum(each.stat().st_size for each in files if each.is_file())
    if held_bytes > FOLDER_BYTES:
        raise BadInput(
            f"{folder} has {held_bytes:,} bytes of clients, and at most {FOLDER_BYTES:,} are read; give a part of them"
        )
    return found


def _day(path: Path, scale: float) -> Day:
    rows: list[tuple[float, float, float]] = []
    for line, text in enumerate(_text(path).splitlines(), 1):
        cells = text.split(",")
        where = f"{path}, line {line}"
        if not text.strip():
            continue
        if len(cells) < 3:
            raise BadInput(f"{where}: {len(cells)} columns; ServeGen's have a start, a rate and a variation first")
        start_s = number_in(where, "the window's start", cells[0], 0.0, LATEST_S)
        rate = number_in(where, "the rate", cells[1], 0.0, 1e9)
        cv = number_in(where, "the coefficient of variation", cells[2], 0.0, 1e3)
        if rows and start_s <= rows[-1][0]:
            raise BadInput(f"{where}: the window does not begin after the one above it")
        rows.append((start_s, rate * scale, max(cv, 1e-3) if cv > 0.0 else 1.0))
    if len(rows) < 2:
        raise BadInput(f"{path} needs at least two windows, as the last one is as long as the one before it")
    start_s_of, rates, cvs = (np.array(column) for column in zip(*rows, strict=True))
    return Day(
        start_s=start_s_of, width_s=np.append(np.diff(start_s_of), start_s_of[-1] - start_s_of[-2]), rate=rates, cv=cvs
    )


def _lengths(path: Path) -> list[Lengths]:
    if not path.is_file():
        raise BadInput(f"{path} is missing: the lengths of this client's requests")
    try:
        tree = json.loads(_text(path))
        windows = sorted(((float(start), each) for start, each in tree.items()), key=lambda window: window[0])
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} is not ServeGen's document of lengths by window") from error
    found = []
    for start_s, each in windows:
        where = f"{path}, window {start_s:g}"
        if not isinstance(each, dict) or not math.isfinite(start_s):
            raise BadInput(f"{where} is no distribution of lengths")
        other = next((name for name in each if any(kind in name for kind in OTHERS)), None)
        if other is not None:
            raise BadInput(f"{where} has {other}: requests with more than text are not read")
        drawn = [_distribution(where, name, each.get(name)) for name in LENGTHS]
        if all(part is not None for part in drawn):
            (prompts, first), (answers, second) = drawn  # type: ignore[misc]
            found.append(Lengths(start_s, (prompts, answers), (first, second)))
    if not found:
        raise BadInput(f"{path} has no window with lengths")
    return found


def _distribution(where: str, name: str, cell: Any) -> tuple[Counts, Values] | None:
    """Tokens and cumulated shares of text such as "{37: 0.25, 39: 0.75}"; None if it is empty."""
    if isinstance(cell, dict):
        cell = json.dumps(cell).replace('"', "")
    if not isinstance(cell, str) or not (cell.startswith("{") and cell.endswith("}")):
        raise BadInput(f"{where}: {name} is no distribution such as {{37: 0.25, 39: 0.75}}")
    try:
        numbers = np.array(cell[1:-1].replace(",", " ").replace(":", " ").split(), dtype=np.float64).reshape(-1, 2)
    except ValueError as error:
        raise BadInput(f"{where}: {name} is no distribution such as {{37: 0.25, 39: 0.75}}") from error
    tokens, shares = numbers[numbers[:, 1] > 0.0].T
    if not len(tokens):
        return None
    is_whole = bool(np.isfinite(numbers).all() and (tokens == np.round(tokens)).all())
    if not is_whole or (numbers < 0.0).any() or tokens.max() > MOST_TOKENS:
        raise BadInput(f"{where}: {name} has tokens or shares that are no numbers from 0 on")
    return np.maximum(tokens, 1.0).astype(np.int64), np.cumsum(shares) / shares.sum()


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error
