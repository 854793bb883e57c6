"""One command line in a forked process with bounds on time and memory, and the judgement of what it left.

The parent has the heavy libraries loaded, so that a trial costs milliseconds; the child runs `flashstill.cli.main` as
the console script does, in a session, a folder and a home of its own.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

GIB = 2**30
LAWFUL_CODES = (0, 2, 3, 130)
_NO_NUMBER = re.compile(r"(?<![\w./=<'\"-])(nan|inf|-inf)(?![\w./>'\"-])", re.IGNORECASE)
_SIGNED_KEYS = {"question", "edits", "facts", "low", "findings", "error", "reason", "note", "bias"}
"""parts of a document that repeat what was asked, or hold what may be negative"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A command line. interrupt: whether it may begin real work, which is stopped then; answers: a CSV it writes."""

    kind: str
    arguments: tuple[str, ...]
    interrupt: bool = False
    answers: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How it ended. peak_bytes: of the child's resident memory."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    peak_bytes: int
    timed_out: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """interrupt_s: after which real work gets a Ctrl-C."""

    seconds: float = 30.0
    bytes: int = 4 * GIB
    interrupt_s: float = 5.0


def run(trial: Trial, folder: Path, bounds: Bounds) -> Outcome:
    """Run it in a fork of this process."""
    out, err = folder / "stdout", folder / "stderr"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(trial, folder, out, err, bounds)
    timed_out, interrupted = False, not trial.interrupt
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            break
        elapsed = time.monotonic() - started
        if not interrupted and elapsed > bounds.interrupt_s:
            os.kill(child, signal.SIGINT)
            interrupted = True
        if elapsed > bounds.seconds:
            timed_out = True
            os.kill(child, signal.SIGKILL)
            _, status, used = os.wait4(child, 0)
            break
        time.sleep(0.002 if elapsed < 1.0 else 0.05)
    seconds = time.monotonic() - started
    with contextlib.suppress(ProcessLookupError):  # whatever it started must not stay
        os.killpg(child, signal.SIGKILL)
    return Outcome(
        code=os.waitstatus_to_exitcode(status),
        stdout=_read(out),
        stderr=_read(err),
        seconds=seconds,
        peak_bytes=used.ru_maxrss * 1024,
        timed_out=timed_out,
    )


def _child(trial: Trial, folder: Path, out: Path, err: Path, bounds: Bounds) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["FLASHSTILL_HOME"] = str(folder / "home")
        for number, path in ((1, out), (2, err)):
            handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(handle, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace")
        limit = _mapped_bytes() + bounds.bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from flashstill.cli import main
        from flashstill.cli.interrupts import watch

        watch()  # a Ctrl-C that comes where Python drops what is raised is sent again

        try:
            main(list(trial.arguments))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else (0 if stop.code is None else 1)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _mapped_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _read(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        return stream.read(4_000_000).decode("utf-8", "replace")


def faults(trial: Trial, outcome: Outcome, bounds: Bounds) -> Iterator[str]:
    """Everything that a user should never have seen."""
    if outcome.timed_out:
        yield f"still at work after {bounds.seconds:.0f} s"
    elif outcome.code not in LAWFUL_CODES:
        yield f"exit code {outcome.code}"
    if outcome.peak_bytes > bounds.bytes:
        yield f"{outcome.peak_bytes / GIB:.1f} GiB of memory"
    if "Traceback (most recent call last)" in outcome.stderr + outcome.stdout:
        yield "a traceback"
    if "Warning:" in outcome.stderr:
        yield "a library's warning"
    sentences = [line for line in outcome.stderr.splitlines() if line.startswith("flashstill: ")]
    if outcome.code in (2, 3) and len(sentences) != 1 and not outcome.stdout.startswith("{"):
        yield f"{len(sentences)} sentences for a mistake"
    if outcome.code == 2 and any(len(line) > 2000 for line in sentences):
        yield "a sentence of more than 2,000 characters"
    if outcome.code in (0, 3) and "--json" in trial.arguments and outcome.stdout:
        yield from _document_faults(outcome.stdout)
    elif outcome.code == 0 and trial.kind != "results" and _NO_NUMBER.search(_told(outcome.stdout)):
        yield "an answer with NaN or infinity"
    if trial.answers is not None and trial.answers.is_file() and outcome.code == 0:
        yield from _answer_faults(trial.answers)


def _told(text: str) -> str:
    """Without the notes, which repeat what was given."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("note: "))


def _document_faults(text: str) -> Iterator[str]:
    def refuse(name: str) -> float:
        raise ValueError(name)

    try:
        found = json.loads(text, parse_constant=refuse)
    except ValueError as error:
        yield f"not one JSON document: {str(error)[:80]}"
        return
    for path in _negative(found, ""):
        yield f"a negative amount at {path}"


def _negative(found: Any, path: str) -> Iterator[str]:
    if isinstance(found, dict):
        for key, inner in found.items():
            if key not in _SIGNED_KEYS:
                yield from _negative(inner, f"{path}.{key}")
    elif isinstance(found, list):
        for inner in found:
            yield from _negative(inner, f"{path}[]")
    elif isinstance(found, int | float) and not isinstance(found, bool) and found < 0:
        yield path


def _answer_faults(path: Path) -> Iterator[str]:
    from flashstill.plan.prediction import PREDICTION_FIELDS

    text = path.read_text(encoding="utf-8", errors="replace")
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        return
    for row in rows[1:]:
        for name, cell in zip(PREDICTION_FIELDS, row[-len(PREDICTION_FIELDS) :], strict=True):  # ours come last
            if name in ("reason", "note", "bound"):
                continue
            try:
                number = float(cell)
            except ValueError:
                continue
            if not math.isfinite(number) or number < 0:
                yield f"{name} is {cell}"
