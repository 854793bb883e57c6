"""The user's own training runs: parameters, tokens, loss; from rows, CSV, JSON lines, or records of `flashstill run`.

    parameters,tokens,loss              a CSV file with this header; JSON lines with these keys
    ...,teacher_loss                    all runs distilled from one teacher, and its loss in the same unit

Of records (ModelRecord and QualityRecord) the loss is ln(perplexity), nats per token, of one text (domain) and of the
models of one role: control (trained on the text itself) or student (distilled).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from flashstill.bounded import read_bounded
from flashstill.errors import BadInput, nearest, shortened, shown, unknown
from flashstill.records import ModelRecord, QualityRecord, Record
from flashstill.units import LN_2

_MOST_BYTES = 2**26
_METRICS: dict[str, tuple[str, Callable[[float], float]]] = {
    "perplexity": ("nats per token", math.log),
    "bits per byte": ("nats per byte", lambda bits: bits * LN_2),
}
"""metric of a record -> unit of the loss, and how it follows"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One trained model. teacher_loss: of the teacher that it was distilled from; None if it learned from text."""

    parameters: float
    tokens: float
    loss: float
    teacher_loss: float | None = None
    model: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Runs whose losses are in one unit on one text. corpus: that text, as far as it is known."""

    runs: tuple[Run, ...]
    unit: str = "nats per token"
    corpus: str = "the user's own text"


def from_rows(rows: Iterable[Mapping[str, Any]], where: str = "runs") -> Runs:
    """Runs from mappings with the keys parameters, tokens, loss; BadInput names the row and key that is wrong."""
    return Runs(runs=tuple(_run(row, f"{where}, row {number}") for number, row in enumerate(rows, start=1)))


def from_file(path: Path, domain: str = "", metric: str = "perplexity", role: str = "") -> Runs:
    """Runs of a .csv or .jsonl file; records of flashstill are recognised by their key `record`."""
    if path.suffix.lower() == ".csv":
        _refuse_choice(path, domain, role)
        return from_rows(_table(_text(path), str(path)), str(path))
    from flashstill.checked import json_rows

    rows = [row for _, row in json_rows(path)]
    if any("record" in row for row in rows):
        from flashstill.records import read_records

        return from_records(read_records(path), str(path), domain, metric, role)
    _refuse_choice(path, domain, role)
    return from_rows(rows, str(path))


def _refuse_choice(path: Path, domain: str, role: str) -> None:
    """BadInput for a choice among records where the file holds none: it would be ignored."""
    for what, asked in (("domain", domain), ("role", role)):
        if asked:
            raise BadInput(f"{path} holds plain rows and no records of flashstill; leave {what} out")


def _table(text: str, where: str) -> list[dict[str, str]]:
    """Rows of a CSV table, blanks around cells left out; BadInput for rows that do not fit its header."""
    try:
        header, *rows = csv.reader(io.StringIO(text), skipinitialspace=True) if text.strip() else [[]]
    except csv.Error as error:
        raise BadInput(f"{where} is no table of runs: {error}") from error
    names = [name.strip() for name in header]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{where}: two columns are named {shortened(name)!r}; keep one")
    filled = [row for row in rows if row]
    for number, row in enumerate(filled, start=1):
        if len(row) != len(names):
            raise BadInput(f"{where}, row {number}: {len(row)} cells under a header of {len(names)}")
    return [dict(zip(names, (cell.strip() for cell in row), strict=True)) for row in filled]


def from_records(
    records: Sequence[Record], where: str = "records", domain: str = "", metric: str = "perplexity", role: str = ""
) -> Runs:
    """One run for each trained model with this metric on this text. domain, role: needed where there are several."""
    if metric not in _METRICS:
        raise BadInput(unknown("metric of a quality law", metric, _METRICS))
    unit, loss_of = _METRICS[metric]
    models = {record.model: record for record in records if isinstance(record, ModelRecord) and record.training_tokens}
    measured = [
        record
        for record in records
        if isinstance(record, QualityRecord) and record.metric.replace("_", " ") == metric and record.model in models
    ]
    text = _only("domain", domain, {record.domain for record in measured}, where)
    measured = [record for record in measured if record.domain == text]
    kind = _only("role", role, {models[record.model].role for record in measured}, where)
    return Runs(
        runs=tuple(
            Run(
                parameters=models[record.model].parameters,
                tokens=models[record.model].training_tokens,
                loss=loss_of(record.value),
                model=record.model,
            )
            for record in measured
            if models[record.model].role == kind
        ),
        unit=unit,
        corpus=f"{text} (models of role {kind})",
    )


def _only(what: str, asked: str, there: set[str], where: str) -> str:
    """What was asked for, or the only one there."""
    if asked and asked in there:
        return asked
    if asked:
        raise BadInput(f"{where}: {unknown(what, asked, there)}")
    if len(there) > 1:
        raise BadInput(f"{where}: records of several kinds of {what} ({', '.join(sorted(there))}); name one")
    if not there:
        raise BadInput(f"{where}: no record says both how long a model was trained and how good it is on a text")
    return next(iter(there))


def _run(row: Mapping[str, Any], where: str) -> Run:
    if not isinstance(row, Mapping):
        raise BadInput(f"{where}: {shown(row)} is no mapping with the keys parameters, tokens and loss")
    known = {field.name for field in fields(Run)}
    for key in row:
        if key not in known:
            near = ", ".join(nearest(str(key), known))
            raise BadInput(f"{where}: unknown key {shortened(str(key))!r}; the nearest known: {near}")
    numbers: dict[str, float] = {}
    for key in ("parameters", "tokens", "loss", "teacher_loss"):
        value = row.get(key)
        if key == "teacher_loss" and (value is None or (isinstance(value, str) and not value)):
            continue
        told = shortened(repr(value))
        try:
            numbers[key] = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except OverflowError:
            numbers[key] = math.inf
        except (TypeError, ValueError):
            raise BadInput(f"{where}: {key} must be a number, not {told}") from None
        if not (math.isfinite(numbers[key]) and numbers[key] > 0):
            raise BadInput(f"{where}: {key} must be a positive number, not {told}")
    if not isinstance(row.get("model"), str | int | None):
        raise BadInput(f"{where}: model must be a name, not {shortened(repr(row['model']))}")
    return Run(
        parameters=numbers["parameters"],
        tokens=numbers["tokens"],
        loss=numbers["loss"],
        teacher_loss=numbers.get("teacher_loss"),
        model=str(row.get("model") or ""),
    )


def _text(path: Path) -> str:
    try:
        return read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error
