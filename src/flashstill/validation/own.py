"""Measurements of one's own: cases with measured latencies, compared with predictions and made into facts.

Symbols: y_i = ln(measured / predicted) of the n rows of a stack; s the spread of stacks, r that of rows in one stack.

    ratio = exp( sum of y_i  s^2 / (n s^2 + r^2) )

This is the posterior mean of a stack's offset with a normal prior around the prediction (Gelman et al. 2013, section
5.4): one row already moves the prediction most of its way, five almost all, and other stacks stay as they are.  Rows
that are further off than a factor of e count as that.
"""

from __future__ import annotations

import datetime
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flashstill.bounded import check_regular
from flashstill.errors import BadInput, FlashstillError, shortened, unknown
from flashstill.facts import Fact, Facts
from flashstill.plan.bands import MEASURED, stack_of
from flashstill.plan.case import CASE_FIELDS, Case
from flashstill.plan.casefile import REQUIRED, TEXT, Row, Table, read_table
from flashstill.plan.cells import case_of
from flashstill.plan.predict import predict
from flashstill.plan.resolve import resolve
from flashstill.plan.served import TPOT_RATIO, TTFT_RATIO
from flashstill.validation.load_cells import FAILED, NOTE
from flashstill.validation.load_results import SUFFIXES, result_cells
from flashstill.validation.result_files import check_text

