"""A study of classifiers, after Hinton, Vinyals, Dean 2015: what each of its nets is, and how it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flashstill.recipes.study import StudyRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantsTable:
    """copies: of each example, `bare` of them as they are; the others warped by `warp` (1: turned by up to 4 degrees,
    moved by half a pixel), and mixed with another by at most `mix`."""

    copies: int = 1
    bare: int = 1
    warp: float = 0.0
    mix: float = 0.0

    def problems(self) -> Iterator[str]:
        """What is wrong with it, each beginning with the key."""
        yield from _least("copies", self.copies, 1)
        yield from _least("bare", self.bare, 0)
        if self.bare > self.copies:
            yield f"bare is {self.bare}; of {self.copies} copies no more can be left as they are"
        if not 0 <= self.warp <= 10:
            yield f"warp is {self.warp:g}; it must lie between 0 and 10"
        if not 0 <= self.mix <= 1:
            yield f"mix is {self.mix:g}; it must lie between 0 and 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """Widths of the hidden layers, and training. epochs: passes over as many examples as there are bare ones, whatever
    the number of their variants."""

    hidden: tuple[int, ...]
    epochs: float
    batch: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.0

    def problems(self) -> Iterator[str]:
        """What is wrong with it, each beginning with the key."""
        yield from _least("hidden", min(self.hidden), 1)
        yield from _least("batch", self.batch, 1)
        yield from _positive("epochs", self.epochs)
        yield from _between("learning_rate", self.learning_rate, 0, 1)
        if not 0 <= self.dropout < 1:
            yield f"dropout is {self.dropout:g}; it must be at least 0 and below 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTable(NetTable):
    """Students of one shape, side by side, each with an order of its own; count: of which the accuracy is the mean."""

    temperature: float
    count: int = 1

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from NetTable.problems(self)
        yield from _positive("temperature", self.temperature)
        yield from _least("count", self.count, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleTable(NetTable):
    """Members of one shape; size: how many."""

    size: int = 10

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from NetTable.problems(self)
        yield from _least("size", self.size, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScarceTable(StudentTable):
    """Students that have a share of the training set. variants: of these examples; epochs: passes over all of them;
    label_epochs: over the bare examples, for labels."""

    share: float = 0.03
    variants: VariantsTable = VariantsTable(copies=100, bare=0, mix=1.0)
    label_epochs: float = 40.0

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from StudentTable.problems(self)
        yield from (f"variants.{problem}" for problem in self.variants.problems())
        yield from _between("share", self.share, 0, 1)
        yield from _positive("label_epochs", self.label_epochs)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialistTable:
    """Specialists go on from the teacher. clusters: groups of classes that are looked for, in its predictions at this
    temperature."""

    clusters: int = 3
    temperature: float = 10.0
    epochs: float = 1.0
    batch: int = 256
    learning_rate: float = 1e-4

    def problems(self) -> Iterator[str]:
        """What is wrong with it."""
        yield from _least("clusters", self.clusters, 2)
        yield from _positive("temperature", self.temperature)
        yield from _positive("epochs", self.epochs)
        yield from _least("batch", self.batch, 1)
        yield from _between("learning_rate", self.learning_rate, 0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierStudy(StudyRecipe):
    """data: a named set, a directory of IDX files, or a CSV file. unseen_class: the one that is told of first.

    teacher, large, unseen, specialists: the paper's two nets and others from its teacher, on the examples as they are.
    variants: of every example, for the labels of members, an ensemble, and small_labels, a clearly smaller net.
    transfer: variants that the members are asked about; small and one, of their own shape, learn what they say.
    scarce: small nets that have few examples, on labels and on what the members say of variants of these.
    """

    data: str = "fashion-mnist"
    unseen_class: int = 3
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
        """What is wrong with it."""
        for each in dataclasses.fields(self):
            table = getattr(self, each.name)
            if isinstance(table, (NetTable, SpecialistTable, VariantsTable)):
                yield from (f"{each.name}.{problem}" for problem in table.problems())
        yield from _least("unseen_class", self.unseen_class, 0)
        for name, other in (("one", "members"), ("small", "small_labels"), ("scarce", "small_labels")):
            hidden, wanted = list(getattr(self, name).hidden), list(getattr(self, other).hidden)
            if hidden != wanted:
                yield f"{name}.hidden is {hidden}; it must be that of {other}, {wanted}"

    def located(self, base: Path) -> ClassifierStudy:
        """The same with `data` taken from `base`, the directory of its file, where it is found there."""
        beside = base / self.data
        return dataclasses.replace(self, data=str(beside.resolve())) if beside.exists() else self


def _least(key: str, value: int, least: int) -> Iterator[str]:
    if value < least:
        yield f"{key} is {value}; it must be at least {least}"


def _positive(key: str, value: float) -> Iterator[str]:
    if value <= 0:
        yield f"{key} is {value:g}; it must be positive"


def _between(key: str, value: float, low: float, high: float) -> Iterator[str]:
    if not low < value < high:
        yield f"{key} is {value:g}; it must lie between {low:g} and {high:g}"
