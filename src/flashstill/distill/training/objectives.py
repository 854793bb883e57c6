"""Training objectives: a weighted sum of divergences to a teacher and the cross-entropy to the text.

A teacher source returns the teacher's outputs on a batch (losses/teacher.py, losses/sparse.py): from stored signals,
or by running a model (`distill/teachers`).  An objective maps a batch to the terms of the loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flashstill.distill.losses import (
    DenseTeacher,
    Divergence,
    RoutedTeacher,
    SpanTeacher,
    Sparse,
    Term,
    forward_kl,
    one_hot,
)
from flashstill.distill.training.batches import Batch

TeacherSource = Callable[[Batch], "DenseTeacher | RoutedTeacher | Sparse | SpanTeacher"]
Objective = Callable[[Batch], Sequence[Term]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Soft:
    """One divergence to the teacher, with its weight."""

    divergence: Divergence = forward_kl
    temperature: float = 1.0
    weight: float = 1.0


def distillation(teacher: TeacherSource, soft: Sequence[Soft] = (Soft(),), hard_weight: float = 0.0) -> Objective:
    """Divergences to `teacher` and `hard_weight` times the cross-entropy to the text.

    What the student wrote has divergences alone: its own text as a label would teach it what it does already.
    """

    def objective(batch: Batch) -> Sequence[Term]:
        teacher_output = teacher(batch)
        terms = [
            Term(teacher=teacher_output, divergence=each.divergence, temperature=each.temperature, weight=each.weight)
            for each in soft
        ]
        return (
            [*terms, Term(teacher=one_hot(batch.targets, batch.of_text), weight=hard_weight)] if hard_weight else terms
        )

    return objective


def hard(batch: Batch) -> Sequence[Term]:
    """Cross-entropy to the text: the objective of a control."""
    return [Term(teacher=one_hot(batch.targets))]
