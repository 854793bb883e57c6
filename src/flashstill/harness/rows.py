"""The data of a task file as a data set, read as streams: JSON and text in memory, CSV and Parquet on the disk."""

from __future__ import annotations

import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flashstill.compressed import opened
from flashstill.distill.data.json_rows import json_lines, json_values
from flashstill.errors import BadInput, first_line
from flashstill.harness.tables import csv_table, parquet_table


def dataset(files: list[str], kind: str) -> Any:
    """A data set of local files, whose sizes were checked (files.py); BadInput for JSON that is no objects."""
    if kind in ("json", "text"):
        from datasets import Dataset

        rows: list[Any] = []
        for place in map(Path, files):
            rows += objects(place) if kind == "json" else lines(place)
        return Dataset.from_list(rows)
    read = csv_table if kind == "csv" else parquet_table
    tables = []
    for file in files:
        tables.append(read(Path(file), Path(tempfile.mkdtemp())))  # where this process may write
        if tables[-1].schema.names != tables[0].schema.names:
            raise BadInput(f"data file {file} has other columns than {files[0]}")
    import pyarrow as pa
    from datasets import Dataset

    try:
        return Dataset(pa.concat_tables(tables, promote_options="permissive"))
    except pa.ArrowException as error:
        raise BadInput(f"data files {', '.join(files)} have columns of other kinds ({first_line(error)})") from error


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
