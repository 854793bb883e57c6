"""The curves of a family's training: the loss of each student by step, and on text held out for validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import LARGEST, Number, between, built, json_rows
from flashstill.report.axes import Axis
from flashstill.report.line_chart import small_multiples
from flashstill.report.svg import Line

POINTS = 60
"""of the line of a training loss: each the mean of the steps between two"""
FIGURES = {"validation_loss": "loss", "validation_bits_per_byte": "bits per byte", "validation_kl": "KL to the teacher",
           "validation_kl_at_least": "KL to the teacher, at least"}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The fields of a line of metrics.jsonl that are drawn."""

    step: Annotated[int, between(1, LARGEST)]
    loss: Number
    validation_loss: Number | None = None
    validation_bits_per_byte: Number | None = None
    validation_kl: Number | None = None
    validation_kl_at_least: Number | None = None


Steps = Sequence[Mapping[str, Any]]


def training_of(out: Path, names: Sequence[str]) -> dict[str, Steps]:
    """The metrics of each model's training that are there. names: of students and controls.

    Raises BadInput for a damaged file."""
    found: dict[str, Steps] = {}
    for name in names:
        path = out / "training" / name / "metrics.jsonl"
        rows = list(json_rows(path)) if path.is_file() else []
        for where, row in rows:
            built(Step, row, where, open_end=True)
        if rows:
            found[name] = [row for _, row in rows]
    return found


def curves(training: Mapping[str, Steps]) -> str:
    """A panel a model: its smoothed training loss, and each validation; "" if nothing was trained."""
    panels = []
    for name, rows in training.items():
        lines = [Line(name="training", points=_smoothed(rows))]
        held = [
            (float(row["step"]), float(row["validation_loss"]))
            for row in rows
            if row.get("validation_loss") is not None
        ]
        panels.append((name, [*lines, Line(name="validation", points=held, dots=True)] if held else lines))
    return small_multiples(panels, Axis(title="step"), Axis(title="loss"), "loss by step", is_shared=False)


def validation_rows(training: Mapping[str, Steps]) -> list[list[str]]:
    """For each model and figure that was measured: model, figure, lowest, at step, last, at step."""
    table = []
    for name, rows in training.items():
        for key, words in FIGURES.items():
            found = {int(row["step"]): float(row[key]) for row in rows if row.get(key) is not None}
            if found:
                best, last = min(found, key=found.__getitem__), max(found)
                table.append([name, words, f"{found[best]:.4f}", f"{best:,}", f"{found[last]:.4f}", f"{last:,}"])
    return table


def _smoothed(rows: Steps) -> list[tuple[float, float | None]]:
    """(middle step, mean loss) of at most POINTS groups of steps."""
    size = -(-len(rows) // POINTS)
    groups = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [
        (sum(row["step"] for row in group) / len(group), sum(row["loss"] for row in group) / len(group))
        for group in groups
    ]
