"""Data of a task in CSV or Parquet: read some rows at a time, written to the disk, and mapped from there.

    CSV       cells are text; a column in which all that is given is whole numbers, else numbers, else true or false,
              holds these, and nothing where a cell is blank or says NA, null or the like
    Parquet   pages are read one after another; categories become their values

Rows of up to MOST_ROW_BYTES and tables of up to MOST_UNFOLDED_BYTES are read, whatever a file promises: a few kilobytes
of Parquet can say the same megabyte a million times.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from flashstill.distill.data.json_rows import table_rows
from flashstill.errors import BadInput, first_line

MOST_UNFOLDED_BYTES, MOST_ROW_BYTES = 2 * 2**30, 32 * 2**20
PART_BYTES, FILE_BYTES = 4 * 2**20, 24 * 2**20
"""of a batch, and of a file on the disk, which takes one batch more; the process's limit is 64 MiB"""
ROWS_AT_A_TIME, CELLS_AT_A_TIME = 64, 2**16
READING_BYTES = 2 * 2**30
"""address space that reading may add"""
BLANK = ("", "NA", "N/A", "NULL", "null", "NaN", "nan")
KINDS = ("int64", "float64", "bool_")


class Spool:
    """Batches of one schema in files of `folder`; use it in a `with` block."""

    def __init__(self, folder: Path, shown: str) -> None:
        """shown: names the data in messages."""
        self._folder, self._shown, self._size, self._total = folder, shown, 0, 0
        self._paths: list[Path] = []
        self._writer: Any = None

    def add(self, batch: Any) -> None:
        """Append a batch, in parts if it is large."""
        size = batch.nbytes
        if size > PART_BYTES and batch.num_rows > 1:
            half = batch.num_rows // 2
            self.add(batch.slice(0, half))
            self.add(batch.slice(half))
            return
        if size > MOST_ROW_BYTES:
            raise BadInput(f"{self._shown} has a row of more than {MOST_ROW_BYTES // 2**20} MiB")
        self._total += size
        if self._total > MOST_UNFOLDED_BYTES:
            raise BadInput(f"{self._shown} unfolds to more than {MOST_UNFOLDED_BYTES // 2**20} MiB; give a part of it")
        self._write(batch, size)

    def _write(self, batch: Any, size: int) -> None:
        import pyarrow as pa

        if self._writer is None or self._size + size > FILE_BYTES:
            self._close()
            self._paths.append(self._folder / f"{len(self._paths)}.arrow")
            self._writer, self._size = pa.ipc.new_file(str(self._paths[-1]), batch.schema), 0
        self._writer.write_batch(batch)
        self._size += size

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def table(self) -> Any:
        """All rows, mapped from the disk; None if there are none."""
        import pyarrow as pa

        self._close()
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self._paths]
        return pa.concat_tables(tables) if tables else None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._close()


def parquet_table(path: Path, folder: Path) -> Any:
    """A Parquet file as a table that lies in `folder`, which must be empty; BadInput if it cannot be read."""
    import pyarrow as pa
    from pyarrow import parquet

    shown, rows = f"data file {path}", 0
    try:
        with Spool(folder, shown) as spool, parquet.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            waiting: list[Any] = []
            for batch in _batches(file):
                rows += batch.num_rows
                waiting.append(_plain(batch))
                if sum(each.nbytes for each in waiting) > PART_BYTES or len(waiting) == ROWS_AT_A_TIME:
                    _flush(waiting, spool)
            _flush(waiting, spool)
            table = spool.table()
            return _plain(file.schema_arrow.empty_table()) if table is None else table
    except (MemoryError, pa.ArrowMemoryError) as error:
        raise BadInput(f"{shown} needs more than {READING_BYTES // 2**20} MiB to be read after row {rows}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{shown} is not a Parquet file that can be read ({first_line(error)})") from error


