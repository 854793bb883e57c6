"""Whose fault a loss is that is not finite: tells whether a teacher's outputs are finite, and where they are not."""

from __future__ import annotations

import torch
from torch import Tensor

from flashstill.distill.losses.logits import as_head
from flashstill.distill.losses.span_terms import SpanTeacher
from flashstill.distill.losses.sparse import Sparse
from flashstill.distill.losses.teacher import DenseTeacher, RoutedTeacher


def first_unsound(values: Tensor) -> int | None:
    """Index of the first row of `values` [N, ...] with a NaN or an infinity; None if all are finite."""
    if bool(torch.isfinite(values).all()):
        return None
    return int((~torch.isfinite(values.flatten(1))).any(-1).nonzero()[0])


def unsound_token(teacher: DenseTeacher | RoutedTeacher | Sparse | SpanTeacher) -> int | None:
    """The first token at which a teacher's outputs are not finite, 0 if its head is not; None if all are finite."""
    if isinstance(teacher, Sparse):
        return first_unsound(teacher.weights)
    if isinstance(teacher, SpanTeacher):
        row = unsound_token(teacher.teacher)
        if row is None:
            return None
        inside = (teacher.span == teacher.known_span[row]).nonzero()  # of the student, in the span of that token
        return int(inside[0]) if len(inside) else 0
    if isinstance(teacher, RoutedTeacher):
        found = [unsound_token(member) for member in teacher.members]
        for member, place in enumerate(found):
            if place is not None:
                return int(((teacher.which == member) & (teacher.place >= place)).nonzero()[0])
        return None
    rows = [place for hidden in teacher.hidden if (place := first_unsound(hidden)) is not None]
    if any(first_unsound(as_head(head).weight) is not None for head in teacher.heads):
        rows.append(0)
    return min(rows, default=None)
