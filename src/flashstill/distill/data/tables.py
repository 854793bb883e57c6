"""Read rows of Parquet and Arrow files in a separate, sandboxed process.

A few compressed bytes can expand to gigabytes, and a damaged file can crash the Arrow library.  The child process
(isolated/) therefore has memory and time limits, and its output is limited in size.  It writes JSON lines to stdout:

    {"row": {...}} for each row, then {"rows": n};   or {"refused": "..."} if the file cannot be used

Columns of any type are read, nested ones as lists and objects; only those asked for, if the file has any of them.
Arrow files may be of either format of its interprocess communication: a stream (as `datasets` writes) or a file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from flashstill.bounded import check_regular
from flashstill.compressed import MOST_BYTES, most_unfolded
from flashstill.distill.data.rows import Row
from flashstill.distill.isolated import Flooded, start
from flashstill.errors import BadInput, first_line

ROWS_AT_A_TIME = 64
LONGEST_PAUSE_S = 25.0
"""longest wait for more output of the child process"""
MOST_NAMES = 12


def columnar_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    """The rows of a Parquet or Arrow file, from row 0, with those of `columns` that it has.

    Raises BadInput if it has none of them, is damaged, or decompresses to more than its limit.
    """
    check_regular(path, MOST_BYTES)
    most, rows = most_unfolded(path), 0
    process = start(__name__, str(path.absolute()), json.dumps(sorted(columns)))
    try:
        for line in process.lines(LONGEST_PAUSE_S, most):
            answer = json.loads(line)
            if "refused" in answer:
                raise BadInput(f"data file {path} {answer['refused']}")
            if "rows" in answer:
                return
            yield Row(name=f"{path.name}:{rows}", where=f"data file {path}, row {rows}", value=answer["row"])
            rows += 1
    except Flooded as error:
        raise BadInput(f"data file {path} decompresses to more than {most // 2**20} MiB of text") from error
    except (EOFError, TimeoutError) as error:
        raise BadInput(
            f"data file {path} cannot be read after row {rows}: it is damaged, or decompresses to more than the memory"
        ) from error
    finally:
        process.end()


def main(path: str, columns: str) -> None:
    """Entry point of the child process: print the rows of the file at `path` as JSON lines."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # other pools reserve more than they use
    try:
        _print(path, json.loads(columns), answers)
    except MemoryError:
        os._exit(1)
    answers.flush()


def _print(path: str, columns: list[str], answers: TextIO) -> None:
    import pyarrow

    rows = 0
    try:
        for batch in _batches(path, columns):
            for row in batch.to_pylist():
                print(json.dumps({"row": _without_nulls(row)}, default=_plain), file=answers)
                rows += 1
    except MemoryError:
        raise
    except _Refused as error:
        print(json.dumps({"refused": str(error)}), file=answers)
        return
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        kind = "Parquet" if path.lower().endswith(".parquet") else "Arrow"
        print(json.dumps({"refused": f"is not a {kind} file that can be read ({first_line(error)})"}), file=answers)
        return
    print(json.dumps({"rows": rows}), file=answers)


class _Refused(Exception):
    """A file without the columns that are needed."""


def _batches(path: str, columns: list[str]) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    if path.lower().endswith(".parquet"):
        with pyarrow.parquet.ParquetFile(path) as file:
            kept = _kept(file.schema_arrow.names, columns)
            for group in range(file.num_row_groups):  # each has dictionaries of its own, which a batch cannot join
                yield from file.iter_batches(ROWS_AT_A_TIME, row_groups=[group], columns=kept, use_threads=False)
        return
    with pyarrow.OSFile(path) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        if is_file:
            reader = pyarrow.ipc.open_file(source)
            whole = (reader.get_batch(place) for place in range(reader.num_record_batches))
        else:
            reader = pyarrow.ipc.open_stream(source)
            whole = iter(reader)
        kept = _kept(reader.schema.names, columns)
        for batch in whole:
            for first in range(0, batch.num_rows, ROWS_AT_A_TIME):
                yield batch.slice(first, ROWS_AT_A_TIME).select(kept)


def _kept(names: list[str], columns: list[str]) -> list[str]:
    kept = [name for name in names if name in columns]
    if not kept:
        shown = ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
        raise _Refused(f'has no "text" column, and none of messages or prompts; its columns are {shown or "none"}')
    return kept


def _without_nulls(value: Any) -> Any:
    """A value without the null entries of its objects: a column of objects has every field in every object."""
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return value


def _plain(value: Any) -> Any:
    """A value that JSON does not know: bytes by their number, others as text."""
    return {"bytes": len(value)} if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main(*sys.argv[1:])
