"""A study of classifiers, after Hinton, Vinyals, Dean 2015: what each of its nets is, and how it learns."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flashstill.errors import BadInput
from flashstill.recipes.study import StudyRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class NetTable:
    """Widths of the hidden layers, and training. jitter: pixels that images are moved by, at most."""

    hidden: tuple[int, ...]
    epochs: float
    batch: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.0
    jitter: int = 0

    def __post_init__(self) -> None:
        least_one = {"hidden": min(self.hidden), "batch": self.batch}
        not_negative = {"jitter": self.jitter, "dropout": self.dropout}
        for key, value in least_one.items():
            _demand(value >= 1, f"{key} is {value}; it must be at least 1")
        for key, number in not_negative.items():
            _demand(number >= 0, f"{key} is {number:g}; it must not be negative")
        _demand(self.epochs > 0, f"epochs is {self.epochs:g}; it must be positive")
        _demand(0 < self.learning_rate < 1, f"learning_rate is {self.learning_rate:g}; it must lie between 0 and 1")
        _demand(self.dropout < 1, f"dropout is {self.dropout:g}; it must be below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentTable(NetTable):
    """Students of one shape and kind, side by side, each with a first weight and an order of its own.

    count: of which the accuracy is the mean.
    """

    temperature: float
    count: int = 1

    def __post_init__(self) -> None:
        NetTable.__post_init__(self)
        _demand(self.temperature > 0, f"temperature is {self.temperature:g}; it must be positive")
        _demand(self.count >= 1, f"count is {self.count}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleTable(NetTable):
    """Members of one shape; size: how many."""

    size: int = 10

    def __post_init__(self) -> None:
        NetTable.__post_init__(self)
        _demand(self.size >= 2, f"size is {self.size}; an ensemble has at least 2 members")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialistTable:
    """Specialists start from the teacher. clusters: groups of classes that are looked for, in its predictions at this
    temperature."""

    clusters: int = 3
    temperature: float = 10.0
    epochs: float = 1.0
    batch: int = 256
    learning_rate: float = 1e-4

    def __post_init__(self) -> None:
        _demand(self.temperature > 0, f"temperature is {self.temperature:g}; it must be positive")
        _demand(self.clusters >= 2 and self.batch >= 1, "clusters must be at least 2 and batch at least 1")
        _demand(self.epochs > 0 and 0 < self.learning_rate < 1, "epochs and learning_rate must be positive, below 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScarceTable(StudentTable):
    """Students that have a share of the training set. copies: of each example in the transfer set, moved by at most
    `reach` pixels and mixed with another by at most `mix`; label_epochs: over the bare examples, for labels."""

    share: float = 0.03
    copies: int = 100
    reach: int = 1
    mix: float = 1.0
    label_epochs: float = 40.0

    def __post_init__(self) -> None:
        StudentTable.__post_init__(self)
        _demand(0 < self.share < 1, f"share is {self.share:g}; it must lie between 0 and 1")
        _demand(self.copies >= 1, f"copies is {self.copies}; it must be at least 1")
        _demand(self.reach >= 0, f"reach is {self.reach}; it must not be negative")
        _demand(0 <= self.mix <= 1, f"mix is {self.mix:g}; it must lie between 0 and 1")
        _demand(self.label_epochs > 0, f"label_epochs is {self.label_epochs:g}; it must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifierStudy(StudyRecipe):
    """data: a named set, a directory of IDX files, or a CSV file. unseen_class: the one that is told of first.

    teacher, large: the paper's two nets. small_labels: a clearly smaller net, on labels; small goes on from there with
    soft targets. members: of an ensemble; one goes on from a member with what all of them say.
    """

    data: str = "fashion-mnist"
    unseen_class: int = 3
    teacher: NetTable
    large: StudentTable
    small_labels: NetTable
    small: StudentTable
    members: EnsembleTable
    one: StudentTable
    unseen: StudentTable
    scarce: ScarceTable
    specialists: SpecialistTable

    def __post_init__(self) -> None:
        _demand(self.unseen_class >= 0, f"unseen_class is {self.unseen_class}; classes are counted from 0")
        jitter = self.scarce.jitter
        _demand(not jitter, f"scarce.jitter is {jitter}; its images are moved by reach, once and for all")
        for name, other in (("one", "members"), ("small", "small_labels"), ("scarce", "small_labels")):
            hidden, wanted = list(getattr(self, name).hidden), list(getattr(self, other).hidden)
            _demand(hidden == wanted, f"{name}.hidden is {hidden}; it must be that of {other}, {wanted}")
        most = self.members.size
        _demand(self.one.count <= most, f"one.count is {self.one.count}; each starts from one of the {most} members")

    @property
    def margin(self) -> int:
        """Pixels that any net's images are moved by, at most."""
        tables = (getattr(self, each.name) for each in fields(self))
        return max(self.scarce.reach, *(table.jitter for table in tables if isinstance(table, NetTable)))


def _demand(good: bool, sentence: str) -> None:
    if not good:
        raise BadInput(sentence)
