"""The recipe of a family (family.toml): one teacher, students of any kind, and what is measured and priced.

The family's tables are defaults for its students.  A student's [train], [search] and [validation] override them key by
key; its `teachers`, `mean`, `losses`, `hard_weight`, `signals` and `regime` replace the family's as a whole.  Text,
seed, measurements and prices are the same for all students.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from flashstill.checked import between, one_of, sized
from flashstill.recipes import distillation
from flashstill.recipes.chat import ChatRecipe, RecordsRecipe
from flashstill.recipes.distillation import (
    MEANS,
    DistillRecipe,
    LossRecipe,
    ShapeRecipe,
)
from flashstill.recipes.drafts import KIND as EAGLE
from flashstill.recipes.evaluation import EvaluateRecipe
from flashstill.recipes.logs import Loggers
from flashstill.recipes.ranges import (
    Batches,
    Context,
    Given,
    Name,
    NotNegative,
    Seed,
    Source,
    TokensOrNone,
)
from flashstill.recipes.regime import RegimeRecipe
from flashstill.recipes.signals import SignalRecipe
from flashstill.recipes.tables import SearchRecipe, TextRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.training import TrainTable
from flashstill.recipes.validation import ValidationRecipe, of_control

PRICES = ("rented", "owned", "list")
KEY_BY_KEY = ("train", "search", "validation")
AS_A_WHOLE = ("teachers", "mean", "losses", "hard_weight", "signals", "regime")

Losses = Annotated[tuple[LossRecipe, ...], sized(0, 16)]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentRecipe(ShapeRecipe):
    """One student: its shape (the keys of [student] in a distill.toml) and its training. tokens: 0 for those of
    `train`; teachers: empty for the family's."""

    name: Name
    tokens: TokensOrNone = 0
    teachers: Annotated[tuple[TeacherRecipe, ...], sized(0, 64)] = ()
    mean: Annotated[str, one_of(MEANS)] = "arithmetic"
    hard_weight: NotNegative = 0.0
    search: SearchRecipe = field(default_factory=SearchRecipe)
    signals: SignalRecipe = field(default_factory=SignalRecipe)
    losses: Losses = (LossRecipe(),)
    regime: RegimeRecipe = field(default_factory=RegimeRecipe)
    train: TrainTable = field(default_factory=TrainTable)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)

    @property
    def shape(self) -> ShapeRecipe:
        """The student's shape, without its training."""
        return ShapeRecipe(**{entry.name: getattr(self, entry.name) for entry in dataclasses.fields(ShapeRecipe)})


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureRecipe:
    """What is timed on this machine."""

    batches: Batches = (1, 4, 16)
    context: Context = 128
    repeats: Annotated[int, between(1, 1000)] = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRecipe:
    """Chips and conditions to predict costs for. precision: a format, or "published"; price: rented, owned or list."""

    chips: Annotated[tuple[Given, ...], sized(1, 64)] = (
        "h100-sxm",
        "tpu-v5e",
        "tpu-v6e",
        "tpu-v7",
        "b200",
        "mi300x",
        "groq-lpu",
    )
    batches: Batches = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    context: Context = 1024
    precision: Given = "published"
    price: Annotated[str, one_of(PRICES)] = "rented"


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyRecipe:
    """A teacher and its students; the first of `teachers` is the reference for quality and price.

    out_of_domain: a source like `data`; empty for the built-in counterpart. minutes: approximate time limit on the
    machine where the run starts, to which amounts of work are scaled; 0 for no limit. log: names of loggers of the
    students' training. control: whether every student is also trained on the text alone, from the same initial weights.
    """

    name: Name
    teachers: Annotated[tuple[TeacherRecipe, ...], sized(1, 64)]
    students: Annotated[tuple[StudentRecipe, ...], sized(1, 64)]
    data: Given = "cpython-docs"
    out_of_domain: Source = ""
    log: Loggers = ()
    seed: Seed = 0
    minutes: Annotated[float, between(0.0, 1e6)] = 0.0
    control: bool = True
    mean: Annotated[str, one_of(MEANS)] = "arithmetic"
    hard_weight: NotNegative = 0.0
    text: TextRecipe = field(default_factory=TextRecipe)
    records: RecordsRecipe = field(default_factory=RecordsRecipe)
    chat: ChatRecipe = field(default_factory=ChatRecipe)
    search: SearchRecipe = field(default_factory=SearchRecipe)
    signals: SignalRecipe = field(default_factory=SignalRecipe)
    losses: Losses = (LossRecipe(),)
    regime: RegimeRecipe = field(default_factory=RegimeRecipe)
    train: TrainTable = field(default_factory=TrainTable)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)
    measure: MeasureRecipe = field(default_factory=MeasureRecipe)
    cost: CostRecipe = field(default_factory=CostRecipe)

    @property
    def teacher(self) -> str:
        """The model that all students are compared with."""
        return self.teachers[0].model

    def tokens_of(self, student: StudentRecipe) -> int:
        """Training tokens of one student."""
        return student.tokens or student.train.tokens

    def distillation(self, student: StudentRecipe) -> DistillRecipe:
        """The recipe of a student as a single distillation."""
        return DistillRecipe(
            name=student.name, teachers=student.teachers or self.teachers, data=self.data,
            out_of_domain=self.out_of_domain, log=self.log, seed=self.seed, mean=student.mean,
            hard_weight=student.hard_weight,
            student=student.shape, text=self.text, records=self.records, chat=self.chat, search=student.search,
            signals=student.signals, validation=student.validation,
            losses=student.losses, regime=student.regime,
            train=dataclasses.replace(student.train, tokens=self.tokens_of(student)),
        )  # fmt: skip

    def control_of(self, student: StudentRecipe) -> DistillRecipe | None:
        """Same initial weights and steps, trained on the text alone; None if the student itself is trained so."""
        own = self.distillation(student)
        if not self.control or (not own.losses and own.regime.kind == "offline"):
            return None
        return dataclasses.replace(
            own, name=f"{own.name}-control", losses=(), hard_weight=1.0, regime=RegimeRecipe(),
            validation=of_control(own.validation),
        )  # fmt: skip


