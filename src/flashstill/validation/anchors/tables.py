"""Reading of anchor tables as rows of text, and the type of a set of measured kernels."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput, shortened
from flashstill.facts import Facts
from flashstill.parallel import Exchange
from flashstill.validation.comparison import Values
from flashstill.workload import Operation, Routed

Rows = list[dict[str, str]]
MOST_BYTES = 64 * 2**20
_NO_NUMBER = re.compile(r"nan|inf|e\+?\d{3}", re.IGNORECASE)
"""matches text that may contain a non-finite number"""
MILLI, MICRO = 1e-3, 1e-6
WHOLE = "the operation"
QUANTISATION = "its quantisation of the activations"
LAUNCHES = "with launches from Python"
"""what a table times.  Tables of 8-bit and narrower products time an engine's layer, which quantises 16-bit activations
and then multiplies: on B200 the shortest takes 4.3 to 12.4 us against 1.8 us in bf16."""
PRECISIONS = {
    "bfloat16": "bf16",
    "float16": "bf16",
    "half": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8-block",
    "nvfp4": "fp4",
}
CONVERTED = {"int4_wo": "int4/bf16", "w4a16_mxfp4": "mxfp4/bf16", "w4a8_mxfp4_mxfp8": "mxfp4/fp8"}
"""the same of kernels that convert their weights (calibration.kernel_format)"""


Timed = TypeVar("Timed", Operation, Exchange)


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSet:
    """Measured kernels of one kind, precision and chip.

    work: an operation or exchange with arrays as fields, or the operations of a whole mixer, one after another.
    cache: format of the KV cache where it is not `precision`.
    timed: what the seconds cover, WHOLE or a part of the operation.
    """

    anchor: str
    chip: str
    kind: str
    precision: str
    engine: str
    work: Operation | Exchange | tuple[Operation, ...]
    seconds: Values
    cache: str = ""
    timed: str = WHOLE

    def where(self, kept: npt.NDArray[np.bool_]) -> KernelSet:
        """The rows for which `kept` is true."""
        if isinstance(self.work, tuple):
            works: Operation | Exchange | tuple[Operation, ...] = tuple(_rows(work, kept) for work in self.work)
        elif isinstance(self.work, Exchange):
            works = _rows(self.work, kept)
        else:
            works = _rows(self.work, kept)
        return replace(self, work=works, seconds=self.seconds[kept])


def _rows(work: Timed, kept: npt.NDArray[np.bool_]) -> Timed:
    given = {field.name: getattr(work, field.name) for field in fields(work) if field.init}
    arrays = {name: value[kept] for name, value in given.items() if np.shape(value) == kept.shape}
    if isinstance(given.get("counted"), Routed):
        arrays["counted"] = Routed(pairs=given["counted"].pairs[kept], distinct=given["counted"].distinct[kept])
    return replace(work, **arrays)


class Row(dict[str, str]):
    """A row that knows its file, so that a missing column raises BadInput with the file name."""

    def __init__(self, path: Path, cells: dict[str, str]) -> None:
        super().__init__(cells)
        self.path = path

    def __missing__(self, name: str) -> str:
        raise BadInput(f"{self.path} has no column {name!r}, which its kind of anchor needs")


def read_rows(path: Path) -> Rows:
    """All rows of a CSV file as text; BadInput if it is too large or is not a table."""
    try:
        text = read_bounded(path, MOST_BYTES).decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from error
    header, *rows = lines or [[]]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise BadInput(f"{path}: row {number} has {len(row)} cells, the header {len(header)}")
    if _NO_NUMBER.search(text):
        _check_finite(path, header, rows)
    return [Row(path, dict(zip(header, row, strict=True))) for row in rows]


def _check_finite(path: Path, header: list[str], rows: list[list[str]]) -> None:
    """BadInput for a cell such as "nan" or "1e999", which would make predictions meaningless."""
    for number, row in enumerate(rows, start=1):
        for name, cell in zip(header, row, strict=True):
            if _NO_NUMBER.search(cell) and not _finite_or_word(cell):
                raise BadInput(f"{path}: row {number} has {shortened(cell)} as its {name}, which is no finite number")


def _finite_or_word(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return True


@contextlib.contextmanager
def anchors_of(kind: str, directory: Path) -> Iterator[None]:
    """Context manager: a cell with an invalid number or an unknown name raises BadInput naming the kind of anchor."""
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            yield
    except (ValueError, TypeError, ArithmeticError, LookupError, StopIteration) as error:
        raise BadInput(
            f"the anchors of {kind} in {directory} hold a cell that is not understood: {shortened(str(error))}"
        ) from error


def engine_in_name(anchor: str) -> str:
    """The engine, or AMD's library of kernels, that a file name names; TensorRT-LLM for the first tables."""
    return next((engine for engine in ("trtllm", "sglang", "vllm", "aiter") if engine in anchor), "trtllm")


def machine_named(facts: Facts, device: str) -> str:
    """The chip that a driver calls `device`, such as "NVIDIA H200"; BadInput lists the nearest if it is unknown."""
    return facts.machine(device.lower().removeprefix("nvidia ").replace(" ", "-")).name


def column(rows: Rows, name: str) -> Values:
    """One column as an array of numbers."""
    return np.array([float(row[name]) for row in rows])


def split(rows: Rows, *names: str) -> Iterator[tuple[tuple[str, ...], Rows]]:
    """Pairs (values, rows): rows grouped by the values of the given columns, sorted by these values."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from sorted(groups.items())
