"""Single operations from papers and books, to which no coefficient is fitted (ops_a100_*.csv, matmul_best_rates.csv).

The operations of Zhang et al. 2023 (LLMCompass) were launched from Python, so that nothing takes less than some 12 to
30 us; the best rates are of the best shape that a search found.  A shape is written as rows x columns x depth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.cost import make_conditions, uniform
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.parallel import Exchange
from flashstill.validation.anchors.tables import MICRO, MILLI, KernelSet, Rows, column, read_rows, split
from flashstill.validation.comparison import NOT_FITTED, Comparison, Values
from flashstill.validation.kernel_times import exchange_seconds, kernel_seconds
from flashstill.workload import matmul

BEST = "matmul_best_rates"
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
_BOOK_GROUPS = {"8 GPUs": 8.0}
_SIZES = {"MB": 1e6, "GB": 1e9}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Timed:
    """Measured operations of one kind with their predictions."""

    anchor: str
    quantity: str
    chip: str
    measured: Values
    predicted: Values


def compare_operations(facts: Facts, directory: Path) -> list[Comparison]:
    """Comparisons by kind of operation and file; empty without the files."""
    found: list[_Timed] = []
    for path in sorted(directory.glob("ops_*.csv")):
        found += _operations(facts, path.stem, read_rows(path))
    path = directory / f"{BEST}.csv"
    if path.exists():
        found += _best(facts, read_rows(path))
    return [
        Comparison(
            anchor=each.anchor,
            quantity=each.quantity,
            fitted=NOT_FITTED,
            measured=each.measured,
            predicted=each.predicted,
            chip=(each.chip,) * len(each.measured),
            engine=("library",) * len(each.measured),
        )
        for each in found
    ]


def _operations(facts: Facts, anchor: str, rows: Rows) -> Iterator[_Timed]:
    for (op, gpu), group in split(rows, "op", "gpu"):
        named = re.fullmatch(r"(\w+?)(?:x(\d+))?", gpu)
        name = named and facts.chip_name(named[1])
        if not named or not name:
            continue
        chip = chip_from_facts(facts, name)
        if op.startswith("matmul"):
            shape = (column(group, "M"), column(group, "N"), column(group, "K"))
            seconds = column(group, "value") * MILLI
            yield _product(anchor, "product, launched from Python", chip, "bf16", shape, seconds)
        elif op.startswith("all_reduce"):
            seconds = column(group, "value") * MICRO
            yield _reduced(anchor, chip, column(group, "M"), float(named[2] or 1), seconds)


def _product(
    anchor: str, quantity: str, chip: Chip, precision: str, shape: tuple[Values, Values, Values], seconds: Values
) -> _Timed:
    work = matmul("gemm", *shape, make_conditions(chip, uniform(precision)).widths)
    item = KernelSet(
        anchor=anchor, chip=chip.name, kind="matmul", precision=precision, engine="", work=work, seconds=seconds
    )
    return _Timed(
        anchor=anchor, quantity=quantity, chip=chip.name, measured=seconds, predicted=kernel_seconds(chip, item)
    )


def _reduced(anchor: str, chip: Chip, size: Values, group: float, seconds: Values) -> _Timed:
    work = Exchange(
        name="all-reduce", kind="all-reduce", count=1.0, bytes=size, group=np.full_like(size, group), tier="tensor"
    )
    item = KernelSet(
        anchor=anchor, chip=chip.name, kind="all-reduce", precision="", engine="", work=work, seconds=seconds
    )
    return _Timed(
        anchor=anchor, quantity="all-reduce", chip=chip.name, measured=seconds, predicted=exchange_seconds(chip, item)
    )


def _best(facts: Facts, rows: Rows) -> Iterator[_Timed]:
    for row in rows:
        name = facts.chip_name(row["device"].replace(" ", "-").lower())
        if name is None:
            continue
        chip, value = chip_from_facts(facts, name), float(row["value"])
        shape = _SHAPE.search(row["size_or_shape"])
        if row["kind"] == "matmul" and shape:
            sizes = tuple(np.array([float(size)]) for size in shape.groups())
            flops = 2.0 * float(np.prod(sizes))
            precision = row["config"].split()[0]
            seconds = np.array([flops / (value * 1e12)])
            yield _product(BEST, "product of the best shape", chip, precision, (sizes[0], sizes[1], sizes[2]), seconds)
        elif row["kind"] == "all-reduce" and row["metric"] == "busbw" and row["size_or_shape"]:
            group = next((count for text, count in _BOOK_GROUPS.items() if text in row["config"]), 0.0)
            amount, unit = row["size_or_shape"].split()
            size = float(amount) * _SIZES[unit]
            seconds = np.array([2.0 * size * (group - 1.0) / group / (value * 1e9)])
            yield _reduced(BEST, chip, np.array([size]), group, seconds)
