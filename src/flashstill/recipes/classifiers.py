"""The recipe of a study of classifiers, after Hinton, Vinyals, Dean 2015: shapes and training of its nets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from flashstill.checked import between, sized
from flashstill.recipes.ranges import (
    Dropout,
    Given,
    InnerShare,
    Positive,
    Rate,
    Rows,
    RowsOrNone,
    Share,
    Temperature,
    Width,
)
from flashstill.recipes.reader import located
from flashstill.recipes.study import StudyRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantsTable:
    """copies: of each example, of which `bare` are unchanged; the others are warped by `warp` (1: rotated by up to 4
    degrees, shifted by up to half a pixel), and mixed with another example by at most `mix`."""

    copies: Rows = 1
    bare: RowsOrNone = 1
    warp: Annotated[float, between(0, 10)] = 0.0
    mix: Share = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """Widths of the hidden layers, and training. epochs: in units of the number of original examples, however many
    variants there are. jitter: whole pixels by which an image is moved at most, anew every time it is seen."""

    hidden: Annotated[tuple[Width, ...], sized(1, 64)]
    epochs: Positive
    batch: Rows = 256
    learning_rate: Rate = 1e-3
    dropout: Dropout = 0.0
    jitter: Annotated[int, between(0, 64)] = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTable(NetTable):
    """`count` students of one shape, each with its own order of examples; their mean accuracy is reported."""

    temperature: Temperature
    count: Annotated[int, between(1, 1000)] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleTable(NetTable):
    """Ensemble members of one shape; size: their number."""

    size: Annotated[int, between(2, 1000)] = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ScarceTable(StudentTable):
    """Students that get only a share of the training set. variants: of these examples; epochs: passes over all
    variants; label_epochs: passes over the unchanged examples, for training on labels."""

    share: InnerShare = 0.03
    variants: VariantsTable = VariantsTable(copies=100, bare=0, mix=1.0)
    label_epochs: Positive = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialistTable:
    """Specialists start from the teacher's weights. clusters: number of groups of classes, found by clustering its
    predictions at this temperature."""

    clusters: Annotated[int, between(2, 1000)] = 3
    temperature: Temperature = 10.0
    epochs: Positive = 1.0
    batch: Rows = 256
    learning_rate: Rate = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierStudy(StudyRecipe):
    """data: a named set, a directory of IDX files, or a CSV file. unseen_class: the one that is the headline figure.

    teacher, large, unseen, specialists: the paper's nets and others distilled from its teacher, on unchanged examples.
    variants: augmented examples with labels, to train the ensemble `members` and `small_labels`, a clearly smaller net.
    transfer: variants with the members' soft targets; `small` and `one` (of the members' shape) are trained on them.
    scarce: small nets with few examples, trained on labels and on the members' soft targets for variants of these.
    """

    data: Given = "fashion-mnist"
    unseen_class: RowsOrNone = 3
    variants: VariantsTable = VariantsTable()
    transfer: VariantsTable = VariantsTable()
    teacher: NetTable
    large: StudentTable
    small_labels: NetTable
    small: StudentTable
    members: EnsembleTable
    one: StudentTable
    unseen: StudentTable
    scarce: ScarceTable
    specialists: SpecialistTable

    def problems(self) -> Iterator[str]:
        """Errors in combinations of values that are each in range."""
        tables = {"variants": self.variants, "transfer": self.transfer, "scarce.variants": self.scarce.variants}
        for key, table in tables.items():
            if table.bare > table.copies:
                yield f"{key}.bare is {table.bare}; of {table.copies} copies no more can be left as they are"
        for name, other in (("one", "members"), ("small", "small_labels"), ("scarce", "small_labels")):
            hidden, wanted = list(getattr(self, name).hidden), list(getattr(self, other).hidden)
            if hidden != wanted:
                yield f"{name}.hidden is {hidden}; it must be that of {other}, {wanted}"

    def located(self, where: Path) -> ClassifierStudy:
        """The recipe with `data` relative to the recipe file's directory, if it exists there."""
        return dataclasses.replace(self, data=located(self.data, where.parent, where, "data"))
