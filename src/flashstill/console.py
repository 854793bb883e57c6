"""Progress bars with rate and time left, on standard error; standard output stays free for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flashstill.progress import Advance

LINE_EVERY_S = 15.0


def duration(seconds: float) -> str:
    """Seconds as people say them: 40 s, 7 minutes, 14 hours, 3 days."""
    for unit, least_s, unit_s in (("days", 172800.0, 86400.0), ("hours", 7200.0, 3600.0), ("minutes", 120.0, 60.0)):
        if seconds >= least_s:
            return f"{seconds / unit_s:,.0f} {unit}"
    return f"{seconds:.0f} s"


class Console:
    """Bars on a terminal; otherwise one line at the start of a task, every 15 seconds and at its end."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
        shown = self._bar if sys.stderr.isatty() else self._lines
        with shown(name, total, unit, done) as advance:
            yield advance

    @contextmanager
    def _bar(self, name: str, total: float, unit: str, done: float) -> Iterator[Advance]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        state = _State(total, done)
        with Progress(*columns, console=RichConsole(stderr=True)) as progress:
            task = progress.add_task(name, total=total, rate="", note="")

            progress.update(task, completed=done)

            def advance(amount: float, note: str = "") -> None:
                state.add(amount)
                progress.update(task, advance=amount, rate=state.rate_text(unit), note=note)

            yield advance

    @contextmanager
    def _lines(self, name: str, total: float, unit: str, done: float) -> Iterator[Advance]:
        state, last = _State(total, done), [time.monotonic()]
        resumed = f" (resuming at {done / total:.0%})" if done else ""
        self.say(f"{name}: {total:,.0f} {unit}{resumed}")

        def advance(amount: float, note: str = "") -> None:
            state.add(amount)
            finished = state.done >= total
            if finished or time.monotonic() - last[0] >= LINE_EVERY_S:
                last[0] = time.monotonic()
                left = f"took {duration(state.elapsed_s)}" if finished else f"{duration(state.left_s)} left"
                parts = [f"{state.done / total:.0%}", state.rate_text(unit), left, note]
                self.say(f"{name}: " + ", ".join(part for part in parts if part))

        yield advance


class _State:
    """Amount done, rate and estimated time left of a task."""

    def __init__(self, total: float, done: float) -> None:
        self.total, self.done, self._begun, self._start = total, done, done, time.monotonic()

    def add(self, amount: float) -> None:
        self.done += amount

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start

    @property
    def rate(self) -> float:
        return (self.done - self._begun) / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float:
        return (self.total - self.done) / self.rate if self.rate > 0 else float("inf")

    def rate_text(self, unit: str) -> str:
        return f"{self.rate:,.0f} {unit}/s" if self.rate >= 10 else f"{self.rate:.2g} {unit}/s"
