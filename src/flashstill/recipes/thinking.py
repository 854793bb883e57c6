"""The recipe of a deep-think study: a task, a teacher that attempts it many times, students of what it got right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flashstill.recipes.study import StudyRecipe
from flashstill.recipes.teachers import is_address, misaddressed


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRecipe:
    """source: gym:NAME, FILE.jsonl or FILE.py:FUNCTION (with `data`); options: of the gym's family; prompt: a format of
    its fields. marker: what comes before the answer in a chain; part: of what follows all, the first line or the last
    number. chat: whether prompts go through the model's template.

    label_problems: what a teacher made from nothing learns from; train_problems: what it is asked many times.
    """

    source: str
    data: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    matcher: str = "exact"
    marker: str = ""
    part: str = "all"
    chat: bool = False
    label_problems: int = 20_000
    train_problems: int = 8_000
    test_problems: int = 2_000
    judge_seconds: float = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """A model made from nothing, of Llama's kind; or `model`, a directory or a known name; or, for a student,
    keep_layers of the teacher's."""

    model: str = ""
    keep_layers: int = 0
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherTable(NetTable):
    """Who attempts the problems. Behind an OpenAI-compatible server `model` is its address, up to /v1, and then: name,
    of the model there; tokenizer: a directory with its tokenizer and its config.json; in_flight: requests at a time;
    time_limit_s: of one."""

    name: str = ""
    tokenizer: str = ""
    in_flight: int = 8
    time_limit_s: float = 300.0

    @property
    def served(self) -> bool:
        """Whether it is behind a server."""
        return is_address(self.model)

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        if self.keep_layers:
            yield "teacher.keep_layers means nothing: a teacher is made from nothing or is a whole model"
        yield from misaddressed(self, "teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class LearnTable:
    """How a model learns rows of text. steps: for all arms of a study the same, but where epochs are compared."""

    steps: int = 2_000
    rows_per_step: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_fraction: float = 0.05
    checkpoint_every_steps: int = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkTable:
    """How a model attempts a problem. most: chains kept a problem; prefer: the "likeliest" or the "shortest"; budget:
    longest chain kept, 0 for any; thinking: "keep" or "drop"; teacher_share: what the forward KL to the teacher's
    distribution on the tokens kept is of the loss, the rest is their cross-entropy; rounds: how often the student then
    samples for itself and learns from what it got right."""

    attempts: int = 64
    new_tokens: int = 32
    temperature: float = 1.0
    top_p: float = 1.0
    most: int = 1
    prefer: str = "likeliest"
    budget: int = 0
    thinking: str = "keep"
    teacher_share: float = 0.0
    rounds: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingStudy(StudyRecipe):
    """Arms learn from chains of 1, 4, 16, ... attempts, at equal steps (learn.steps) and at as many passes over their
    chains as those of all attempts have in these steps. chip: prices the ledger."""

    task: TaskRecipe
    chip: str
    teacher: TeacherTable = field(default_factory=TeacherTable)
    student: NetTable = field(default_factory=lambda: NetTable(hidden=64, layers=2, heads=4, feed_forward=160))
    teach: LearnTable = field(default_factory=LearnTable)
    learn: LearnTable = field(default_factory=LearnTable)
    think: ThinkTable = field(default_factory=ThinkTable)

    def problems(self) -> Iterator[str]:
        """What cannot be meant."""
        counts = {
            "task.train_problems": self.task.train_problems, "task.test_problems": self.task.test_problems,
            "think.attempts": self.think.attempts, "think.new_tokens": self.think.new_tokens,
            "teach.steps": self.teach.steps, "learn.steps": self.learn.steps,
            "learn.rows_per_step": self.learn.rows_per_step, "teach.rows_per_step": self.teach.rows_per_step,
        }  # fmt: skip
        yield from (f"{name} must be at least 1" for name, value in counts.items() if value < 1)
        yield from self.teacher.problems()
        if self.student.keep_layers and (not self.teacher.model or self.teacher.served):
            yield "student.keep_layers needs a teacher.model at hand to keep layers of"
        if not self.teacher.model and self.task.label_problems < 1:
            yield "a teacher made from nothing needs task.label_problems"
        if not 0 <= self.think.teacher_share <= 1:
            yield f"think.teacher_share is {self.think.teacher_share:g}; it must lie between 0 and 1"
        if self.think.teacher_share and self.teacher.served:
            yield "think.teacher_share needs a teacher at hand; one behind a server gives text only"
        if self.think.temperature <= 0:
            yield "think.temperature must be positive: at 0 all attempts are the same"

    def located(self, base: Path) -> ThinkingStudy:
        """With the task's files and the models taken from `base` where they are there."""

        def absolute(value: str) -> str:
            path, colon, function = value.rpartition(":") if ".py:" in value else (value, "", "")
            return f"{(base / path).resolve()}{colon}{function}" if path and (base / path).exists() else value

        task = replace(self.task, source=absolute(self.task.source), data=absolute(self.task.data))
        teacher = replace(self.teacher, model=absolute(self.teacher.model), tokenizer=absolute(self.teacher.tokenizer))
        student = replace(self.student, model=absolute(self.student.model))
        return replace(self, task=task, teacher=teacher, student=student)
