"""Many cases in a CSV file: read, answered, and written beside their own columns. Empty cells take the default."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.files import write_text
from flashstill.plan.case import CASE_FIELDS, PREDICTION_FIELDS, Case, Prediction
from flashstill.plan.predict import predict

WHOLE = ("chips", "tp", "pp", "ep", "dp", "isl", "osl", "concurrency", "chunk", "draft_tokens")
REQUIRED = ("model", "chip")


def answer_file(facts: Facts, source: Path, out: Path) -> dict[str, Any]:
    """Answer every row of `source` into `out`; a row that cannot be read gets a reason. Returns the counts."""
    columns, rows = _read(source)
    cases: list[Case | str] = [_case(row) for row in rows]
    readable = [case for case in cases if isinstance(case, Case)]
    answers = iter(predict(facts, readable))
    found = [next(answers) if isinstance(case, Case) else Prediction(fits=False, reason=case) for case in cases]
    write_text(out, _csv([name for name in columns if name not in PREDICTION_FIELDS], rows, found))
    return {
        "cases": len(rows),
        "answered": sum(1 for answer in found if answer.fits or answer.valid),
        "fitting": sum(1 for answer in found if answer.fits),
        "out": str(out),
    }


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as CSV in UTF-8: {error}") from error
    reader = csv.DictReader(io.StringIO(text))
    try:
        columns = list(reader.fieldnames or [])
        rows = [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]
    except csv.Error as error:
        raise BadInput(f"{path} cannot be read as CSV: {error}") from error
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]}; the columns are named as the options of predict")
    for name in columns:
        close = difflib.get_close_matches(name, CASE_FIELDS, n=1, cutoff=0.8)
        if name not in CASE_FIELDS and close and close[0] not in columns:
            raise BadInput(f"{path} has a column {name!r}; did you mean {close[0]!r}?")
    return columns, rows


def _case(row: dict[str, str]) -> Case | str:
    """The case of a row, or why it cannot be read."""
    given: dict[str, Any] = {name: row[name] for name in CASE_FIELDS if row.get(name)}
    for name in REQUIRED:
        if name not in given:
            return f"the row has no {name}"
    for name in WHOLE:
        if name in given:
            try:
                number = float(given[name])
            except ValueError:
                return f"{name} is {given[name]!r}, not a whole number"
            if not number.is_integer():
                return f"{name} is {given[name]!r}, not a whole number"
            given[name] = int(number)
    if "acceptance" in given:
        try:
            given["acceptance"] = float(given["acceptance"])
        except ValueError:
            return f"acceptance is {given['acceptance']!r}, not a number"
    return Case(**given)


def _csv(columns: Sequence[str], rows: Sequence[dict[str, str]], answers: Sequence[Prediction]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*columns, *PREDICTION_FIELDS])
    for row, answer in zip(rows, answers, strict=True):
        values = answer.as_json()
        written = ["" if values[name] is None else values[name] for name in PREDICTION_FIELDS]
        written[0] = "true" if answer.fits else "false"
        writer.writerow([*(row.get(name, "") for name in columns), *written])
    return stream.getvalue()
