"""Labelled rows from a CSV file: a header, columns of numbers, and the class in the column `label` or the last one.

Classes are whole numbers from 0 or names; names are numbered in their alphabetical order.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.errors import BadInput

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
TEST_SHARE = 6
"""one row in so many is a test row, as many as MNIST has"""


def read_table(path: Path) -> tuple[Rows, Labels]:
    """Rows [N, D] and labels [N]; BadInput names the line that is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from error
    if len(lines) < 2 or len(lines[0]) < 2:
        raise BadInput(f"{path} must hold a header, and below it rows of at least one number and a label")
    header, *rows = lines
    label = header.index("label") if "label" in header else len(header) - 1
    values = np.empty((len(rows), len(header) - 1), dtype=np.float32)
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise BadInput(f"{path}: row {number + 1} has {len(row)} columns, the header {len(header)}")
        values[number] = _numbers(path, number, row[:label] + row[label + 1 :])
    return values, _classes(path, [row[label].strip() for row in rows])


def split(count: int, seed: int) -> tuple[Labels, Labels]:
    """Indices of the training and of the test rows."""
    order = np.random.default_rng(seed).permutation(count)
    test = max(1, count // TEST_SHARE)
    return np.sort(order[test:]), np.sort(order[:test])


def _numbers(path: Path, number: int, cells: list[str]) -> list[float]:
    try:
        found = [float(cell) for cell in cells]
    except ValueError as error:
        raise BadInput(f"{path}: row {number + 1} holds something that is not a number: {error}") from error
    if not np.isfinite(found).all():
        raise BadInput(f"{path}: row {number + 1} holds a number that is not finite")
    return found


def _classes(path: Path, cells: list[str]) -> Labels:
    named = sorted(set(cells))
    try:
        numbers = [float(cell) for cell in named]
    except ValueError:
        return np.asarray([named.index(cell) for cell in cells], dtype=np.int64)
    for cell, value in zip(named, numbers, strict=True):
        if not (value.is_integer() and value >= 0):
            raise BadInput(f"{path}: the label {cell!r} is neither a whole number from 0 nor a name")
    return np.asarray([int(float(cell)) for cell in cells], dtype=np.int64)
