"""The caller's side of the process that runs lm-eval (child.py).

A task file of plain data is read in the sandbox of distill/isolated: no environment, limits on memory and time.  Tasks
that lm-eval ships, data sets of the hub and files that the user lets run code need the user's environment (its cache of
data sets): they run in an ordinary process, without network.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from flashstill.distill.isolated import Flooded, Isolated, opened, start
from flashstill.errors import BadInput, shortened, unknown
from flashstill.extras import is_installed
from flashstill.harness.files import TaskFile, is_file, read_task

MODULE = "flashstill.harness.child"
LONGEST_S, MOST_BYTES, MEMORY_BYTES = 3600.0, 2**30, 8 * 2**30
"""for one step of lm-eval's own work, without the model's; of one message; of address space"""
Answer = Callable[[str, list[list[Any]]], list[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A metric of a task by item. filter: of lm-eval, "none" for none; kind: how values are combined, "other" if only
    the whole is known; values: (value, weight) of each item; higher: whether more is better."""

    metric: str
    filter: str
    kind: str
    values: tuple[tuple[float, float], ...]
    whole: float
    count: int
    higher: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskScores:
    """Scores of a model on a task; chance: what guessing scores, 0 for free answers."""

    scores: tuple[Score, ...]
    chance: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Whole:
    """A figure of a group. count: items of `tasks`, those that have the metric; stderr: None where lm-eval has none;
    is_share: whether no item's value lies outside 0 and 1."""

    metric: str
    filter: str
    value: float
    stderr: float | None
    count: int
    tasks: tuple[str, ...]
    chance: float
    is_share: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HarnessTask:
    """A task of lm-eval that is ready to run. digest: of all that it asks; generation: its generation_kwargs, None if
    it generates no texts."""

    name: str
    digest: str
    items: int
    generation: Mapping[str, Any] | None = None


class Harness:
    """A running process with one task, or a group of them; use it in a `with` block."""

    def __init__(self, task: str, items: int | None, may_run_code: bool, chat: bool = False) -> None:
        """chat: whether prompts are conversations, for which `answer` is asked by the kind "chat".

        Raises BadInput for a task that is unknown, cannot be read, runs code, or lacks its data on this machine.
        """
        need_lm_eval()
        self.task = task
        file = read_task(Path(task)) if is_file(task) and not may_run_code else None
        if is_file(task) and file is None and not Path(task).is_file():
            raise BadInput(f"there is no task file {shortened(task)}")
        self._process = _started(is_apart=file is not None and bool(file.format))
        try:
            found = self._said(self._ask({**_job(task, file, items), "chat": chat}))
        except BaseException:
            self._process.end()
            raise
        more = "" if file is None else file.digest  # examples are not among the items that lm-eval's process knows
        self.tasks = tuple(HarnessTask(**{**each, "digest": each["digest"] + more}) for each in found["tasks"])
        self.groups = tuple(map(str, found["groups"]))
        """of which lm-eval gives the whole"""

    def run(self, name: str, answer: Answer) -> TaskScores:
        """Run one of `tasks` with a model that `answer` speaks for."""
        found = self._said(self._ask({"run": name}))
        while "ask" in found:
            found = self._said(self._ask({"answers": answer(found["ask"], found["arguments"])}))
        scores = tuple(
            Score(**{**each, "values": tuple((value, weight) for value, weight in each["values"])})
            for each in found["scores"]
        )
        return TaskScores(scores=scores, chance=float(found["chance"]))

    def wholes(self, group: str, tasks: Mapping[str, Mapping[str, Any]]) -> list[Whole]:
        """The figures of one of `groups` from those of its tasks: name -> TaskScores as plain values."""
        found = self._said(self._ask({"whole": group, "tasks": dict(tasks)}))
        return [Whole(**{**each, "tasks": tuple(each["tasks"])}) for each in found["wholes"]]

    def _ask(self, question: dict[str, Any]) -> bytes:
        try:
            return self._process.ask(json.dumps(question).encode(), LONGEST_S, MOST_BYTES)
        except TimeoutError as error:
            raise BadInput(f"task {shortened(self.task)}: lm-eval does not end within {LONGEST_S:g} s") from error
        except (EOFError, Flooded) as error:
            raise BadInput(
                f"task {shortened(self.task)}: the process of lm-eval ended; it may need more memory than"
                f" {MEMORY_BYTES // 2**30} GiB"
            ) from error

    def _said(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"task {shortened(self.task)}: lm-eval's process gave no JSON") from error
        if "refused" in found:
            raise BadInput(_refusal(self.task, str(found["refused"])))
        return dict(found)

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self._process.end()


def need_lm_eval() -> None:
    """ModuleNotFoundError, which names the extra to install, if lm-eval is not there."""
    for name in ("lm_eval", "datasets"):
        if not is_installed(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name="lm_eval")


def _job(task: str, file: TaskFile | None, items: int | None) -> dict[str, Any]:
    if file is None:
        name = str(Path(task).absolute()) if is_file(task) else task
        return {"name": name, "fields": None, "items": items}
    return {**dataclasses.asdict(file), "path": str(file.path), "items": items}


def _refusal(task: str, why: str) -> str:
    """The sentence for a refusal; for an unknown name, with the nearest ones."""
    try:
        details = json.loads(why)
    except ValueError:
        return f"task {shortened(task)}: {why}"
    if not isinstance(details, dict) or "known" not in details:
        return f"task {shortened(task)}: {why}"
    [(kind, name)] = [(key, each) for key, each in details.items() if key != "known"]
    if kind == "unknown":
        return unknown("task of lm-eval", name, details["known"])
    return f"task {shortened(task)}: {unknown(kind.removeprefix('unknown '), name, details['known'])}"


def _started(is_apart: bool) -> Isolated:
    if is_apart:
        return start(MODULE, memory_bytes=MEMORY_BYTES)
    command = [sys.executable, "-P", "-m", MODULE]  # -P: nothing is imported from the working directory
    return opened(command, {**os.environ, "HF_HUB_OFFLINE": "1"}, Path(tempfile.mkdtemp(prefix="flashstill-")))
