"""Answers a CSV file of cases: each row gets figures or a reason, appended to the user's own columns.

Rows are read, answered and written in blocks of `ROWS_AT_A_TIME`, so memory is bounded for any file length.  An error
in one row, of whatever kind, becomes that row's reason and affects no other row.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from flashstill.economics import RENTED, check_basis
from flashstill.errors import BadInput, FlashstillError, shown
from flashstill.facts import Facts
from flashstill.outputs import STANDARD, written_out
from flashstill.plan.case import Case
from flashstill.plan.case_stream import following, opened
from flashstill.plan.casefile import REQUIRED, Row, Table, read_table
from flashstill.plan.cells import case_of, unformulated
from flashstill.plan.drafts import OF_DRAFTS
from flashstill.plan.predict import predict
from flashstill.plan.prediction import PREDICTION_FIELDS, Prediction
from flashstill.progress import Progress, Silent

ROWS_AT_A_TIME = 25_000
OURS = "predicted_"
LONGEST_REASON = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """Summary of an answered file. renamed: new names of output columns whose names the user's columns already had."""

    cases: int
    answered: int
    fitting: int
    out: str
    renamed: dict[str, str]


def answer_file(
    facts: Facts,
    source: Path,
    out: Path,
    progress: Progress | None = None,
    price: str = RENTED,
    defaults: Mapping[str, Any] | None = None,
) -> Answers:
    """Answer every row of `source` into `out`; "-" is standard input or output. BadInput if it is not a case table.

    price: the price basis for all rows.  defaults: fields of a case for rows that leave them empty.
    """
    check_basis(price)
    with opened(source) as (stream, size):
        table = read_table(stream, "standard input" if source == STANDARD else str(source), defaults)
        if not _names_drafts(table):
            _check_idle(table.defaults)
        headings = dict(zip(PREDICTION_FIELDS, _headings(table.columns), strict=True))
        counts: Counter[str] = Counter()
        with written_out(out) as text, following(progress or Silent(), stream, size) as advance:
            writer = csv.writer(_Lines(text), lineterminator="\r\n")
            writer.writerow([*map(unformulated, table.columns), *headings.values()])
            while rows := list(itertools.islice(table.rows, ROWS_AT_A_TIME)):
                answers = _answers(facts, table, rows, price)
                writer.writerows(_line(row, answer) for row, answer in zip(rows, answers, strict=True))
                counts["cases"] += len(rows)
                counts["answered"] += sum(answer.valid for answer in answers)
                counts["fitting"] += sum(answer.fits for answer in answers)
                advance(len(rows))
    return Answers(
        cases=counts["cases"],
        answered=counts["answered"],
        fitting=counts["fitting"],
        out=str(out),
        renamed={name: heading for name, heading in headings.items() if name != heading},
    )


class _Lines:
    """Ends rows with a line feed only. csv itself must end them with CR LF, or it would not quote a CR in a cell."""

    def __init__(self, text: TextIO) -> None:
        self._text = text

    def write(self, row: str) -> None:
        self._text.write(row.removesuffix("\r\n") + "\n")


def _headings(columns: Sequence[str]) -> list[str]:
    """Names of the output columns; a name that the user's columns have is prefixed, repeatedly if needed."""
    taken, headings = set(columns), []
    for name in PREDICTION_FIELDS:
        heading = name
        while heading in taken:
            heading = OURS + heading
        taken.add(heading)
        headings.append(heading)
    return headings


def _answers(facts: Facts, table: Table, rows: Sequence[Row], price: str) -> list[Prediction]:
    """One prediction per row, in order."""
    answers: dict[int, Prediction] = {}
    together: dict[tuple[str, str], list[tuple[int, Case]]] = {}
    for index, row in enumerate(rows):
        try:
            case = _case(table, row)
        except FlashstillError as error:
            answers[index] = _refused(error)
        else:
            together.setdefault((case.scenario.model_name, case.deployment.chip), []).append((index, case))
    for members in together.values():
        answered = _each(facts, [case for _, case in members], price)
        answers.update((index, answer) for (index, _), answer in zip(members, answered, strict=True))
    return [answers[index] for index in range(len(rows))]


def _case(table: Table, row: Row) -> Case:
    if row.reason:
        raise BadInput(row.reason)
    cells = {field: row.cells[index].strip() for field, index in table.asked.items()}
    for field in REQUIRED:
        if not (cells.get(field) or table.defaults.get(field)):
            raise BadInput(f"the row has no {field}")
    filled = {field: cell for field, cell in cells.items() if cell}
    case = case_of(filled, table.defaults)
    if not _names_drafts(table):
        _check_idle(filled)
    return case


def _names_drafts(table: Table) -> bool:
    """Whether rows have a column, or all of them a default, that says what drafts."""
    return "draft" in table.asked or bool(table.defaults.get("draft"))


def _check_idle(given: Mapping[str, Any]) -> None:
    """BadInput for a field of drafts where no row can name a draft."""
    for name in OF_DRAFTS:
        if given.get(name) is not None:
            raise BadInput(f"{name} is of speculative decoding; say in a column draft, or with --draft, what drafts")


def _each(facts: Facts, cases: Sequence[Case], price: str) -> list[Prediction]:
    """Predictions of `cases` in one call; if it fails, the list is bisected to the case that fails."""
    try:
        with np.errstate(all="ignore"):
            return predict(facts, cases, price)
    except Exception as error:  # any failure: the other rows must still be answered
        if len(cases) == 1:
            return [_refused(error, _named(cases[0]))]
    half = len(cases) // 2
    return [*_each(facts, cases[:half], price), *_each(facts, cases[half:], price)]


def _named(case: Case) -> str:
    return f"{shown(case.scenario.model_name)} on {shown(case.deployment.chip)}"


def _refused(error: Exception, what: str = "the row") -> Prediction:
    reason = str(error)
    if not isinstance(error, FlashstillError):
        reason = f"flashstill failed at {what}, which is a fault of its own ({type(error).__name__}: {error})"
    return Prediction(fits=False, reason=" ".join(reason.split())[:LONGEST_REASON])


def _line(row: Row, answer: Prediction) -> list[str | float]:
    """The row's own cells and the predicted figures; text a spreadsheet would run as a formula gets an apostrophe."""
    line: list[str | float] = [*map(unformulated, row.cells)]
    for name in PREDICTION_FIELDS:
        value = getattr(answer, name)
        line.append(_written(value))
    return line


def _written(value: Any) -> str | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return unformulated(value) if isinstance(value, str) else value
