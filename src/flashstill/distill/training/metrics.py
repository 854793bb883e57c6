"""Training metrics: metrics.jsonl, TensorBoard events, and detection of divergence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flashstill.files import write_text

SMOOTHING = 0.9


class Metrics:
    """One row per step; rows are written at checkpoints, so that the file always matches the last checkpoint."""

    def __init__(self, directory: Path, rows: list[dict[str, float]], writes: bool) -> None:
        self.directory, self.rows, self.writes = directory, rows, writes
        self._events = _events(directory / "tensorboard", len(rows)) if writes else None

    def add(self, row: dict[str, float]) -> None:
        """Append a row; its key `step` counts from 1."""
        self.rows.append(row)
        if self._events is not None:
            for name, value in row.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(row["step"]))

    def flush(self) -> None:
        """Write all rows to disk."""
        if not self.writes:
            return
        write_text(self.directory / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Write the remaining rows and close the event file."""
        self.flush()
        if self._events is not None:
            self._events.close()


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


def _events(directory: Path, step: int) -> Any:
    """TensorBoard's writer if the package is installed, else None; metrics.jsonl holds the same values."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory), purge_step=step + 1)
