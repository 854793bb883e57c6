"""Verdicts on answers from judges that are not trusted: each in a process of its own, each answer within its time.

    right      a score of 1
    wrong      any other number from 0 to 1
    raised     the judge raised, or its process died
    late       it took longer than `seconds`; its process is shot and another one started
    nonsense   what it said is no number from 0 to 1

Equal answers to one problem are judged once.  A judge that fails on nearly everything it is asked stops the run: a
training set of its choosing would be worth nothing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flashstill.distill.reasoning.tasks import Spec
from flashstill.errors import BadInput
from flashstill.progress import Advance

START_S = 120.0
FAILED = ("raised", "late", "nonsense")
OUTCOMES = ("right", "wrong", *FAILED)
ENOUGH_TO_TELL, FAILURES_TOO_MANY = 50, 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """score: from 0 to 1, 0 where the judge failed; outcome: as listed above; why: what it raised or said."""

    score: float
    outcome: str
    why: str = ""


class _Judge:
    """One process, started when it is first asked."""

    def __init__(self, task: Spec, problems: Path, seconds: float) -> None:
        self._command = [
            sys.executable,
            "-m",
            "flashstill.distill.reasoning.worker",
            json.dumps(task.key),
            str(problems),
        ]
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._pending = b""

    def ask(self, problem: int, answer: str) -> Verdict:
        """Its verdict on one answer."""
        if self._process is None:
            self._start()
        try:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([problem, answer]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(self._seconds)
        except (BrokenPipeError, EOFError):
            self.close()
            return Verdict(score=0.0, outcome="raised", why="the judge's process died")
        except TimeoutError:
            self.close()
            return Verdict(score=0.0, outcome="late", why=f"no verdict within {self._seconds:g} s")
        return verdict_of(line)

    def _start(self) -> None:
        quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._pending = b""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=quiet,
            start_new_session=True,
        )  # fmt: skip
        try:
            said = json.loads(self._line(START_S))
        except (EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise BadInput("the verifier's process cannot be started; look at its file and its packages") from error
        if "refused" in said:
            self.close()
            raise BadInput(said["refused"])

    def _line(self, seconds: float) -> bytes:
        """The next line; TimeoutError or EOFError where there is none."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                more = os.read(self._process.stdout.fileno(), 65536)
                if not more:
                    raise EOFError
                self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def close(self) -> None:
        """End the process and whatever it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):  # what was not read on the other end
                stream.close()
        self._process = None


def verdict_of(line: bytes) -> Verdict:
    """What a line of a judge's process means."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict) or not {"score", "raised"} & set(said):
        return Verdict(score=0.0, outcome="nonsense", why=repr(line[:80]))
    if "raised" in said:
        return Verdict(score=0.0, outcome="raised", why=str(said["raised"]))
    score = said["score"]
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, (int, float)) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
        return Verdict(score=0.0, outcome="nonsense", why=f"a score of {score!r}"[:80])
    return Verdict(score=float(score), outcome="right" if score == 1.0 else "wrong")


@dataclass(slots=True)
class Judges:
    """Several judges side by side, ended with their `with` block. counts: of outcomes, over all distinct answers."""

    task: Spec
    problems: Path
    processes: int = 2
    seconds: float = 5.0
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[tuple[int, str], Verdict] = field(default_factory=dict)
    _idle: list[_Judge] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, questions: Sequence[tuple[int, str | None]], advance: Advance) -> list[Verdict]:
        """A verdict for each (problem, answer), in their order; an answer that never came (None) is wrong.

        Raises BadInput where the judge fails on nearly all it is asked.
        """
        distinct = dict.fromkeys((place, text) for place, text in questions if text is not None)
        fresh = [(place, text) for place, text in distinct if (place, text) not in self._known]
        pool = ThreadPoolExecutor(self.processes)
        try:
            for question, verdict in zip(fresh, pool.map(self._one, fresh), strict=True):
                self._known[question] = verdict
                self.counts[verdict.outcome] += 1
                advance(1)
                self._check(verdict)
        finally:
            pool.shutdown(cancel_futures=True)
        missing = Verdict(score=0.0, outcome="wrong", why="no answer")
        return [missing if text is None else self._known[place, text] for place, text in questions]

    def _one(self, question: tuple[int, str]) -> Verdict:
        with self._lock:
            judge = self._idle.pop() if self._idle else _Judge(self.task, self.problems, self.seconds)
        try:
            return judge.ask(*question)
        finally:
            with self._lock:
                self._idle.append(judge)

    def _check(self, last: Verdict) -> None:
        asked, failed = sum(self.counts.values()), sum(self.counts[outcome] for outcome in FAILED)
        if last.outcome in FAILED and asked >= ENOUGH_TO_TELL and failed > FAILURES_TOO_MANY * asked:
            raise BadInput(
                f"the verifier failed on {failed} of {asked} answers ({last.outcome}: {last.why}); mend it first"
            )

    def close(self) -> None:
        """End all processes."""
        while self._idle:
            self._idle.pop().close()
