"""A study of classifiers, after Hinton, Vinyals, Dean 2015: what each of its nets is, and how it learns."""

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
    """copies: of each example, `bare` of them as they are; the others warped by `warp` (1: turned by up to 4 degrees,
    moved by half a pixel), and mixed with another by at most `mix`."""

    copies: Rows = 1
    bare: RowsOrNone = 1
    warp: Annotated[float, between(0, 10)] = 0.0
    mix: Share = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """Widths of the hidden layers, and training. epochs: passes over as many examples as there are bare ones, whatever
    the number of their variants."""

    hidden: Annotated[tuple[Width, ...], sized(1, 64)]
    epochs: Positive
    batch: Rows = 256
    learning_rate: Rate = 1e-3
    dropout: Dropout = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTable(NetTable):
    """Students of one shape, side by side, each with an order of its own; count: of which the accuracy is the mean."""

    temperature: Temperature
    count: Annotated[int, between(1, 1000)] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleTable(NetTable):
    """Members of one shape; size: how many."""

    size: Annotated[int, between(2, 1000)] = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ScarceTable(StudentTable):
    """Students that have a share of the training set. variants: of these examples; epochs: passes over all of them;
    label_epochs: over the bare examples, for labels."""

    share: InnerShare = 0.03
    variants: VariantsTable = VariantsTable(copies=100, bare=0, mix=1.0)
    label_epochs: Positive = 40.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialistTable:
    """Specialists go on from the teacher. clusters: groups of classes that are looked for, in its predictions at this
    temperature."""

    clusters: Annotated[int, between(2, 1000)] = 3
    temperature: Temperature = 10.0
    epochs: Positive = 1.0
    batch: Rows = 256
    learning_rate: Rate = 1e-4


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierStudy(StudyRecipe):
    """data: a named set, a directory of IDX files, or a CSV file. unseen_class: the one that is told of first.

    teacher, large, unseen, specialists: the paper's two nets and others from its teacher, on the examples as they are.
    variants: of every example, for the labels of members, an ensemble, and small_labels, a clearly smaller net.
    transfer: variants that the members are asked about; small and one, of their own shape, learn what they say.
    scarce: small nets that have few examples, on labels and on what the members say of variants of these.
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
        """What cannot be of values that are in their ranges each."""
        tables = {"variants": self.variants, "transfer": self.transfer, "scarce.variants": self.scarce.variants}
        for key, table in tables.items():
            if table.bare > table.copies:
                yield f"{key}.bare is {table.bare}; of {table.copies} copies no more can be left as they are"
        for name, other in (("one", "members"), ("small", "small_labels"), ("scarce", "small_labels")):
            hidden, wanted = list(getattr(self, name).hidden), list(getattr(self, other).hidden)
            if hidden != wanted:
                yield f"{name}.hidden is {hidden}; it must be that of {other}, {wanted}"

    def located(self, where: Path) -> ClassifierStudy:
        """The same with `data` taken from the directory of its file, where it is found there."""
        return dataclasses.replace(self, data=located(self.data, where.parent, where, "data"))
