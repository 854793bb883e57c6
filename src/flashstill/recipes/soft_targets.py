"""The recipe of the study of one teacher's soft targets, as the first experiment of Hinton, Vinyals, Dean 2015."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from flashstill.recipes.classifiers import NetTable, StudentTable
from flashstill.recipes.ranges import Given, NotNegative
from flashstill.recipes.reader import located
from flashstill.recipes.study import StudyRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class PupilTable(StudentTable):
    """hard_weight: weight of the labels' cross-entropy beside the soft targets (Hinton et al. 2015, section 2)."""

    hard_weight: NotNegative = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SoftTargets(StudyRecipe):
    """A large net, and a smaller one that is trained twice for as many steps: on labels, and on the large one's soft
    targets for the same examples.  data: as of ClassifierStudy."""

    data: Given = "drawn-digits"
    teacher: NetTable
    student: PupilTable

    def located(self, where: Path) -> SoftTargets:
        """The recipe with `data` relative to the recipe file's directory, if it exists there."""
        return dataclasses.replace(self, data=located(self.data, where.parent, where, "data"))
