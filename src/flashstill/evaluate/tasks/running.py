"""Runs tasks with models, one model at a time; what is finished survives an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.distill.models import fingerprint, load_model, tokenizer_fingerprint
from flashstill.distill.models.arithmetic import Arithmetic
from flashstill.errors import BadInput
from flashstill.evaluate.entrants import Entrant
from flashstill.evaluate.tasks.answers import Answers
from flashstill.evaluate.tasks.item_records import score_records
from flashstill.evaluate.unfinished import Unfinished
from flashstill.harness.process import Harness, HarnessTask, Score, TaskScores
from flashstill.progress import Progress
from flashstill.records import QualityRecord

SCORES = 1
"""version in the key of stored scores: raise it when their computation changes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResults:
    """records: by task and model; chance: task -> what guessing scores; names: of the tasks, in order."""

    records: tuple[QualityRecord, ...] = ()
    chance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    names: tuple[str, ...] = ()


@dataclass(kw_only=True)
class TaskRun:
    """What is to be run. items: at most so many of each task, None for all; may_run_code: whether task files may."""

    entrants: Sequence[Entrant]
    items: int | None
    may_run_code: bool
    arithmetic: Arithmetic
    seed: int
    unfinished: Unfinished
    progress: Progress

    def results(self, tasks: Sequence[str]) -> TaskResults:
        """Scores of all models on all tasks; BadInput, before a model is loaded, for a task that cannot be run."""
        with contextlib.ExitStack() as stack:
            harnesses = []
            for each in dict.fromkeys(tasks):
                self.progress.say(f"task {each}: lm-eval reads it")
                harnesses.append(stack.enter_context(Harness(each, self.items, self.may_run_code)))
            places = [(harness, task) for harness in harnesses for task in harness.tasks]
            names = [task.name for _, task in places]
            for name in names:
                if names.count(name) > 1:
                    raise BadInput(f"two tasks are called {name!r}; evaluate them one after the other")
            found: dict[tuple[str, str], tuple[TaskScores, int]] = {}
            for entrant in self.entrants:
                self._run(entrant, places, found)
        records = [
            record
            for name in names
            for entrant in self.entrants
            for scores, tokens in [found[name, entrant.name]]
            for record in score_records(scores.scores, entrant.name, name, tokens, self.seed)
        ]
        chance = {name: scores.chance for (name, _), (scores, _) in found.items()}
        return TaskResults(records=tuple(records), chance=chance, names=tuple(names))

    def _run(
        self,
        entrant: Entrant,
        places: Sequence[tuple[Harness, HarnessTask]],
        found: dict[tuple[str, str], tuple[TaskScores, int]],
    ) -> None:
        missing = []
        for harness, task in places:
            kept = self.unfinished.read_values(self._key(entrant, task)) if self.unfinished.folder else None
            if kept is None:
                missing.append((harness, task))
            else:
                found[task.name, entrant.name] = (_scores_of(kept), int(kept["tokens"]))
        if not missing:
            return
        answers = Answers(load_model(entrant.directory, self.arithmetic.dtype, may_spread=True), entrant.tokenizer)
        for harness, task in missing:
            before = answers.tokens
            scores = harness.run(task.name, self._answer(answers, f"{entrant.name} on {task.name}"))
            tokens = answers.tokens - before
            found[task.name, entrant.name] = (scores, tokens)
            if self.unfinished.folder is not None:
                values = {**dataclasses.asdict(scores), "tokens": tokens}
                self.unfinished.write_values(self._key(entrant, task), values)

    def _answer(self, answers: Answers, name: str) -> Callable[[str, list[list[Any]]], list[Any]]:
        def answer(kind: str, arguments: list[list[Any]]) -> list[Any]:
            with self.progress.task(name, max(1, len(arguments)), "requests") as advance:
                return answers.answer(kind, arguments, advance)

        return answer

    def _key(self, entrant: Entrant, task: HarnessTask) -> dict[str, Any]:
        """Everything that a model's scores on a task depend on."""
        if entrant.name not in self._prints:
            directory = entrant.directory
            self._prints[entrant.name] = fingerprint(directory), tokenizer_fingerprint(directory)
        model, tokenizer = self._prints[entrant.name]
        return {
            "task_scores": SCORES, "task": task.name, "digest": task.digest, "items": task.items, "model": model,
            "tokenizer": tokenizer, "precision": self.arithmetic.precision,
        }  # fmt: skip

    def __post_init__(self) -> None:
        self._prints: dict[str, tuple[str, str]] = {}


def _scores_of(kept: Mapping[str, Any]) -> TaskScores:
    scores = tuple(Score(**{**each, "values": tuple(map(tuple, each["values"]))}) for each in kept["scores"])
    return TaskScores(scores=scores, chance=float(kept["chance"]))
