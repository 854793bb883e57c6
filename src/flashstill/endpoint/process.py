"""An engine's process as its parent sees it: start, is it alive, the last lines of its log, stop."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashstill.errors import BadInput, one_line
from flashstill.files import disk_errors

PACKAGE_PARENT = Path(__file__).parents[2]
GRACE_S = 10.0
"""seconds in which an engine may end by itself after SIGTERM; then it is killed"""
LAST_LINES, TAIL_BYTES = 15, 16_384


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A running engine. pid: of the engine; keeper: the process that ends it when this one does (keeper.py)."""

    pid: int
    log: Path
    keeper: subprocess.Popen[bytes]

    @property
    def status(self) -> int | None:
        """The exit status of the engine (128 + signal if one ended it); None while it runs."""
        return self.keeper.poll()

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status, waited for; None if the engine still runs after `seconds`."""
        try:
            return self.keeper.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End the engine and everything that it started: SIGTERM, then SIGKILL after `GRACE_S`."""
        assert self.keeper.stdin is not None
        with contextlib.suppress(OSError):
            self.keeper.stdin.close()  # the keeper sees its parent leave
        if self.wait(2.0 * GRACE_S) is None:
            self.keeper.kill()  # Linux then kills the engine
            self.keeper.wait()

    def last_lines(self) -> tuple[str, ...]:
        """The last lines that the engine wrote, each printable and short."""
        return last_lines(self.log)


def start(words: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Process:
    """Start a program in `folder` with its output in `log`, which is written anew. BadInput if it cannot be started."""
    with disk_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    job = {
        "words": list(words), "folder": str(folder), "log": str(log.resolve()), "grace_s": GRACE_S,
        "python_path": environment.get("PYTHONPATH"),
    }  # fmt: skip
    paths = [str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]
    ours = {**environment, "PYTHONPATH": os.pathsep.join(paths)}  # not in the job: all users may read a command line
    keeper = subprocess.Popen(
        [sys.executable, "-m", "flashstill.endpoint.keeper", json.dumps(job)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=ours,
    )  # fmt: skip
    assert keeper.stdout is not None
    with keeper.stdout as stream:
        said = stream.readline().decode(errors="replace").strip()
    if not said.isdecimal():
        keeper.wait()
        raise BadInput(f"{words[0]} cannot be started: {one_line(said.removeprefix('-')) or 'its keeper ended'}")
    return Process(pid=int(said), log=log, keeper=keeper)


def last_lines(log: Path) -> tuple[str, ...]:
    """The last lines of a file that are not blank; none if it cannot be read."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(size - TAIL_BYTES, 0))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ()
    lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return tuple(one_line(line) for line in lines[-LAST_LINES:])