def problems(recipe: FamilyRecipe) -> Iterator[str]:
    """Errors in combinations of values that are each in range."""
    names = [student.name for student in recipe.students]
    yield from (f"two students have the same name, {name!r}" for name in sorted(set(names)) if names.count(name) > 1)
    taken = {"teacher"} | {f"{name}-{kind}" for name in names for kind in ("control", "untrained")}
    for name in names:
        if name in taken:
            yield f"a student is called {name!r}, as the teacher or another's control or start is; give another name"
    if recipe.teachers[0].served:
        yield (
            "a family's teacher is measured and priced here, and this one is behind a server; name a model on this disk"
            " first, and the server in the `teachers` of a student"
        )
    for place, student in enumerate(recipe.students):
        if student.kind == EAGLE:
            yield f"students[{place}] is a drafting head, which says nothing alone: train it with `flashstill distill`"
        if student.kind == "depth" and not student.keep_layers:
            yield f"students[{place}].keep_layers is 0; it must be at least 1, for a student of kind depth"
    members = [recipe.distillation(student) for student in recipe.students]
    for member in members:
        for problem in distillation.problems(member):  # keys of [student] are keys of [[students]] here
            yield f"student {member.name}: {problem.removeprefix('student.')}"
        if member.sources != members[0].sources:
            yield f"students {members[0].name} and {member.name} have other texts; all of a family share one"
        if member.train.device != members[0].train.device:
            yield f"students {members[0].name} and {member.name} ask for different devices; it is the same for all"
        if member.train.arithmetic != members[0].train.arithmetic:
            yield (
                f"students {members[0].name} and {member.name} ask for different arithmetic; it is the same for all,"
                " in the [train] of the family"
            )
