"""Anchor tables as rows of text, and the set of measured kernels that a reader makes of them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.parallel import Exchange
from flashstill.validation.errors import Values
from flashstill.workload import Operation

Rows = list[dict[str, str]]
MILLI, MICRO = 1e-3, 1e-6
PRECISIONS = {"bfloat16": "bf16", "float16": "bf16", "half": "bf16", "fp8": "fp8", "fp8_block": "fp8-block"}


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSet:
    """Kernels of one kind, precision and chip. work: an operation or an exchange whose fields are arrays."""

    anchor: str
    chip: str
    kind: str
    precision: str
    engine: str
    work: Operation | Exchange
    seconds: Values


def read_rows(path: Path) -> Rows:
    """All rows of a CSV file as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def column(rows: Rows, name: str) -> Values:
    """A column as numbers."""
    return np.array([float(row[name]) for row in rows])


def split(rows: Rows, *names: str) -> Iterator[tuple[tuple[str, ...], Rows]]:
    """Rows grouped by the values of some columns, in order."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    yield from sorted(groups.items())
