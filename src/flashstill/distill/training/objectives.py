"""What a student learns: a mix of divergences to a teacher, and the text itself.

A teacher source says of a batch what the teacher says of it (losses/teacher.py, losses/sparse.py): from signals on the
disk, or by running a model (`distill/teachers`).  An objective turns a batch into the terms of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flashstill.distill.losses import DenseTeacher, Divergence, RoutedTeacher, Sparse, Term, forward_kl, one_hot
from flashstill.distill.training.batches import Batch

TeacherSource = Callable[[Batch], "DenseTeacher | RoutedTeacher | Sparse"]
Objective = Callable[[Batch], Sequence[Term]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Soft:
    """One divergence to the teacher."""

    divergence: Divergence = forward_kl
    temperature: float = 1.0
    weight: float = 1.0


def distillation(teacher: TeacherSource, soft: Sequence[Soft] = (Soft(),), hard_weight: float = 0.0) -> Objective:
    """Divergences to `teacher` and `hard_weight` times the cross-entropy to the text."""

    def objective(batch: Batch) -> Sequence[Term]:
        teacher_output = teacher(batch)
        terms = [
            Term(teacher=teacher_output, divergence=each.divergence, temperature=each.temperature, weight=each.weight)
            for each in soft
        ]
        return [*terms, Term(teacher=one_hot(batch.targets), weight=hard_weight)] if hard_weight else terms

    return objective


def hard(batch: Batch) -> Sequence[Term]:
    """Cross-entropy on the text itself: what a control learns from."""
    return [Term(teacher=one_hot(batch.targets))]
