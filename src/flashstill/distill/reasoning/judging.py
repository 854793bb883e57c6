"""Verdicts on answers from untrusted judges: each judge runs in its own process, with a time limit per answer.

    right      a score of 1
    wrong      any other number from 0 to 1
    raised     the judge raised an exception, or its process died
    late       it took longer than `seconds`; its process is killed and a new one started
    nonsense   its reply is not a single number from 0 to 1

Judges run isolated (isolated/): without the user's environment, in an empty temporary directory, with resource limits.
Equal answers to a problem are judged once.  If a judge fails on nearly all answers, the run stops, as the training set
would be arbitrary.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flashstill.distill.isolated import PIPE_BYTES, Flooded, Isolated, start
from flashstill.distill.reasoning.spec import Spec
from flashstill.errors import BadInput
from flashstill.progress import Advance

START_S = 120.0
FAILED = ("raised", "late", "nonsense")
OUTCOMES = ("right", "wrong", *FAILED)
ENOUGH_TO_TELL, FAILURES_TOO_MANY = 50, 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """score: from 0 to 1, 0 if the judge failed; outcome: as listed above; why: its exception or reply."""

    score: float
    outcome: str
    why: str = ""


Question = tuple[int, str]
"""index of the problem, and the answer to it"""
TOGETHER = 32
"""questions that are sent at once: switching between processes costs more than a quick judge"""


class _Judge:
    """One judge process, started with its first question."""

    def __init__(self, task: Spec, problems: Path, seconds: float) -> None:
        self._arguments = (json.dumps(task.anywhere.key), str(problems.absolute()), str(seconds))
        self._seconds = seconds
        self._process: Isolated | None = None
        self._asked = 0

    def ask(self, questions: Sequence[Question]) -> list[Verdict]:
        """The judge's verdicts on answers to problems, in order."""
        verdicts: list[Verdict] = []
        together = len(questions)
        while len(verdicts) < len(questions):
            found, sound = self._some(questions[len(verdicts) : len(verdicts) + together])
            together = together if sound else 1  # whose lines are too many shows one question at a time
            verdicts += found
        return verdicts

    def _some(self, questions: Sequence[Question]) -> tuple[list[Verdict], bool]:
        """Verdicts up to the first failure, its own included, of questions sent at once; and whether the process wrote
        one line for each: if not, and there were several, neither the last verdict nor a failure is among them."""
        if self._process is None:
            self._process = self._started()
        first, verdicts = self._asked + 1, list[Verdict]()
        self._asked += len(questions)
        lines = [json.dumps([number, *question]).encode() for number, question in enumerate(questions, first)]
        try:
            for number, line in enumerate(self._process.ask_each(lines, self._seconds), first):
                named, _, answer_line = line.partition(b" ")
                if named != str(number).encode():
                    raise Flooded
                verdicts.append(verdict_of(answer_line))
        except EOFError:
            self.close()
            return [*verdicts, Verdict(score=0.0, outcome="raised", why="the judge's process died")], True
        except TimeoutError:
            self.close()
            late = Verdict(score=0.0, outcome="late", why=f"no verdict within {self._seconds:g} s")
            return [*verdicts, late], True
        except Flooded:
            self.close()
            nonsense = Verdict(score=0.0, outcome="nonsense", why="it said more than a verdict")
            return ([nonsense], True) if len(questions) == 1 else (verdicts[:-1], False)
        return verdicts, True

    def _started(self) -> Isolated:
        process = start("flashstill.distill.reasoning.worker", *self._arguments)
        try:
            greeting = json.loads(process.line(START_S))
            ready = isinstance(greeting, dict) and "ready" in greeting
            refused = greeting.get("refused") if isinstance(greeting, dict) else None
        except (EOFError, TimeoutError, Flooded, ValueError, RecursionError):
            ready, refused = False, None
        if not ready:
            process.end()
            raise BadInput(refused or "the verifier's process cannot be started; look at its file and its packages")
        return process

    def close(self) -> None:
        """End the process and its child processes."""
        if self._process is not None:
            self._process.end()
        self._process = None


def verdict_of(line: bytes) -> Verdict:
    """Parse the verdict from a line that a judge process wrote."""
    try:
        reply = json.loads(line)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict) or not {"score", "raised"} & set(reply):
        return Verdict(score=0.0, outcome="nonsense", why=repr(line[:80]))
    if "raised" in reply:
        why = str(reply["raised"]).encode("utf-8", "backslashreplace").decode()  # a lone surrogate cannot be printed
        return Verdict(score=0.0, outcome="raised", why=why)
    score = reply["score"]
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, (int, float)) or not 0.0 <= score <= 1.0:  # NaN, which is not between 0 and 1 either
        return Verdict(score=0.0, outcome="nonsense", why=f"a score of {score!r}"[:80])
    return Verdict(score=float(score), outcome="right" if score == 1.0 else "wrong")


@dataclass(slots=True)
class Judges:
    """Several judge processes in parallel, ended with the `with` block. counts: distinct answers by outcome."""

    task: Spec
    problems: Path
    processes: int = 2
    seconds: float = 5.0
    counts: Counter[str] = field(default_factory=Counter)
    _known: dict[Question, Verdict] = field(default_factory=dict)
    _idle: list[_Judge] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Judges:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, questions: Sequence[tuple[int, str | None]], advance: Advance | None = None) -> list[Verdict]:
        """A verdict for each (problem, answer), in order; a missing answer (None) is wrong. advance: counts answers.

        Raises BadInput if the judge fails on nearly all answers.
        """
        distinct = dict.fromkeys((place, text) for place, text in questions if text is not None)
        fresh = [(place, text) for place, text in distinct if (place, text) not in self._known]
        pool = ThreadPoolExecutor(self.processes)
        try:
            bundles = list(_bundles(fresh))
            for bundle, verdicts in zip(bundles, pool.map(self._several, bundles), strict=True):
                for question, verdict in zip(bundle, verdicts, strict=True):
                    self._known[question] = verdict
                    self.counts[verdict.outcome] += 1
                    if advance is not None:
                        advance(1)
                    self._check(verdict)
        finally:
            pool.shutdown(cancel_futures=True)
        missing = Verdict(score=0.0, outcome="wrong", why="no answer")
        return [missing if text is None else self._known[place, text] for place, text in questions]

    def _several(self, questions: Sequence[Question]) -> list[Verdict]:
        with self._lock:
            judge = self._idle.pop() if self._idle else _Judge(self.task, self.problems, self.seconds)
        try:
            return judge.ask(questions)
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


def _bundles(questions: Sequence[Question]) -> Iterator[list[Question]]:
    """Questions that are sent at once: up to TOGETHER, and no more than a pipe takes."""
    bundle: list[Question] = []
    size = 0
    for question in questions:
        own = 6 * len(question[1]) + 64  # as JSON, at most
        if bundle and (len(bundle) == TOGETHER or size + own > PIPE_BYTES):
            yield bundle
            bundle, size = [], 0
        bundle.append(question)
        size += own
    if bundle:
        yield bundle
