"""Typed readers of the files that stages leave for later ones; BadInput names a damaged file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import LARGEST, Amount, Number, between, built, json_object, json_rows
from flashstill.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """search.json: the teacher's depth, and its blocks in drop order."""

    depth: Annotated[int, between(1, 10_000)]
    drops: tuple[Annotated[int, between(0, 10_000)], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The fields of a line of metrics.jsonl that are read again."""

    step_s: Amount
    tokens_per_s: Amount
    validation_s: Amount = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRow:
    """A line of segments.jsonl (distill/training/segments.py)."""

    from_step: Annotated[int, between(0, LARGEST)]
    steps: Annotated[int, between(1, LARGEST)]
    tokens: Annotated[int, between(1, LARGEST)]
    micro_windows: Annotated[int, between(0, LARGEST)]
    processes: Annotated[int, between(1, LARGEST)]
    threads: Annotated[int, between(0, LARGEST)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pick:
    """The student picked by a budget, and its predictions."""

    student: str
    sizes: dict[str, Annotated[int, between(0, 2**40)]]
    tokens_per_s: Amount
    signals_minutes: Amount | None
    training_minutes: Amount
    decode_ms: Amount
    weight_bytes: Amount
    training_bytes: Amount | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """budget.json."""

    pick: Pick


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedResult:
    """result.json of a seed of a study."""

    measures: dict[str, Number | None]
    shares: dict[str, tuple[Number, Number]]
    details: dict[str, Any]
    seconds: Amount
    resumed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentSummary:
    """The fields of a distillation's summary.json that are printed."""

    name: str
    student: str
    parameters: dict[str, Annotated[int, between(1, LARGEST)]]
    training_s: Amount
    tokens_per_s: Amount
    quality: dict[str, dict[str, dict[str, tuple[Number, Number | None, Number | None]]]]


def search(path: Path) -> Search:
    """Read search.json; BadInput if it is missing or damaged."""
    search_order = built(Search, json_object(path), str(path), open_end=True)
    if len(set(search_order.drops)) < len(search_order.drops) or any(
        block >= search_order.depth for block in search_order.drops
    ):
        raise BadInput(f"{path}: drops names a block twice, or one beyond the teacher's {search_order.depth}")
    return search_order


def steps(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, at least one."""
    path = folder / "metrics.jsonl"
    rows = list(json_rows(path))
    for where, row in rows:
        built(Step, row, where, open_end=True)
    if not rows:
        raise BadInput(f"{path} holds no training step; delete {folder.parent} and run again")
    return [row for _, row in rows]


def seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds of all steps of a training, and of its validations."""
    return sum(float(row["step_s"]) + float(row.get("validation_s", 0.0)) for row in rows)


def segments(folder: Path) -> list[dict[str, Any]]:
    """The segments of a training: where it went on under other conditions; empty if an older version trained."""
    path = folder / "segments.jsonl"
    rows = list(json_rows(path)) if path.is_file() else []
    for where, row in rows:
        built(SegmentRow, row, where, open_end=True)
    return [row for _, row in rows]


def pick(path: Path) -> dict[str, Any]:
    """Read the pick from budget.json."""
    content = json_object(path)
    built(Budget, content, str(path), open_end=True)
    chosen: dict[str, Any] = content["pick"]
    return chosen


def seed_result(path: Path) -> dict[str, Any]:
    """Read result.json of a seed; its details depend on the kind of study."""
    content = json_object(path)
    if not isinstance(content.get("details"), dict):
        raise BadInput(f"{path}: the key 'details' is missing or no table")
    built(SeedResult, {**content, "details": {}}, str(path), open_end=True)
    return content


def check_alike(results: Mapping[Path, Mapping[str, Any]]) -> None:
    """Raises BadInput if seeds report different figures."""
    first = next(iter(results.values()))
    for path, result in results.items():
        for part in ("measures", "shares"):
            if set(result[part]) != set(first[part]):
                raise BadInput(f"{path} has other {part} than the first seed; delete it and run again")


def student_summary(path: Path) -> dict[str, Any]:
    """summary.json of a distillation."""
    content = json_object(path)
    typed = built(StudentSummary, content, str(path), open_end=True)
    # of two tokenizers only the students have figures that compare with the teacher
    on_spans = any("kl_on_spans" in metrics for domains in typed.quality.values() for metrics in domains.values())
    for model, domains in typed.quality.items():
        for domain, metrics in domains.items():
            kl = {"kl_to_teacher", "kl_to_teacher_at_least"} & set(metrics)
            if on_spans and "bits_per_byte" in metrics:
                continue
            if not kl or not {"bits_per_byte", "agreement"} <= set(metrics):
                raise BadInput(
                    f"{path}: quality.{model}.{domain} lacks bits_per_byte, agreement or the KL to the teacher"
                )
    if "student" not in typed.parameters:
        raise BadInput(f"{path}: the key 'parameters.student' is missing")
    return content
