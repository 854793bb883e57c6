"""Result records of a run, saved as JSONL with a schema version; the report and the cost predictions read them.

ModelRecord      a model of the family: role, size, how it was made
QualityRecord    one metric of a model on one domain, with an interval
MeasuredRecord   measured step time on this machine
CostRecord       predicted cost per token on a chip
AcceptanceRecord how often a target accepts the tokens of a draft, by position
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, shortened, unknown
from flashstill.files import write_text

SCHEMA = 1
_NEVER_ZERO = (
    "parameters", "layers", "batch", "chips", "seconds", "tokens_per_s", "repeats", "total", "draft_tokens",
    "tokens_per_step", "vocabulary",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """A model of the family. role: teacher, student, control or untrained."""

    model: str
    role: str
    of: str
    """the student with the same initial weights; for a teacher, its own name"""
    parameters: int
    layers: int
    training_tokens: int
    training_s: float
    path: str
    training_steps: int = 0
    arithmetic: str = ""
    """arithmetic used when it ran, such as "fp32 arithmetic, 2 threads"; empty in older records"""
    kind: str = ""
    """how a student was derived: depth, width, copy, upcycle, dense or scratch; empty for a teacher"""
    number_format: str = ""
    """quantised format of its weights: int4, fp8 or ternary; empty if not quantised"""
    regime: str = ""
    """origin of a student's training text: offline, on-policy or sequence; empty for other roles"""


NO_INTERVAL = "one document: no interval"
"""what is printed in the place of an interval over one document"""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRecord:
    """One metric of one model on one domain, with a 95 % bootstrap interval over documents.

    low, high: None where no interval can be given: of a single document nothing is known about others.
    """

    model: str
    domain: str
    metric: str
    value: float
    low: float | None
    high: float | None
    tokens: int
    documents: int
    """or items of a task"""
    chance: float | None = None
    """what guessing scores on a task; None where it is not known"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRecord:
    """Median time of one step on a machine in seconds, with the smallest and largest measured."""

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
    """Predicted cost of one step on a chip. joules_per_token: energy by component, `total` included.

    usd_per_million_tokens: None if the chip has no known price.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptanceRecord:
    """How often a target accepts a draft's tokens in speculative decoding; 95 % bootstrap intervals over documents.

    acceptance [g]: of the draft at each position, given that all before it were accepted; from the distributions at
    every place of the target's own text (evaluate/drafts).  counted [g]: the same, counted in speculative decoding of
    the same prompts; empty if that was not run.  tokens_per_step: of the target's passes, with all g drafted.  Of a
    single document there are no intervals: acceptance_low and _high are empty, those of tokens_per_step None.
    """

    target: str
    draft: str
    domain: str
    temperature: float
    top_p: float
    draft_tokens: int
    acceptance: tuple[float, ...]
    acceptance_low: tuple[float, ...]
    acceptance_high: tuple[float, ...]
    tokens_per_step: float
    tokens_per_step_low: float | None
    tokens_per_step_high: float | None
    documents: int
    tokens: int
    vocabulary: int
    counted: tuple[float, ...] = ()
    counted_tokens_per_step: float = 0.0
    counted_steps: int = 0
    kind: str = ""
    """eagle for a head on the target's hidden states, model for a language model"""
    draft_parameters: int = 0
    """of the draft alone, without what it shares with the target"""
    target_digest: str = ""
    draft_digest: str = ""
    data_digest: str = ""
    arithmetic: str = ""


Record = ModelRecord | QualityRecord | MeasuredRecord | CostRecord | AcceptanceRecord
_TYPES: dict[str, type[Record]] = {
    "model": ModelRecord,
    "quality": QualityRecord,
    "measured": MeasuredRecord,
    "cost": CostRecord,
    "acceptance": AcceptanceRecord,
}
_NAMES = {cls: name for name, cls in _TYPES.items()}


def to_line(record: Record) -> str:
    """One JSON line without the line break."""
    return json.dumps({"schema": SCHEMA, "record": _NAMES[type(record)], **dataclasses.asdict(record)})


def from_line(line: str) -> Record:
    """Parse one JSON line; BadInput if it is not a flashstill record."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"not a record: {shortened(line)!r}") from error
    return _from_row(row, "not a record")


def _from_row(row: Any, where: str) -> Record:
    from flashstill.checked import built  # imports pydantic, which the cost commands never load

    if not isinstance(row, dict) or "schema" not in row or "record" not in row:
        raise BadInput(f"{where}: it has no keys 'schema' and 'record', as a record has")
    if row["schema"] != SCHEMA:
        raise BadInput(f"{where}: a record has another schema than {SCHEMA}; run the stage again")
    if not isinstance(row["record"], str) or row["record"] not in _TYPES:
        raise BadInput(f"{where}: {unknown('record', str(row['record']), _TYPES)}")
    record = built(_TYPES[row["record"]], {key: row[key] for key in row if key not in ("schema", "record")}, where)
    for problem in _problems(record):
        raise BadInput(f"{where}: {problem}")
    return record


def _problems(record: Record) -> Iterator[str]:
    """Messages about impossible values such as negative amounts; quality metrics may be negative."""
    if isinstance(record, AcceptanceRecord):
        yield from _acceptance_problems(record)
    for key, value in amounts(record):
        if isinstance(record, QualityRecord) and key in ("value", "low", "high"):
            continue
        if value < 0 or (value == 0 and key in _NEVER_ZERO):
            yield f"{key} is {value:g}; it must {'be positive' if key in _NEVER_ZERO else 'not be negative'}"


def _acceptance_problems(record: AcceptanceRecord) -> Iterator[str]:
    for name in ("acceptance", "acceptance_low", "acceptance_high", "counted"):
        rates: tuple[float, ...] = getattr(record, name)
        if len(rates) != record.draft_tokens and (rates or name == "acceptance"):
            yield f"{name} holds {len(rates)} positions, but {record.draft_tokens} tokens are drafted"
        if not all(0.0 <= rate <= 1.0 for rate in rates):
            yield f"{name} holds a rate that does not lie between 0 and 1"


def amounts(record: Record) -> Iterator[tuple[str, float]]:
    """(key, number) for every number of a record."""
    values = dataclasses.asdict(record)
    for key, value in [*values.items(), *values.get("joules_per_token", {}).items()]:
        if isinstance(value, (int, float)):
            yield key, value


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a JSONL file atomically."""
    write_text(path, "".join(to_line(record) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Every record of a JSONL file; BadInput names a line that is not a flashstill record."""
    from flashstill.checked import json_rows

    return [_from_row(row, where) for where, row in json_rows(path)]
