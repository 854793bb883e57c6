"""What crosses the disk between the arms: one JSON line a record, with a schema version.

ModelRecord      what a model of the family is
QualityRecord    how good it is, one metric on one domain, with an interval
MeasuredRecord   how fast it ran on this machine
CostRecord       what a token is predicted to cost on a chip
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput
from flashstill.files import write_text

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """A model of the family. role: teacher, student, control or untrained."""

    model: str
    role: str
    of: str
    """the student whose start it shares; for a teacher its own name"""
    parameters: int
    layers: int
    training_tokens: int
    training_s: float
    path: str
    training_steps: int = 0
    arithmetic: str = ""
    """in which it ran here: "fp32 arithmetic, 2 threads"; empty in records that are older"""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRecord:
    """One metric of one model on one domain, with a 95 % bootstrap interval over documents."""

    model: str
    domain: str
    metric: str
    value: float
    low: float
    high: float
    tokens: int
    documents: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRecord:
    """Median seconds of one step on a machine, with the smallest and largest seen."""

    model: str
    machine: str
    phase: str
    batch: int
    context: int
    seconds: float
    low: float
    high: float
    repeats: int
    precision: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecord:
    """The predicted cost of one step on a chip. joules_per_token: by where they go, `total` included.

    usd_per_million_tokens: None where no price of the chip is known.
    """

    model: str
    chip: str
    chips: int
    phase: str
    batch: int
    context: int
    precision: str
    seconds: float
    tokens_per_s: float
    joules_per_token: dict[str, float]
    wall_joules_per_token: float
    usd_per_million_tokens: float | None
    watts_per_chip: float
    bound: str
    price_basis: str = field(default="")


Record = ModelRecord | QualityRecord | MeasuredRecord | CostRecord
_TYPES: dict[str, type[Record]] = {
    "model": ModelRecord,
    "quality": QualityRecord,
    "measured": MeasuredRecord,
    "cost": CostRecord,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def to_line(record: Record) -> str:
    """One JSON line without the line break."""
    return json.dumps({"schema": SCHEMA, "record": _NAMES[type(record)], **dataclasses.asdict(record)})


def from_line(line: str) -> Record:
    """The record of one JSON line; BadInput where it is none of ours."""
    try:
        row: dict[str, Any] = json.loads(line)
        if row.pop("schema") != SCHEMA:
            raise BadInput(f"a record has another schema than {SCHEMA}; run the stage again")
        return _TYPES[row.pop("record")](**row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"not a record: {line[:80]!r}") from error


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a JSONL file, whole or not at all."""
    write_text(path, "".join(to_line(record) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Every record of a JSONL file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"records {path} cannot be read: {error}") from error
    return [from_line(line) for line in text.splitlines() if line.strip()]
