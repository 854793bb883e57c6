"""Labelled rows from a CSV file: a header, numeric columns, and the class in column `label`, else in the last one.

Classes are integers from 0 or names; names are numbered in alphabetical order.
"""

from __future__ import annotations

import csv
from array import array
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flashstill.bounded import check_regular
from flashstill.errors import BadInput, shortened

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
MOST_BYTES, MOST_COLUMNS, MOST_CLASSES = 256 * 2**20, 2**16, 2**16
LARGEST = float(np.finfo(np.float32).max)
TEST_SHARE = 6
"""one row in six is a test row, close to the share of MNIST"""


def read_table(path: Path) -> tuple[Rows, Labels]:
    """Rows [N, D] and labels [N]; BadInput names the wrong line. Text of a line is dropped as soon as it is parsed."""
    check_regular(path, MOST_BYTES)
    values, kinds, codes = array("f"), array("q"), dict[str, int]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = (line for line in csv.reader(stream) if line)
            header = next(lines, [])
            if not 2 <= len(header) <= MOST_COLUMNS:
                raise BadInput(
                    f"{path} must hold a header, and below it rows of at least one number and a label;"
                    f" it has {len(header):,} columns of at most {MOST_COLUMNS:,}"
                )
            label = header.index("label") if "label" in header else len(header) - 1
            for number, row in enumerate(lines):
                if len(row) != len(header):
                    raise BadInput(f"{path}: row {number + 1} has {len(row)} columns, the header {len(header)}")
                kinds.append(codes.setdefault(row.pop(label).strip(), len(codes)))
                values.extend(_numbers(path, number, row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from error
    if not kinds:
        raise BadInput(f"{path} must hold a header, and below it rows of at least one number and a label")
    rows = np.frombuffer(values, dtype=np.float32).reshape(len(kinds), -1)
    return rows, _classes(path, list(codes))[np.frombuffer(kinds, dtype=np.int64)]


def split(count: int, seed: int) -> tuple[Labels, Labels]:
    """Indices of the training rows and of the test rows."""
    order = np.random.default_rng(seed).permutation(count)
    test = max(1, count // TEST_SHARE)
    return np.sort(order[test:]), np.sort(order[:test])


def _numbers(path: Path, number: int, cells: list[str]) -> list[float]:
    try:
        numbers = [float(cell) for cell in cells]
    except ValueError as error:
        reason = shortened(str(error))
        raise BadInput(f"{path}: row {number + 1} holds something that is not a number: {reason}") from error
    if not all(abs(value) <= LARGEST for value in numbers):
        raise BadInput(f"{path}: row {number + 1} holds a number that is not finite")
    return numbers


def _classes(path: Path, names: list[str]) -> Labels:
    """The class number of each of these distinct labels."""
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        places = {name: place for place, name in enumerate(sorted(names))}
        return np.asarray([places[name] for name in names], dtype=np.int64)
    for name, value in zip(names, numbers, strict=True):
        if not (value.is_integer() and value >= 0):
            raise BadInput(f"{path}: the label {shortened(name)!r} is neither a whole number from 0 nor a name")
        if value >= MOST_CLASSES:
            raise BadInput(f"{path}: the label {shortened(name)!r} is above {MOST_CLASSES - 1:,}, the largest")
    return np.asarray(numbers, dtype=np.int64)
