"""Recipes of the studies whose teacher and students are small Llamas that are all trained here, from random weights.

kd-by-size      students of several sizes, each trained on the teacher's distribution and on the text
kd-by-passes    one student, trained so for several numbers of passes over the same text
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from flashstill.checked import sized
from flashstill.recipes.distillation import DistillRecipe, ShapeRecipe
from flashstill.recipes.language import LABELS, LanguageStudy
from flashstill.recipes.ranges import Count, Layers, Name, Tokens, Width
from flashstill.recipes.training import TrainTable

HEAD = 16
"""dimensions of an attention head, which a width must be a multiple of (arch/adapter/edit.py, small_llama)"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LlamaRecipe:
    """A Llama of `layers` blocks of `hidden` dimensions, with heads of 16 and tied embeddings."""

    name: Name = "student"
    layers: Layers = 2
    hidden: Width = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnTeacherRecipe(LlamaRecipe):
    """The teacher: it learns from `text_tokens` tokens of text, of which the students' windows are a sample. (The
    beginning of a text would be few documents: of one seed, nothing but the pages of `help()`.)"""

    name: Name = "teacher"
    layers: Layers = 3
    hidden: Width = 96
    text_tokens: Tokens = 512_000
    train: TrainTable = field(default_factory=TrainTable)


@dataclass(frozen=True, kw_only=True, slots=True)
class FromScratch(LanguageStudy):
    """vocabulary: size of the tokenizer that is learnt from the text. `train.tokens` is unused: a student passes over
    its whole text, once or several times."""

    vocabulary: Width = 512
    teacher: OwnTeacherRecipe = field(default_factory=OwnTeacherRecipe)

    def shapes(self) -> tuple[LlamaRecipe, ...]:
        """The students."""
        raise NotImplementedError

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from LanguageStudy.problems(self)
        for shape in (self.teacher, *self.shapes()):
            if shape.hidden % HEAD:
                yield f"{shape.name} has a width of {shape.hidden}, which heads of {HEAD} do not fill"
        names = [shape.name for shape in self.shapes()]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two students have the name {name}"
        if self.teacher.text_tokens < self.text.train_tokens:
            yield (
                f"the teacher learns from {self.teacher.text_tokens:,} tokens of text, which must be at least the"
                f" {self.text.train_tokens:,} of its students"
            )

    def teacher_arm(self, seed: int, untrained: str) -> DistillRecipe:
        """The teacher, trained on text alone; `untrained` is its directory before training."""
        train = dataclasses.replace(self.teacher.train, arithmetic=self.arithmetic)
        arm = self.arm("teacher", seed, untrained, ShapeRecipe(kind="copy"), **{**LABELS, "train": train})
        return dataclasses.replace(arm, text=dataclasses.replace(self.text, train_tokens=self.teacher.text_tokens))

    def pair(self, name: str, seed: int, teacher: str, config: str, tokens: int) -> Iterator[tuple[str, DistillRecipe]]:
        """`NAME-distilled` and `NAME-labels`: one student on the teacher's distribution, and on the text."""
        train = dataclasses.replace(self.train, tokens=tokens)
        student = ShapeRecipe(kind="scratch", config=config)
        for kind, changes in (("distilled", {}), ("labels", LABELS)):
            yield f"{name}-{kind}", self.arm(f"{name}-{kind}", seed, teacher, student, **changes, train=train)


@dataclass(frozen=True, kw_only=True, slots=True)
class KdBySize(FromScratch):
    """students: from the smallest to the largest; each passes once over the text."""

    students: Annotated[tuple[LlamaRecipe, ...], sized(2, 8)]

    def shapes(self) -> tuple[LlamaRecipe, ...]:
        """The students."""
        return self.students

    def arms(self, seed: int, teacher: str = "teacher", shapes: str = "shapes") -> dict[str, DistillRecipe]:
        """Two of each size. shapes: directory of the config.json of each student, NAME.json."""
        return {
            name: arm
            for student in self.students
            for name, arm in self.pair(
                student.name, seed, teacher, f"{shapes}/{student.name}.json", self.text.train_tokens
            )
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class KdByPasses(FromScratch):
    """passes: numbers of passes over the text, rising; each is a training of its own."""

    student: LlamaRecipe = field(default_factory=LlamaRecipe)
    passes: Annotated[tuple[Count, ...], sized(2, 8)] = (1, 4, 16)

    def shapes(self) -> tuple[LlamaRecipe, ...]:
        """The student."""
        return (self.student,)

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from FromScratch.problems(self)
        if list(self.passes) != sorted(set(self.passes)):
            yield f"passes are {list(self.passes)}; they must rise"

    def arms(self, seed: int, teacher: str = "teacher", shapes: str = "shapes") -> dict[str, DistillRecipe]:
        """Two of each number of passes. shapes: directory of the student's config.json, NAME.json."""
        config = f"{shapes}/{self.student.name}.json"
        return {
            name: arm
            for passes in self.passes
            for name, arm in self.pair(str(passes), seed, teacher, config, passes * self.text.train_tokens)
        }