def _batches(file: Any) -> Iterator[Any]:
    """Some rows at a time of one row group: each has dictionaries of its own, which a batch cannot join."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(ROWS_AT_A_TIME, row_groups=[group], use_threads=False)


def _flush(waiting: list[Any], spool: Spool) -> None:
    import pyarrow as pa

    if waiting:
        for batch in pa.Table.from_batches(waiting).combine_chunks().to_batches():
            spool.add(batch)
    waiting.clear()


def _plain(rows: Any) -> Any:
    """A batch or table without metadata, whose categories are values."""
    return type(rows).from_arrays([column.cast(_values(column.type)) for column in rows.columns], rows.schema.names)


def _values(kind: Any) -> Any:
    """An Arrow type with the values of categories in place of categories, also inside lists, objects and maps."""
    import pyarrow as pa

    def inside(field: Any) -> Any:
        return field.with_type(_values(field.type))

    if pa.types.is_dictionary(kind):
        return _values(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([inside(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(inside(kind.key_field), inside(kind.item_field))
    if pa.types.is_list(kind):
        return pa.list_(inside(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(inside(kind.value_field))
    return pa.list_(inside(kind.value_field), kind.list_size) if pa.types.is_fixed_size_list(kind) else kind


def csv_table(path: Path, folder: Path) -> Any:
    """A CSV file as a table that lies in `folder`, which must be empty; BadInput if it cannot be read."""
    import pyarrow as pa

    shown = f"data file {path}"
    waiting: list[tuple[str, ...]] = []
    names: list[str] = []
    kinds: dict[str, set[str]] = {}
    size = 0
    with Spool(folder, shown) as spool:
        for row in table_rows(path, ","):
            if row.problem:
                raise BadInput(f"{row.where} {row.problem}")
            names = names or list(row.value)
            waiting.append(tuple(row.value.values()))
            size += sum(map(len, waiting[-1]))
            if size > PART_BYTES or len(waiting) * len(names) > CELLS_AT_A_TIME:
                spool.add(_of_text(waiting, names, kinds))
                waiting, size = [], 0
        if waiting:
            spool.add(_of_text(waiting, names, kinds))
        table = spool.table()
    if table is None:
        raise BadInput(f"{shown} has no rows below its first line")
    for place, name in enumerate(names):
        kind = next((each for each in KINDS if each in kinds[name]), None)
        if kind and any(len(_given(chunk)) for chunk in table.column(place).chunks):
            chunks = [_cast(_nulls(chunk), kind) for chunk in table.column(place).chunks]
            table = table.set_column(place, name, pa.chunked_array(chunks))
    return table


def _of_text(rows: list[tuple[str, ...]], names: list[str], kinds: dict[str, set[str]]) -> Any:
    """A batch of text; `kinds` loses those that some column cannot be."""
    import pyarrow as pa

    columns = [pa.array(column, type=pa.large_string()) for column in zip(*rows, strict=True)]
    for name, column in zip(names, columns, strict=True):
        possible = kinds.setdefault(name, set(KINDS))
        for kind in sorted(possible):
            with contextlib.suppress(pa.ArrowInvalid):
                _cast(_given(column), kind)
                continue
            possible.discard(kind)
    return pa.RecordBatch.from_arrays(columns, names=names)


def _cast(column: Any, kind: str) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    return compute.utf8_trim_whitespace(column).cast(getattr(pa, kind)())


def _is_blank(column: Any) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    return compute.is_in(column, value_set=pa.array(BLANK, type=column.type))


def _given(column: Any) -> Any:
    from pyarrow import compute

    return column.filter(compute.invert(_is_blank(column)))


def _nulls(column: Any) -> Any:
    from pyarrow import compute

    return compute.if_else(_is_blank(column), None, column)


@contextlib.contextmanager
def bounded_memory(more_bytes: int = READING_BYTES) -> Iterator[None]:
    """Within the context this process may take no more than `more_bytes` of address space beyond what it has: what
    needs more raises MemoryError. Only on Linux, which says what it has."""
    if sys.platform != "linux":
        yield
        return
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + more_bytes
    limits = [most, *(each for each in before if each != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
