"""The side of the training: starts a logger's process, hands it the metrics, and never waits for it before the end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flashstill.files import make_directory
from flashstill.progress import Progress

MOST_BYTES = 2**26
"""metrics that a logger has not read yet: beyond, it is given up"""
PATIENCE_S = 20.0
"""after training, for a logger to take the rest and end"""

_LEFT: list[subprocess.Popen[bytes]] = []
"""processes that outlive their training, kept so that nobody takes them for forgotten"""


class Logs:
    """The loggers of one training; `add` is what the training loop calls with the metrics of steps."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def add(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Hand over the metrics of some steps, each with its `step`."""
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        for logger in self._loggers:
            logger.send(lines)


class Logger:
    """One logger's process. about: what it is told first, see writer.py."""

    def __init__(self, name: str, folder: Path, about: Mapping[str, Any], progress: Progress) -> None:
        self.name, self._folder, self._progress = name, folder, progress
        self._waiting = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            make_directory(folder)
            with (folder / "log.txt").open("ab") as printed:
                started = subprocess.Popen(
                    [sys.executable, "-P", "-m", "flashstill.loggers.writer", name, str(folder)],  # -P: not from cwd
                    stdin=subprocess.PIPE, stdout=printed, stderr=printed, env=_environment(),
                    start_new_session=True,  # not interrupted with the training: it ends when it has taken everything
                )  # fmt: skip
            assert started.stdin is not None
            os.set_blocking(started.stdin.fileno(), False)
            self._process = started
        except Exception as error:  # whatever it is, training goes on
            self._give_up(str(error))
            return
        self.send((json.dumps(about) + "\n").encode())

    def send(self, lines: bytes) -> None:
        """Write what the pipe takes now, and keep the rest for the next time."""
        if self._process is None:
            return
        self._waiting += lines
        self._write()
        if len(self._waiting) > MOST_BYTES:
            self._give_up("it does not read the metrics")

    def _write(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            while self._waiting:
                written = os.write(self._process.stdin.fileno(), memoryview(self._waiting)[:65_536])
                del self._waiting[:written]
        except BlockingIOError:
            return
        except OSError:  # it has ended, or closed its input
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)
            self._give_up(self._last_line())

    def close(self) -> None:
        """Hand over the rest and wait until the logger has ended, at most PATIENCE_S seconds."""
        until = time.monotonic() + PATIENCE_S
        while self._process is not None and self._waiting and time.monotonic() < until:
            assert self._process.stdin is not None
            select.select([], [self._process.stdin], [], max(0.0, until - time.monotonic()))
            self._write()
        if self._process is None:
            return
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            code = self._process.wait(timeout=max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._progress.say(f"{self.name} is still at work; its process ends by itself")
            _LEFT.append(self._process)
            return
        if code:
            self._give_up(self._last_line())

    def _give_up(self, why: str) -> None:
        """Say once that this logger has failed; from then on it is given nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # nothing, if it has ended
            process.wait()
            with contextlib.suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
        self._waiting.clear()
        self._progress.say(f"{self.name} no longer logs ({why}); training goes on, and metrics.jsonl has all metrics")

    def _last_line(self) -> str:
        try:
            lines = (self._folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return "it has ended"
        return lines[-1][:300] if lines else "it has ended"


@contextlib.contextmanager
def logs_of(
    names: Sequence[str], folder: Path, about: Mapping[str, Any], progress: Progress, is_main: bool = True
) -> Iterator[Logs]:
    """Context with the loggers of a training. folder: of the training; about: name, group and config of the run;
    is_main: whether this is the process that writes."""
    loggers = [Logger(name, folder / name, about, progress) for name in names] if is_main else []
    try:
        yield Logs(loggers)
    finally:
        for logger in loggers:
            logger.close()


def _environment() -> dict[str, str]:
    """With this package on the path of the new process, wherever it was imported from."""
    here = str(Path(__file__).parents[2])
    others = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each and each != here]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, *others])}
