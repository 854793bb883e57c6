"""Read the "text" column of a Parquet file in a separate, sandboxed process.

A few compressed bytes can expand to gigabytes, and a damaged file can crash the Parquet library.  The child process
(isolated/) therefore has memory and time limits, and its output is limited in size.  It writes JSON lines to stdout:

    {"text": "..."} for each row, then {"rows": n};   or {"refused": "..."} if the file cannot be used
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from flashstill.distill.isolated import Flooded, start
from flashstill.errors import BadInput, first_line

ROWS_AT_A_TIME = 64
LONGEST_PAUSE_S = 25.0
"""longest wait for more output of the child process"""


def texts_of(path: Path, most_bytes: int) -> Iterator[str]:
    """Yield the "text" column row by row; BadInput if it is missing or longer than `most_bytes`."""
    process, size, rows = start(__name__, str(path.absolute())), 0, 0
    try:
        for line in process.lines(LONGEST_PAUSE_S, most_bytes):
            row = json.loads(line)
            if "refused" in row:
                raise BadInput(f"data file {path} {row['refused']}")
            if "rows" in row:
                return
            size, rows = size + len(line), rows + 1
            yield row["text"]
    except Flooded as error:
        raise BadInput(f"data file {path} decompresses to more than {most_bytes // 2**20} MiB of text") from error
    except (EOFError, TimeoutError) as error:
        raise BadInput(
            f"data file {path} cannot be read after row {rows}: it is damaged, or decompresses to more than the memory"
        ) from error
    finally:
        process.end()


def main(path: str) -> None:
    """Entry point of the child process: print the rows of the Parquet file at `path` as JSON lines."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # other pools reserve more than they use
    try:
        _print(path, answers)
    except MemoryError:
        os._exit(1)
    answers.flush()


def _print(path: str, answers: TextIO) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                print(json.dumps({"refused": 'has no "text" column'}), file=answers)
                return
            for batch in file.iter_batches(ROWS_AT_A_TIME, columns=["text"], use_threads=False):
                for text in batch.column(0).to_pylist():
                    if not isinstance(text, str):
                        row = {"refused": f'has no string in row {rows} of its "text" column'}
                        print(json.dumps(row), file=answers)
                        return
                    print(json.dumps({"text": text}), file=answers)
                    rows += 1
    except MemoryError:
        raise
    except (pyarrow.ArrowException, OSError, KeyError, ValueError) as error:
        first = first_line(error)
        print(json.dumps({"refused": f'is not a Parquet file with a "text" column ({first})'}), file=answers)
        return
    print(json.dumps({"rows": rows}), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
