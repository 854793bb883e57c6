"""Training metrics: metrics.jsonl, what loggers are given, and detection of divergence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flashstill.files import write_text

SMOOTHING = 0.9


Log = Callable[[Sequence[Mapping[str, float]]], None]
"""takes the metrics of some steps; may get those of a step again when a run is resumed"""


class Metrics:
    """One row per step; rows are written at checkpoints, so that the file always matches the last checkpoint.

    rows: those of the steps before a run was resumed; log: gets them, and each further row at once.
    """

    def __init__(self, directory: Path, rows: list[dict[str, float]], writes: bool, log: Log | None = None) -> None:
        self.directory, self.rows, self.writes, self._log = directory, rows, writes, log
        if log is not None and rows:
            log(rows)

    def add(self, row: dict[str, float]) -> None:
        """Append a row; its key `step` counts from 1."""
        self.rows.append(row)
        if self._log is not None:
            self._log([row])

    def flush(self) -> None:
        """Write all rows to disk."""
        if self.writes:
            write_text(self.directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))


class Trend:
    """The smoothed loss, its minimum, and its initial value."""

    def __init__(self, rows: list[dict[str, float]]) -> None:
        self._first = self._smooth = 0.0
        self._lowest, self._count = float("inf"), 0
        for row in rows:
            self.add(row["loss"])

    def add(self, loss: float) -> None:
        """Add the loss of one step."""
        if self._count == 0:
            self._first = self._smooth = loss
        self._count += 1
        self._smooth = SMOOTHING * self._smooth + (1 - SMOOTHING) * loss
        self._lowest = min(self._lowest, self._smooth)

    def diverged(self, factor: float) -> bool:
        """Whether the smoothed loss exceeds both `factor` times its minimum and its initial value."""
        if factor <= 0 or self._count < 2 / (1 - SMOOTHING):
            return False
        return self._smooth > factor * self._lowest and self._smooth > self._first
