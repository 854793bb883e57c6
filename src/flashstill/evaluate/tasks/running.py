"""Runs tasks with models, one model at a time; what is finished survives an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.distill.data.templates import Template, renderer_of, template_of
from flashstill.distill.models import fingerprint, load_model, tokenizer_fingerprint
from flashstill.distill.models.arithmetic import Arithmetic
from flashstill.errors import BadInput, shortened
from flashstill.evaluate.entrants import Entrant
from flashstill.evaluate.tasks.answers import Answers
from flashstill.evaluate.tasks.drawing import settings_of
from flashstill.evaluate.tasks.item_records import score_records, whole_record
from flashstill.evaluate.tasks.problem_tasks import ProblemTask, is_problem_task, read_problem_task
from flashstill.evaluate.unfinished import Unfinished
from flashstill.harness.process import Harness, HarnessTask, Score
from flashstill.progress import Progress
from flashstill.records import QualityRecord

SCORES = 1
"""version in the key of stored scores: raise it when their computation changes"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResults:
    """records: by task and model; names: of the tasks, in order."""

    records: tuple[QualityRecord, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ready:
    """A task that can be run. key: all that its scores depend on but the model; run: with a model's answers, name and
    fingerprints -> plain values to keep; records: of the values and a model's name."""

    name: str
    key: Mapping[str, Any]
    run: Callable[[Answers, str, tuple[str, str]], dict[str, Any]]
    records: Callable[[Mapping[str, Any], str], list[QualityRecord]]


def _names(ready: Sequence[_Ready], grouped: Sequence[Harness]) -> list[str]:
    """The names of tasks and of groups; BadInput if two are the same."""
    names = [*(each.name for each in ready), *(group for harness in grouped for group in harness.groups)]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"two tasks are called {name!r}; evaluate them one after the other")
    return names


