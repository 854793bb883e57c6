"""A distill.toml: one student, its teachers, and how it learns from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, unknown
from flashstill.recipes import budget, teachers
from flashstill.recipes.arithmetic import arithmetic_problems
from flashstill.recipes.budget import BudgetRecipe
from flashstill.recipes.family import SearchRecipe, TextRecipe
from flashstill.recipes.reader import MAY_BE_EMPTY, read_toml
from flashstill.recipes.regime import RegimeRecipe, regime_problems
from flashstill.recipes.teachers import TeacherRecipe

STUDENTS = ("depth", "width", "copy", "scratch", "upcycle", "dense")
QUANTISED = ("", "int4", "fp8", "ternary")
SIGNALS = ("hidden", "sampled", "topk", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalRecipe:
    """What is kept of the teachers' outputs: hidden, sampled, topk, or none to run them on the way."""

    kind: str = "hidden"
    draws: int = 26
    k: int = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class LossRecipe:
    """One divergence of a mix, by name ("forward-kl", "jsd:0.5")."""

    divergence: str = "forward-kl"
    temperature: float = 1.0
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeRecipe:
    """The student. depth: keep_layers of the first teacher's; width: hidden, feed_forward, key_heads, 0 for all;
    copy: the first teacher itself; scratch: the config.json at `config`; upcycle: experts of expert_neurons each, some
    of them shared; dense: a sparse teacher without its experts.  model: what it is made of, if not the first teacher.
    quantise: the format its weights are rounded to while it learns, with one scale a group; empty for none.
    compensate_windows: windows of training text by which a copy in int4 begins with weights that make good each other's
    rounding; 0 for the teacher's own."""

    kind: str = "depth"
    model: str = ""
    keep_layers: int = 0
    hidden: int = 0
    feed_forward: int = 0
    key_heads: int = 0
    config: str = ""
    experts: int = 0
    experts_per_token: int = 0
    shared_experts: int = 0
    expert_neurons: int = 0
    balance_rate: float = 1e-3
    quantise: str = ""
    group: int = 64
    compensate_windows: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTable:
    """How the student learns; micro_windows: windows of one pass, 0 for all of a step. arithmetic: in which all models
    of the run are multiplied: auto (the faster on this machine), bf16 or fp32."""

    tokens: int = 102_400
    windows_per_step: int = 4
    micro_windows: int = 0
    learning_rate: float = 3e-4
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    decay_fraction: float = 0.2
    final_fraction: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    checkpoint_every_steps: int = 40
    arithmetic: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillRecipe:
    """One student. mean: of several teachers; hard_weight: of the cross-entropy to the text, beside the losses.

    losses: none, with a hard_weight, for a student that learns from the text alone."""

    name: str
    teachers: tuple[TeacherRecipe, ...]
    data: str = "cpython-docs"
    out_of_domain: str = ""
    seed: int = 0
    mean: str = "arithmetic"
    hard_weight: float = 0.0
    student: ShapeRecipe = field(default_factory=ShapeRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    search: SearchRecipe = field(default_factory=SearchRecipe)
    signals: SignalRecipe = field(default_factory=SignalRecipe)
    losses: tuple[LossRecipe, ...] = field(default=(LossRecipe(),), metadata=MAY_BE_EMPTY)
    regime: RegimeRecipe = field(default_factory=RegimeRecipe)
    train: TrainTable = field(default_factory=TrainTable)
    budget: BudgetRecipe = field(default_factory=BudgetRecipe)

    @property
    def sources(self) -> tuple[str, ...]:
        """The texts: each specialist's own, or `data`."""
        own = tuple(teacher.data for teacher in self.teachers if teacher.data)
        return own or (self.data,)

    @property
    def routed(self) -> bool:
        """Whether each teacher has a text of its own."""
        return any(teacher.data for teacher in self.teachers)


def read_distillation(path: Path) -> DistillRecipe:
    """Read and check a distill.toml. Paths in it are taken from the directory of the file.

    Raises BadInput naming the key that is wrong.
    """
    recipe = read_toml(path, DistillRecipe)
    for problem in problems(recipe):
        raise BadInput(f"{path}: {problem}")
    return _with_paths(recipe, path.parent)


def problems(recipe: DistillRecipe) -> Iterator[str]:
    """What is wrong with it, in sentences."""
    if recipe.student.kind not in STUDENTS:
        yield unknown("student.kind", recipe.student.kind, STUDENTS)
    if recipe.signals.kind not in SIGNALS:
        yield unknown("signals.kind", recipe.signals.kind, SIGNALS)
    if recipe.student.quantise not in QUANTISED:
        yield unknown("student.quantise", recipe.student.quantise, QUANTISED[1:])
    if recipe.student.compensate_windows and (recipe.student.kind, recipe.student.quantise) != ("copy", "int4"):
        yield "student.compensate_windows is for students of kind copy that quantise to int4"
    is_served = any(teacher.served for teacher in recipe.teachers)
    yield from budget.problems(recipe.budget, recipe.student.kind, is_served)
    if recipe.regime.kind != "offline" and (is_served or recipe.budget.is_set):
        what = "a teacher behind a server" if is_served else "a budget"
        yield f"{what} knows the text as it is only: regime.kind must be offline, not {recipe.regime.kind}"
    if recipe.student.kind == "depth" and recipe.student.keep_layers < (0 if recipe.budget.is_set else 1):
        yield "student.keep_layers must say how many layers a student of kind depth keeps, or a [budget] must choose"
    if recipe.student.kind == "scratch" and not recipe.student.config:
        yield "student.config must name a config.json for a student of kind scratch"
    if recipe.student.kind == "scratch" and recipe.student.model:
        yield "a student of kind scratch begins with nothing: leave student.model out, or choose kind copy"
    yield from teachers.problems(recipe.teachers, recipe.signals.kind, recipe.student.kind, recipe.student.model)
    with_data = sum(bool(teacher.data) for teacher in recipe.teachers)
    if 0 < with_data < len(recipe.teachers):
        yield "either every teacher has data of its own (specialists) or none (an ensemble)"
    if any(teacher.weight <= 0 for teacher in recipe.teachers):
        yield "teachers.weight must be positive"
    if recipe.signals.kind in ("sampled", "topk"):
        if len(recipe.teachers) > 1:
            yield f"signals of kind {recipe.signals.kind} know one teacher; several need kind hidden or none"
        if any(loss.temperature != 1.0 or loss.divergence != "forward-kl" for loss in recipe.losses):
            yield f"signals of kind {recipe.signals.kind} know the forward KL at temperature 1 only; use kind hidden"
    if any(loss.temperature <= 0 for loss in recipe.losses):
        yield "losses.temperature must be positive"
    if recipe.hard_weight < 0 or any(loss.weight <= 0 for loss in recipe.losses):
        yield "hard_weight must not be negative, and losses.weight must be positive"
    if not recipe.losses and not recipe.hard_weight:
        yield "losses is empty and hard_weight is 0: there is nothing to learn; give one of them"
    train = recipe.train
    yield from arithmetic_problems(train.arithmetic, "train.arithmetic")
    if not 0 < train.learning_rate < 1:
        yield "train.learning_rate must lie between 0 and 1"
    counts = {"tokens": train.tokens, "windows_per_step": train.windows_per_step}
    counts["checkpoint_every_steps"] = train.checkpoint_every_steps
    for key, value in counts.items():
        if value < 1:
            yield f"train.{key} must be at least 1"
    if recipe.seed < 0 or train.micro_windows < 0:
        yield "seed and train.micro_windows must not be negative"
    if recipe.text.window_tokens < 2:
        yield "text.window_tokens must be at least 2"
    if train.clip_norm <= 0 or train.weight_decay < 0:
        yield "train.clip_norm must be positive and train.weight_decay not negative"
    yield from regime_problems(recipe)


def _with_paths(recipe: DistillRecipe, base: Path) -> DistillRecipe:
    def absolute(value: str) -> str:
        return str((base / value).resolve()) if value and (base / value).exists() else value

    found = tuple(
        dataclasses.replace(
            each, model=absolute(each.model), data=absolute(each.data), tokenizer=absolute(each.tokenizer)
        )
        for each in recipe.teachers
    )
    changes: dict[str, Any] = {key: absolute(getattr(recipe, key)) for key in ("data", "out_of_domain")}
    student = dataclasses.replace(
        recipe.student, config=absolute(recipe.student.config), model=absolute(recipe.student.model)
    )
    return dataclasses.replace(recipe, teachers=found, student=student, **changes)
