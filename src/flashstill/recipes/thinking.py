"""The recipe of a deep-think study: a task, a teacher that attempts it many times, students of what it got right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import between, one_of, sized
from flashstill.recipes.ranges import (
    Context,
    ContextOrNone,
    Count,
    Decay,
    Given,
    Layers,
    LayersOrNone,
    Prose,
    Rate,
    Rows,
    RowsOrNone,
    Seconds,
    Share,
    Source,
    Temperature,
    TopP,
    Whole,
    Width,
)
from flashstill.recipes.reader import located
from flashstill.recipes.study import StudyRecipe
from flashstill.recipes.teachers import is_address, misaddressed

MATCHERS = ("exact", "numeric")
PARTS = ("all", "line", "number")
PREFERENCES = ("likeliest", "shortest")
THINKING = ("keep", "drop")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecipe:
    """source: gym:NAME, FILE.jsonl or FILE.py:FUNCTION (with `data`); options: of the gym's family; prompt: a format of
    its fields. marker: what comes before the answer in a chain; part: of what follows all, the first line or the last
    number. chat: whether prompts go through the model's template.

    label_problems: what a teacher trained from scratch learns from; train_problems: what it is asked many times.
    """

    source: Given
    data: Source = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: Prose = ""
    matcher: Annotated[str, one_of(MATCHERS)] = "exact"
    marker: Annotated[str, sized(0, 256)] = ""
    part: Annotated[str, one_of(PARTS)] = "all"
    chat: bool = False
    label_problems: Whole = 20_000
    train_problems: Count = 8_000
    test_problems: Count = 2_000
    judge_seconds: Seconds = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """A model trained from scratch, of Llama's kind; or `model`, a directory or a known name; or, for a student,
    keep_layers of the teacher's."""

    model: Source = ""
    keep_layers: LayersOrNone = 0
    hidden: Width = 128
    layers: Layers = 4
    heads: Width = 4
    feed_forward: Width = 384


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherTable(NetTable):
    """Who attempts the problems. Behind an OpenAI-compatible server `model` is its address, up to /v1, and then: name,
    of the model there; tokenizer: a directory with its tokenizer and its config.json; in_flight: requests at a time;
    time_limit_s: of one."""

    name: Source = ""
    tokenizer: Source = ""
    in_flight: Rows = 8
    time_limit_s: Seconds = 300.0

    @property
    def served(self) -> bool:
        """Whether it is behind a server."""
        return is_address(self.model)

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        if self.keep_layers:
            yield "teacher.keep_layers means nothing: a teacher is trained from scratch or is a whole model"
        yield from misaddressed(self, "teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnTable:
    """How a model learns rows of text. steps: for all arms of a study the same, but where epochs are compared."""

    steps: Count = 2_000
    rows_per_step: Rows = 256
    learning_rate: Rate = 2e-3
    weight_decay: Decay = 0.01
    warmup_fraction: Share = 0.05
    checkpoint_every_steps: Count = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkTable:
    """How a model attempts a problem. most: chains kept a problem; prefer: the "likeliest" or the "shortest"; budget:
    longest chain kept, 0 for any; thinking: "keep" or "drop"; teacher_share: what the forward KL to the teacher's
    distribution on the tokens kept is of the loss, the rest is their cross-entropy; rounds: how often the student then
    samples for itself and learns from what it got right."""

    attempts: Rows = 64
    new_tokens: Context = 32
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    most: RowsOrNone = 1
    prefer: Annotated[str, one_of(PREFERENCES)] = "likeliest"
    budget: ContextOrNone = 0
    thinking: Annotated[str, one_of(THINKING)] = "keep"
    teacher_share: Share = 0.0
    rounds: Annotated[int, between(0, 100)] = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingStudy(StudyRecipe):
    """Arms learn from chains of 1, 4, 16, ... attempts, at equal steps (learn.steps) and at as many passes over their
    chains as those of all attempts have in these steps. chip: prices the ledger."""

    task: TaskRecipe
    chip: Given
    teacher: TeacherTable = field(default_factory=TeacherTable)
    student: NetTable = field(default_factory=lambda: NetTable(hidden=64, layers=2, heads=4, feed_forward=160))
    teach: LearnTable = field(default_factory=LearnTable)
    learn: LearnTable = field(default_factory=LearnTable)
    think: ThinkTable = field(default_factory=ThinkTable)

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        yield from self.teacher.problems()
        if self.student.keep_layers and (not self.teacher.model or self.teacher.served):
            yield "student.keep_layers needs a teacher.model at hand to keep layers of"
        if not self.teacher.model and self.task.label_problems < 1:
            yield "a teacher trained from scratch needs task.label_problems"
        if self.think.teacher_share and self.teacher.served:
            yield "think.teacher_share needs a teacher at hand; one behind a server gives text only"
        for name, net in (("teacher", self.teacher), ("student", self.student)):
            if not (net.model or net.keep_layers) and net.hidden % (2 * net.heads):
                yield f"{name}.hidden is {net.hidden}, which {net.heads} heads of an even size do not fill"

    def located(self, where: Path) -> ThinkingStudy:
        """With the task's files and the models taken from the directory of its file where they are there."""

        def absolute(table: Any, prefix: str, *keys: str) -> Any:
            return replace(table, **{key: _located(getattr(table, key), where, prefix + key) for key in keys})

        return replace(
            self,
            task=absolute(self.task, "task.", "source", "data"),
            teacher=absolute(self.teacher, "teacher.", "model", "tokenizer"),
            student=absolute(self.student, "student.", "model"),
        )


def _located(value: str, where: Path, key: str) -> str:
    """A path, or a path and a function after a colon, from the directory of the file `where`."""
    path, colon, function = value.rpartition(":") if ".py:" in value else (value, "", "")
    return f"{located(path, where.parent, where, key)}{colon}{function}"
