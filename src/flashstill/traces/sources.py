"""Rows of a file by column, one after the other: CSV, JSON lines, Parquet, and JSON documents of load generators.

A file may be compressed (.gz, .bz2, .xz, .zst).  Lines are parsed one by one and checked for their length before, so
that memory does not grow with the file; only a document is held as a whole, and is bounded in size.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from flashstill.bounded import check_regular, read_bounded
from flashstill.compressed import misnamed, opened, suffix_of
from flashstill.errors import BadInput
from flashstill.traces.documents import tables_in
from flashstill.traces.formats import FORMATS
from flashstill.traces.nested import value_at
from flashstill.traces.spans import RESOURCES, columns_of, is_export, is_span, requests_in

CLIENT = re.compile(r"chunk-[0-9]+-(trace\.csv|dataset\.json)")
"""files of ServeGen (github.com/alibaba/ServeGen)"""
DOCUMENT = "request"
"""what the rows of a JSON document are called"""
MOST_COLUMNS, LONGEST_LINE, DOCUMENT_BYTES, BATCH_ROWS = 1000, 1_000_000, 256 * 2**20, 16384
LONGEST_EXPORT = 2**26
"""characters of a line with a batch of spans"""
AHEAD = 63
"""lines of JSON whose names are columns, after the first: a name may be left out where it has no value"""
Rows = Iterator[tuple[int, Sequence[Any]]]


class Source(NamedTuple):
    """A file's columns, what its rows are called in messages, and its rows: number, values of the columns asked for
    (None for one that is not there)."""

    columns: tuple[str, ...]
    place: str
    rows: Callable[[Sequence[str]], Rows]


def check_no_client(path: Path) -> None:
    """BadInput for the files of one client of ServeGen, or a folder of them, which are no requests."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a file; one of ServeGen's clients (chunk-N-trace.csv) goes to --daily")
    if CLIENT.fullmatch(path.name):
        raise BadInput(
            f"{path} is of one of ServeGen's clients; give the folder of all of them, as --daily {path.parent}"
        )


@contextmanager
def source_of(path: Path) -> Iterator[Source]:
    """The rows of a file, as long as it is open. BadInput for one that cannot be read."""
    check_no_client(path)
    suffix = suffix_of(path)
    if suffix == ".parquet":
        with _parquet(path) as source:
            yield source
        return
    if suffix == ".json" and path.suffix.lower() == ".json":
        document = _document(path)
        if document is not None:
            yield document
            return
    with (
        opened(path, f"the trace {path}") as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
    ):
        lines = _lines(path, text)
        first = next(((number, line) for number, line in lines if line.strip()), None)
        if first is None:
            raise BadInput(f"{path} is empty; a line for each request is expected, below a heading or as JSON")
        yield _json_lines(path, first, lines) if first[1].lstrip().startswith("{") else _csv(path, first, lines)


