"""Results as CSV files that grow row by row, shares of time, and the rule that one failing point stops no other."""

from __future__ import annotations

import csv
import datetime
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

COMMON = ("device", "date", "version")
"""first columns of every table; version: of torch"""


class Poisoned(RuntimeError):
    """The device gives no answer any more: what follows needs a new process."""


class Budget:
    """Seconds that are left to a part."""

    def __init__(self, seconds: float) -> None:
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds, negative once they are over."""
        return self._end - time.perf_counter()

    @property
    def spent(self) -> bool:
        """Whether nothing more should be begun."""
        return self.left <= 0.0


class Results:
    """The folder of tables of one run on one device; rows of a rehearsal say so where the device is named."""

    def __init__(self, folder: Path, device: torch.device, rehearsal: bool = False) -> None:
        self.folder, self._device, self._rehearsal = folder, device, rehearsal
        folder.mkdir(parents=True, exist_ok=True)
        self.date = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        self.name = ""
        self.written: dict[str, int] = {}
        self.failed: dict[str, int] = {}

    def told_name(self) -> str:
        """The device's name; asking makes a context, so it is asked late."""
        if not self.name:
            cuda = self._device.type == "cuda"
            name = torch.cuda.get_device_name(self._device) if cuda else "CPU"
            self.name = f"{name} (rehearsal)" if self._rehearsal or not cuda else name
        return self.name

    def add(self, table: str, columns: Sequence[str], cells: dict[str, Any], device: str | None = None) -> None:
        """One row more, on disk when this returns."""
        path = self.folder / f"{table}.csv"
        header = [*COMMON, *columns]
        unknown = cells.keys() - set(header)
        if unknown:
            raise ValueError(f"{table} has no columns {sorted(unknown)}")
        new = not path.exists()
        common = {"device": device or self.told_name(), "date": self.date, "version": torch.__version__}
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, header, restval="")
            if new:
                writer.writeheader()
            writer.writerow(common | {name: "" if value is None else value for name, value in cells.items()})
        self.written[table] = self.written.get(table, 0) + 1

    def attempt(self, table: str, point: str, work: Callable[[], None]) -> bool:
        """Whether `work` went through; if not, its message is a row of `failures` and the caller goes on.

        Raises Poisoned if the device answers nothing any more.
        """
        try:
            work()
        except Exception as error:
            message = " ".join((str(error) or type(error).__name__).split())[:300]
            self.failed[table] = self.failed.get(table, 0) + 1
            self.add("failures", ("table", "point", "message"), {"table": table, "point": point, "message": message})
            if self.failed[table] <= 3:
                traceback.print_exc(limit=-4, file=sys.stderr)
            del error
            self._recover()
            return False
        return True

    def _recover(self) -> None:
        if self._device.type != "cuda":
            return
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.zeros(1, device=self._device).add_(1.0).item()
        except Exception as error:
            raise Poisoned("the device does not answer after a failed point") from error