LATENCIES = {"measured_tpot_ms": "tpot_s", "measured_ttft_ms": "ttft_s"}
"""column -> the prediction it is compared with; either may be empty in a row"""
_KIND = {"tpot_s": ("tpot", TPOT_RATIO), "ttft_s": ("ttft", TTFT_RATIO)}
MOST_ROWS, FURTHEST = 100_000, 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnRow:
    """One measured case: its line in the file, and quantity -> measured seconds. note: if they are no means.
    failed: "3 of 100" requests that count in none of it."""

    line: int
    case: Case
    measured: dict[str, float]
    note: str = ""
    failed: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A measured row beside its prediction: quantity -> (measured, predicted, low, high) in seconds."""

    row: OwnRow
    stack: tuple[str, str]
    seconds: dict[str, tuple[float, float, float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnStack:
    """What the rows of a stack say of one quantity. before, after: mean absolute errors without and with the ratio."""

    model: str
    chip: str
    stack: str
    quantity: str
    n: int
    ratio: float
    before: float
    after: float


def read_own(path: Path, given: Mapping[str, str] | None = None) -> list[OwnRow]:
    """The rows of a CSV file of cases, or of a load generator's result (.json, .yaml), with a measured latency each.

    given: cells of every row that leaves them empty, such as the chip.  BadInput names the line of a mistake.
    """
    given = given or {}
    for name in given:
        if name not in CASE_FIELDS:
            raise BadInput(unknown("column of a case", name, CASE_FIELDS))
    if path.suffix in SUFFIXES:
        named = {name: given[name] for name in ("model",) if name in given}  # a server's name may be none that is known
        cells = enumerate(({**row, **named} for row in result_cells(path)), start=1)
        needed = (*REQUIRED, "isl", "osl", "concurrency")  # which a result may not say, and a default would be a guess
        return [_measured_case(f"{path}, result {number}", number, row, given, needed) for number, row in cells]
    check_regular(path)
    check_text(path)
    try:
        with path.open(**TEXT) as stream:
            table = read_table(stream, str(path))
            at = {name: table.columns.index(name) for name in LATENCIES if name in table.columns}
            if not at:
                raise BadInput(f"{path} has no column {' or '.join(LATENCIES)}; add what was measured to its cases")
            rows = [_row(path, table, row, at, line, given) for line, row in enumerate(table.rows, start=2)]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    measured = [row for row in rows if row.measured]
    if not measured:
        raise BadInput(f"no row of {path} has a measured latency")
    return measured


def _row(path: Path, table: Table, row: Row, at: dict[str, int], line: int, given: Mapping[str, str]) -> OwnRow:
    where = f"{path}, line {line}"
    if line - 1 > MOST_ROWS:  # the first line is the heading
        raise BadInput(f"{path} has more than {MOST_ROWS:,} rows")
    if row.reason:
        raise BadInput(f"{where}: {row.reason}")
    cells = {field: row.cells[index].strip() for field, index in {**table.asked, **at}.items()}
    return _measured_case(where, line, cells, given, REQUIRED)


def _measured_case(
    where: str, line: int, cells: Mapping[str, str], given: Mapping[str, str], needed: Sequence[str]
) -> OwnRow:
    known = {**given, **{name: cell for name, cell in cells.items() if cell}}
    note, failed = known.pop(NOTE, ""), known.pop(FAILED, "")
    measured = {
        quantity: _milliseconds(where, name, known.pop(name)) for name, quantity in LATENCIES.items() if name in known
    }
    for field in needed:
        if field not in known:
            raise BadInput(f"{where}: the row has no {field}; give it with --case {field}=...")
    try:
        case = case_of(known, {})
    except FlashstillError as error:
        raise BadInput(f"{where}: {error}") from error
    return OwnRow(line=line, case=case, measured=measured, note=note, failed=failed)


def _milliseconds(where: str, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise BadInput(f"{where}: {name} is {shortened(text)!r}, not a number of milliseconds above 0")
    return value * 1e-3


def compare_own(facts: Facts, path: Path, given: Mapping[str, str] | None = None) -> list[Compared]:
    """Every measured row beside its prediction. BadInput names the line of a case that cannot be predicted."""
    rows = read_own(path, given)
    found, stacks = [], {}
    for row, answer in zip(rows, predict(facts, [row.case for row in rows]), strict=True):
        if not answer.fits:
            raise BadInput(f"{path}, line {row.line}: {answer.reason}")
        seconds = {}
        for quantity, measured in row.measured.items():
            predicted = getattr(answer, quantity)
            if predicted is None:
                raise BadInput(f"{path}, line {row.line}: one output token has no time per output token")
            name = quantity.removesuffix("_s")
            ends = (getattr(answer, f"{name}_low_s"), getattr(answer, f"{name}_high_s"))
            seconds[quantity] = (measured, predicted, *ends)
        asked = row.case.scenario.model, row.case.deployment
        if asked not in stacks:  # of many rows few stacks
            resolved = resolve(facts, *row.case)
            stacks[asked] = resolved.chip.name, stack_of(resolved.model, resolved.conditions)
        found.append(Compared(row=row, stack=stacks[asked], seconds=seconds))
    return found


def stacks_of(plain: Facts, compared: Sequence[Compared]) -> list[OwnStack]:
    """The ratio of every stack, for each quantity that was measured.  plain: facts without such ratios, with whose
    predictions the rows are compared."""
    logs: dict[tuple[tuple[str, str], str], list[float]] = defaultdict(list)
    models: dict[tuple[str, str], str] = {}
    for each in compared:
        models.setdefault(each.stack, each.row.case.scenario.model_name)
        for quantity, (measured, predicted, _, _) in each.seconds.items():
            logs[each.stack, quantity].append(math.log(measured / predicted))
    stacks = []
    for ((chip, stack), quantity), values in logs.items():
        offset = stack_offset(plain, quantity, values)
        before, after = (float(np.abs(np.expm1(shift - np.array(values))).mean()) for shift in (0.0, offset))
        stacks.append(
            OwnStack(
                model=models[chip, stack], chip=chip, stack=stack, quantity=quantity, n=len(values),
                ratio=math.exp(offset), before=before, after=after,
            )
        )  # fmt: skip
    return stacks


def stack_offset(facts: Facts, quantity: str, logs: Sequence[float]) -> float:
    """The logarithm of a stack's ratio, from ln(measured / predicted) of its rows. quantity: tpot_s or ttft_s."""
    name = _KIND[quantity][0]
    between, within = (facts.value("band", f"{what}_{name}_spread_ratio") ** 2 for what in ("stack", "row"))
    total = float(np.clip(np.array(logs), -FURTHEST, FURTHEST).sum())
    return total * between / (len(logs) * between + within)


def own_facts(stacks: Sequence[OwnStack], path: Path) -> list[Fact]:
    """Fact rows of the stacks: ratios, and how many measurements each has, from which bands know of them."""
    source, today = f"{path.name}, measured by the user", datetime.date.today().isoformat()

    def fact(stack: OwnStack, quantity: str, value: float) -> Fact:
        return Fact(
            name=stack.chip, quantity=quantity, value=value, low=value, high=value, unit="1", per="chip",
            condition=stack.stack, kind="measured", source=source, as_of=today,
            note=f"{stack.n} measurements of {stack.model}",
        )  # fmt: skip

    rows = [fact(stack, _KIND[stack.quantity][1], float(f"{stack.ratio:.4g}")) for stack in stacks]
    counted = {(stack.chip, stack.stack): stack for stack in stacks}
    return [*rows, *(fact(stack, MEASURED, float(stack.n)) for stack in counted.values())]