def _lines(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, each checked for its length before it is parsed."""
    number, read, longest = 0, text.readline, LONGEST_LINE + 1
    while True:
        number += 1
        try:
            line = read(longest)
        except UnicodeDecodeError as error:
            what = misnamed(path) or "it is not UTF-8 text"
            raise BadInput(f"{path}, line {number} or soon after: {what}") from error
        if not line:
            return
        if len(line) > LONGEST_LINE and any(f'"{name}"' in line[:100] for name in RESOURCES):
            line += read(LONGEST_EXPORT - LONGEST_LINE)
            if len(line) <= LONGEST_EXPORT:
                yield number, line
                continue
        if len(line) > LONGEST_LINE:
            raise BadInput(f"{path}, line {number}: a line of more than {LONGEST_LINE:,} characters")
        yield number, line


def _csv(path: Path, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Source:
    heading = [name.strip() for name in _cells(path, *first)]
    _check_heading(path, [name for name in heading if name])

    def rows(names: Sequence[str]) -> Rows:
        places = [heading.index(name) if name in heading else len(heading) for name in names]
        chosen = itemgetter(*places) if len(places) > 1 else lambda cells: [cells[places[0]]]
        width = len(heading)
        for number, line in lines:
            cells = line.rstrip("\r\n").split(",") if '"' not in line else _cells(path, number, line)
            if len(cells) != width:
                if not line.strip():
                    continue
                if len(cells) < width or any(cells[width:]):
                    raise BadInput(f"{path}, line {number}: {len(cells)} of {width} columns")
                del cells[width:]
            cells.append(None)  # type: ignore[arg-type]
            yield number, chosen(cells)

    return Source(tuple(heading), "line", rows)


def _check_heading(path: Path, columns: Sequence[str]) -> None:
    if len(columns) > MOST_COLUMNS:
        raise BadInput(f"{path} has {len(columns):,} columns; a trace has a few, such as arrival_s")
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{path} has two columns {twice!r}")


def _cells(path: Path, number: int, line: str) -> list[str]:
    """The cells of a line; a quoted cell does not go on in the next one."""
    if '"' not in line:
        return line.rstrip("\r\n").split(",")
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise BadInput(f"{path}, line {number}: not a line of CSV ({error})") from error


def _json_lines(path: Path, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Source:
    begins = _object(path, *first)
    if is_export(begins) or is_span(begins):
        trees = ((number, _object(path, number, line)) for number, line in chain([first], lines) if line.strip())
        return _of_spans(path, "line", trees)
    columns = dict.fromkeys(begins)
    opening, mistake = [first], None
    try:
        for number, line in islice(lines, AHEAD):
            opening.append((number, line))
            columns |= dict.fromkeys(_object(path, number, line) if line.strip() else ())
    except BadInput as error:  # told when the reader comes to it
        mistake = error

    def rows(names: Sequence[str]) -> Rows:
        for number, line in chain(opening, _raised(mistake), lines):
            if line.strip():
                values = _object(path, number, line)
                yield number, [value_at(values, name) for name in names]

    return Source(tuple(columns), "line", rows)


def _of_spans(path: Path, place: str, trees: Iterable[tuple[int, Mapping[str, Any]]]) -> Source:
    found = requests_in(str(path), trees)
    return Source(columns_of(found), place, lambda names: _values(found, names))


def _values(records: Iterable[tuple[int, Mapping[str, Any]]], names: Sequence[str]) -> Rows:
    for number, record in records:
        yield number, [value_at(record, name) for name in names]


def _raised(mistake: BadInput | None) -> Iterator[tuple[int, str]]:
    """No lines, or the mistake that was met in them."""
    if mistake is not None:
        raise mistake
    yield from ()


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}, line {number}: not a JSON object") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}, line {number}: not a JSON object")
    return values


def _document(path: Path) -> Source | None:
    """The requests of one JSON document; None where a file has one JSON object a line."""
    try:
        tree = json.loads(read_bounded(path, DOCUMENT_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return None
        raise BadInput(f"{path} is neither one JSON document nor JSON lines") from error
    if isinstance(tree, dict) and any(each.fits(tuple(tree)) for each in FORMATS.values() if not each.is_document):
        return None  # JSON lines of one request
    whole = tree["trace"] if isinstance(tree, dict) and isinstance(tree.get("trace"), dict) else tree
    if isinstance(whole, dict) and is_export(whole):
        return _of_spans(path, DOCUMENT, [(1, whole)])
    if isinstance(tree, list) and tree and all(isinstance(each, dict) and is_span(each) for each in tree):
        return _of_spans(path, DOCUMENT, enumerate(tree, 1))
    columns, records = tables_in(path, tree)
    return Source(columns, DOCUMENT, lambda names: _values(enumerate(records, 1), names))


@contextmanager
def _parquet(path: Path) -> Iterator[Source]:
    check_regular(path)
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            _check_heading(path, columns)

            def rows(names: Sequence[str]) -> Rows:
                there = [name for name in dict.fromkeys(names) if name in columns]
                number = 0
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=there):
                    values = {name: batch.column(name).to_pylist() for name in there}
                    empty = [None] * batch.num_rows
                    for row in zip(*(values.get(name, empty) for name in names), strict=True):
                        number += 1
                        yield number, row

            yield Source(columns, "row", rows)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInput(f"the trace {path} cannot be read: {str(error).splitlines()[0][:200]}") from error
