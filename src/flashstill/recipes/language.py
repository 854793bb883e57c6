"""Recipes of the studies of language models: each has several arms, distillations of one teacher.

kd-against-labels   one student, the same start, windows and steps: learns the teacher's distribution or the text
moe-to-dense        an MoE teacher, and dense models with equal FLOPs per token: distilled from it or not
rounding            quantisation-aware training: learns the unquantised model's distribution or the text
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from flashstill.checked import one_of, sized
from flashstill.recipes.distillation import QUANTISED, DistillRecipe, LossRecipe, ShapeRecipe, problems
from flashstill.recipes.ranges import Given, InnerShare, Layers, Rate, RowsOrNone, Source, Width
from flashstill.recipes.reader import located
from flashstill.recipes.study import StudyRecipe
from flashstill.recipes.tables import SearchRecipe, TextRecipe
from flashstill.recipes.teachers import TeacherRecipe
from flashstill.recipes.training import TrainTable

LABELS: Mapping[str, Any] = {"losses": (), "hard_weight": 1.0}
"""changes for an arm that learns from the text alone"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageStudy(StudyRecipe):
    """Text and training, the same for all arms. out_of_domain: empty for the built-in corpus that is not `data`."""

    data: Given = "cpython-docs"
    out_of_domain: Source = ""
    text: TextRecipe = field(default_factory=TextRecipe)
    train: TrainTable = field(default_factory=TrainTable)

    def arm(self, name: str, seed: int, teacher: str, student: ShapeRecipe, **changes: Any) -> DistillRecipe:
        """The recipe of one arm: forward KL to the teacher, unless `changes` overrides the loss or other tables."""
        tables = {"train": self.train, **changes}
        if tables["train"].arithmetic == "auto":
            tables["train"] = dataclasses.replace(tables["train"], arithmetic=self.arithmetic)
        return DistillRecipe(
            name=name, teachers=(TeacherRecipe(model=teacher),), data=self.data, out_of_domain=self.out_of_domain,
            seed=seed, student=student, text=self.text, **tables,
        )  # fmt: skip

    def arms(self, seed: int) -> dict[str, DistillRecipe]:
        """The distillations of one seed, by name."""
        raise NotImplementedError

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        if self.text.validation_tokens:
            yield "text.validation_tokens is for single students and families: the arms of a study take the same steps"
        for arm in self.arms(0).values():
            yield from problems(arm)

    def models(self) -> Mapping[str, str]:
        """The teacher, unless it is trained here."""
        teacher = getattr(self, "teacher", None)
        return {"teacher": teacher} if isinstance(teacher, str) else {}

    def located(self, where: Path) -> StudyRecipe:
        """Paths that exist beside the file become absolute, so that the study can be resumed from anywhere."""
        paths = {key: getattr(self, key, "") for key in ("teacher", "data", "out_of_domain")}
        absolute: dict[str, Any] = {
            key: located(value, where.parent, where, key)
            for key, value in paths.items()
            if value and isinstance(value, str)  # `teacher` may be a table: a model that is trained here
        }
        return dataclasses.replace(self, **absolute)


@dataclass(frozen=True, kw_only=True, slots=True)
class KdAgainstLabels(LanguageStudy):
    """The teacher with `keep_layers` of its blocks, trained with and without the teacher."""

    teacher: Given = "smollm2-135m-instruct"
    keep_layers: Layers = 20
    search: SearchRecipe = field(default_factory=SearchRecipe)

    def arms(self, seed: int) -> dict[str, DistillRecipe]:
        """`distilled` and `labels`."""
        student = ShapeRecipe(kind="depth", keep_layers=self.keep_layers)
        return {
            name: self.arm(name, seed, self.teacher, student, search=self.search, **changes)
            for name, changes in (("distilled", {}), ("labels", LABELS))
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FormatRecipe:
    """A weight format with one scale per group, and the quantisation-aware training for it (keys of a student)."""

    name: Annotated[str, one_of(QUANTISED[1:])]
    group: Width = 64
    compensate_windows: RowsOrNone = 0
    train: TrainTable = field(default_factory=TrainTable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounding(LanguageStudy):
    """The teacher in every format, trained with and without the teacher. `train` is unused: each format has its own."""

    formats: Annotated[tuple[FormatRecipe, ...], sized(1, 8)]
    teacher: Given = "smollm2-135m-instruct"

    def arms(self, seed: int) -> dict[str, DistillRecipe]:
        """`FORMAT-distilled` and `FORMAT-labels`."""
        distillations = {}
        for format_recipe in self.formats:
            student = ShapeRecipe(
                kind="copy",
                quantise=format_recipe.name,
                group=format_recipe.group,
                compensate_windows=format_recipe.compensate_windows,
            )
            for kind, changes in (("distilled", {}), ("labels", LABELS)):
                name = f"{format_recipe.name}-{kind}"
                distillations[name] = self.arm(name, seed, self.teacher, student, train=format_recipe.train, **changes)
        return distillations


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRecipe:
    """A glm4_moe teacher: `hidden` dimensions, its heads, and experts of `expert_neurons` each; the shared experts and
    `experts_per_token` others are active per token."""

    layers: Layers = 3
    hidden: Width = 128
    heads: Width = 4
    experts: Width = 16
    experts_per_token: Width = 2
    shared_experts: Width = 1
    expert_neurons: Width = 64
    balance_rate: Rate = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class MoeToDense(LanguageStudy):
    """vocabulary: size of the tokenizer that is trained on the text; hard_weight: weight of the cross-entropy to the
    text in students that learn from both; the divergence has weight 1 - hard_weight."""

    vocabulary: Width = 2048
    hard_weight: InnerShare = 0.5
    sparse: SparseRecipe = field(default_factory=SparseRecipe)

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from LanguageStudy.problems(self)
        shape = self.sparse
        if shape.hidden % (2 * shape.heads):
            yield f"sparse.hidden is {shape.hidden}, which {shape.heads} heads of an even size do not fill"
        if shape.experts_per_token > shape.experts:
            yield f"a token gets {shape.experts_per_token} of the {shape.experts} experts; give it fewer"

    def teacher_arm(self, seed: int, untrained: str) -> DistillRecipe:
        """The MoE model itself, trained on the text alone; `untrained` is its directory before training."""
        student = ShapeRecipe(kind="copy", balance_rate=self.sparse.balance_rate)
        return self.arm("sparse", seed, untrained, student, **LABELS)

    def arms(self, seed: int, teacher: str = "sparse", dense: str = "dense.json") -> dict[str, DistillRecipe]:
        """The dense models: `baseline` starts random and learns from the text; `student` starts from the teacher's
        weights and learns its distribution; two arms have only one of the two; `baseline-twice` takes as many steps as
        teacher and student together.  dense: the config.json of one that starts random."""
        new, kept = ShapeRecipe(kind="scratch", config=dense), ShapeRecipe(kind="dense")
        both = {"losses": (LossRecipe(weight=1.0 - self.hard_weight),), "hard_weight": self.hard_weight}
        twice = {**LABELS, "train": dataclasses.replace(self.train, tokens=2 * self.train.tokens)}
        wanted = {
            "baseline": (new, LABELS), "student": (kept, both),
            "weights-only": (kept, LABELS), "distribution-only": (new, both), "baseline-twice": (new, twice),
        }  # fmt: skip
        return {name: self.arm(name, seed, teacher, student, **changes) for name, (student, changes) in wanted.items()}
