"""The data of a task file as a data set in memory; JSON is read as a stream, a record at a time."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flashstill.distill.data.compressed import opened
from flashstill.distill.data.json_rows import json_lines, json_values
from flashstill.errors import BadInput


def dataset(files: list[str], kind: str) -> Any:
    """A data set of local files, whose sizes were checked (files.py); BadInput for JSON that is no objects."""
    import datasets
    import pyarrow as pa

    if kind in ("json", "text"):
        rows: list[Any] = []
        for file in map(Path, files):
            rows += objects(file) if kind == "json" else lines(file)
        return datasets.Dataset.from_list(rows)
    if kind == "csv":
        from pyarrow import csv

        tables = [csv.read_csv(file) for file in files]
    else:
        from pyarrow import parquet

        tables = [parquet.read_table(file) for file in files]
    return datasets.Dataset(pa.concat_tables(tables))


def lines(path: Path) -> Iterator[dict[str, str]]:
    """The lines of a text file."""
    with path.open(encoding="utf-8-sig") as stream:
        for line in stream:
            yield {"text": line.rstrip("\n")}


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines, which end at line feeds alone, or of an array; BadInput names what is none."""
    count = 0
    for row in json_values(path) if _is_array(path) else json_lines(path):
        if row.problem:
            raise BadInput(f"{row.where} {row.problem}")
        if not isinstance(row.value, dict):
            raise BadInput(f"{row.where} is no JSON object")
        count += 1
        yield row.value
    if not count:
        raise BadInput(f"data file {path} holds no JSON objects, one a line")


def _is_array(path: Path) -> bool:
    with opened(path, f"data file {path}") as stream:  # decompressed, as it is read
        while part := stream.read(2**12):
            if text := part.removeprefix(BOM_UTF8).lstrip():
                return text.startswith(b"[")
    return False
