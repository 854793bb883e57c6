"""The recipe of a deep-think study: a task, a teacher that attempts it many times, students of what it got right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flashstill.errors import BadInput
from flashstill.recipes.study import StudyRecipe


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
    """How a model attempts a problem. most: chains kept a problem; budget: longest chain kept, 0 for any; thinking:
    "keep" or "drop"; rounds: how often the student then samples for itself and learns from what it got right."""

    attempts: int = 64
    new_tokens: int = 32
    temperature: float = 1.0
    top_p: float = 1.0
    most: int = 4
    budget: int = 0
    thinking: str = "keep"
    rounds: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingStudy(StudyRecipe):
    """Arms learn from chains of 1, 4, 16, ... attempts, at equal steps and at equal epochs. chip: prices the ledger."""

    task: TaskRecipe
    chip: str
    teacher: NetTable = field(default_factory=NetTable)
    student: NetTable = field(default_factory=lambda: NetTable(hidden=64, layers=2, heads=4, feed_forward=160))
    teach: LearnTable = field(default_factory=LearnTable)
    learn: LearnTable = field(default_factory=LearnTable)
    think: ThinkTable = field(default_factory=ThinkTable)
    epochs: float = 40.0


def check_thinking(recipe: ThinkingStudy) -> None:
    """BadInput for what cannot be meant."""
    counts = {
        "task.train_problems": recipe.task.train_problems, "task.test_problems": recipe.task.test_problems,
        "think.attempts": recipe.think.attempts, "think.new_tokens": recipe.think.new_tokens,
        "teach.steps": recipe.teach.steps, "learn.steps": recipe.learn.steps,
        "learn.rows_per_step": recipe.learn.rows_per_step, "teach.rows_per_step": recipe.teach.rows_per_step,
    }  # fmt: skip
    for name, value in counts.items():
        if value < 1:
            raise BadInput(f"{name} must be at least 1")
    if recipe.teacher.keep_layers:
        raise BadInput("teacher.keep_layers means nothing: a teacher is made from nothing or is a whole model")
    if recipe.student.keep_layers and not recipe.teacher.model:
        raise BadInput("student.keep_layers needs a teacher.model to keep layers of")
    if not recipe.teacher.model and recipe.task.label_problems < 1:
        raise BadInput("a teacher made from nothing needs task.label_problems")
    if recipe.think.temperature <= 0:
        raise BadInput("think.temperature must be positive: at 0 all attempts are the same")
    if recipe.epochs <= 0:
        raise BadInput("epochs must be positive")