def _wholes(
    harness: Harness, group: str, model: str, found: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[QualityRecord]:
    """A model's figures of a whole group. found: values by task and model."""
    own = {task.name: found[task.name, model] for task in harness.tasks}
    return [
        whole_record(whole, model, group, sum(int(own[task]["tokens"]) for task in whole.tasks))
        for whole in harness.wholes(group, own)
    ]


@dataclass(kw_only=True)
class TaskRun:
    """What is to be run. items: at most so many of each task, None for all; attempts: at problems with a verifier,
    beside the greedy one; may_run_code: whether task files may.  chat: whether prompts are conversations, rendered by
    each model's chat template or that in a file."""

    entrants: Sequence[Entrant]
    items: int | None
    attempts: int
    may_run_code: bool
    arithmetic: Arithmetic
    seed: int
    unfinished: Unfinished
    progress: Progress
    chat: bool = False
    chat_template: str = ""

    def results(self, tasks: Sequence[str]) -> TaskResults:
        """Scores of all models on all tasks; BadInput, before a model is loaded, for a task that cannot be run."""
        templates = {each.name: self._template(each) for each in self.entrants}
        found: dict[tuple[str, str], dict[str, Any]] = {}
        with contextlib.ExitStack() as stack:
            ready, grouped = self._all_ready(tasks, stack)
            names = _names(ready, grouped)
            for entrant in self.entrants:
                self._run(entrant, templates[entrant.name], ready, found)
            wholes = [
                record
                for harness in grouped
                for group in harness.groups
                for entrant in self.entrants
                for record in _wholes(harness, group, entrant.name, found)
            ]
        records = [
            record
            for each in ready
            for entrant in self.entrants
            for record in each.records(found[each.name, entrant.name], entrant.name)
        ]
        return TaskResults(records=(*records, *wholes), names=tuple(names))

    def check(self, tasks: Sequence[str]) -> None:
        """BadInput for a task that cannot be run, or if an entrant has no chat template; no model is loaded."""
        for entrant in self.entrants:
            self._template(entrant)
        with contextlib.ExitStack() as stack:
            _names(*self._all_ready(tasks, stack))

    def _all_ready(self, tasks: Sequence[str], stack: contextlib.ExitStack) -> tuple[list[_Ready], list[Harness]]:
        """The tasks, and the processes of those that form groups."""
        if self.attempts and not any(map(is_problem_task, tasks)):
            raise BadInput("attempts are made at problems with a verifier: gym:NAME, or a .toml with a table [task]")
        grouped: list[Harness] = []
        return [each for task in dict.fromkeys(tasks) for each in self._ready(task, stack, grouped)], grouped

    def _ready(self, task: str, stack: contextlib.ExitStack, grouped: list[Harness]) -> list[_Ready]:
        if is_problem_task(task):
            self.progress.say(f"task {task}: problems are drawn")
            return [self._of_problems(self._problems(task))]
        self.progress.say(f"task {task}: lm-eval reads it")
        harness = stack.enter_context(Harness(task, self.items, self.may_run_code, self.chat))
        if harness.groups:
            grouped.append(harness)
        elif len(harness.tasks) > 1:
            self.progress.say(f"task {task}: lm-eval gives no figure of the whole; its tasks have theirs")
        return [self._of_harness(harness, each) for each in harness.tasks]

    def _problems(self, task: str) -> ProblemTask:
        return read_problem_task(task, self.items, self.attempts, self.seed, self.may_run_code, self.chat)

    def _of_problems(self, task: ProblemTask) -> _Ready:
        def run(answers: Answers, name: str, known_as: tuple[str, str]) -> dict[str, Any]:
            return task.run(answers, known_as, self.unfinished.folder, self.progress)

        return _Ready(
            name=task.name, key={"task": task.name, "digest": task.digest}, run=run,
            records=lambda values, model: task.records(values, model, self.seed),
        )  # fmt: skip

    def _of_harness(self, harness: Harness, task: HarnessTask) -> _Ready:
        if task.generation is not None:  # before a model is loaded
            try:
                settings_of(task.generation, (), self.seed)
            except BadInput as error:
                raise BadInput(f"task {shortened(task.name)}: {error}") from error

        def run(answers: Answers, name: str, known_as: tuple[str, str]) -> dict[str, Any]:
            def answer(kind: str, arguments: list[list[Any]]) -> list[Any]:
                if kind == "chat":  # one conversation at a time, before the requests
                    return answers.answer(kind, arguments, lambda amount, note="": None)
                with self.progress.task(f"{name} on {task.name}", max(1, len(arguments)), "requests") as advance:
                    return answers.answer(kind, arguments, advance)

            before, unended = answers.tokens, answers.unended
            scores = harness.run(task.name, answer)
            if answers.unended > unended:
                self.progress.say(
                    f"{name} on {task.name}: {answers.unended - unended:,} texts end within a thought and count as no"
                    " answer; the task's max_gen_toks is the most tokens of a text"
                )
            return {**dataclasses.asdict(scores), "tokens": answers.tokens - before}

        def records(values: Mapping[str, Any], model: str) -> list[QualityRecord]:
            scores = [Score(**{**each, "values": tuple(map(tuple, each["values"]))}) for each in values["scores"]]
            found = score_records(scores, model, task.name, int(values["tokens"]), self.seed)
            return [dataclasses.replace(record, chance=float(values["chance"])) for record in found]

        key = {"task": task.name, "digest": task.digest, "items": task.items, "seed": self.seed}
        return _Ready(name=task.name, key=key, run=run, records=records)

    def _template(self, entrant: Entrant) -> Template | None:
        """A model's chat template; None if prompts are plain. BadInput if it has none."""
        template = template_of(entrant.tokenizer, self.chat_template) if self.chat else None
        if self.chat and template is None:
            raise BadInput(f"{entrant.name} has no chat template; give --chat-template, or leave --chat out")
        return template

    def _run(
        self,
        entrant: Entrant,
        template: Template | None,
        ready: Sequence[_Ready],
        found: dict[tuple[str, str], dict[str, Any]],
    ) -> None:
        """The values of one model on all tasks, kept or computed."""
        known_as = "", ""
        if self.unfinished.folder is not None:
            known_as = fingerprint(entrant.directory), tokenizer_fingerprint(entrant.directory)
        own = {
            "task_scores": SCORES, "model": known_as[0], "tokenizer": known_as[1],
            "precision": self.arithmetic.precision, "chat": "" if template is None else template.source,
        }  # fmt: skip
        kept = {each.name: self.unfinished.read_values({**own, **each.key}) for each in ready}
        found |= {(name, entrant.name): values for name, values in kept.items() if values is not None}
        missing = [each for each in ready if kept[each.name] is None]
        if not missing:
            return
        model = load_model(entrant.directory, self.arithmetic.dtype, may_spread=True)
        with renderer_of(template) as renderer:
            answers = Answers(model, entrant.tokenizer, self.seed, renderer)
            for each in missing:
                values = each.run(answers, entrant.name, known_as)
                found[each.name, entrant.name] = values
                self.unfinished.write_values({**own, **each.key}, values)
