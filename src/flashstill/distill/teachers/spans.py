"""A teacher with another tokenizer as the source of a batch: its outputs on its own tokens, and the spans of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.teacher_windows import TeacherWindows
from flashstill.distill.data.token_bytes import CommonIds, common_ids
from flashstill.distill.losses import DenseTeacher, SpanTeacher
from flashstill.distill.teachers.sources import dense
from flashstill.distill.training.batches import Batch, take
from flashstill.distill.training.objectives import TeacherSource
from flashstill.errors import BadInput


class Spanned:
    """`source` on the teacher's rows of a packed text, aligned with the student's windows of it."""

    def __init__(self, source: TeacherSource, windows: TeacherWindows, common: CommonIds) -> None:
        self._source, self._windows, self._common = source, windows, common

    def __call__(self, batch: Batch) -> SpanTeacher:
        if batch.windows is None:
            raise BadInput("text generated during training is not aligned; use the offline regime with align = spans")
        device = batch.tokens.device
        rows = take(self._windows.packed, batch.windows).to(device)
        teacher = dense(self._source(rows))
        own, known = self._windows.student_span[batch.windows], self._windows.teacher_span[batch.windows]
        counts = batch.mask.cpu().numpy() != 0
        span, known_span = numbered(own, known, counts)
        return SpanTeacher(
            teacher=teacher, targets=batch.targets, known_targets=rows.targets, span=_flat(span, device),
            known_span=_flat(known_span, device), **below(self._common, teacher, device),
        )  # fmt: skip


def numbered(own: np.ndarray, known: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spans of windows [B, L] and [B, M] with numbers of a batch; -1 where a token of the span does not count."""
    most = 1 + max(int(own.max(initial=-1)), int(known.max(initial=-1)), 0)
    offsets = np.arange(len(own), dtype=np.int64)[:, None] * most
    left_out = np.unique((own + offsets)[(own >= 0) & ~counts])
    sides = []
    for each in (own, known):
        numbers = np.where(each >= 0, each + offsets, -1)
        sides.append(np.where(np.isin(numbers, left_out), -1, numbers))
    return sides[0], sides[1]


def below(common: CommonIds, teacher: DenseTeacher, device: torch.device) -> dict[str, Tensor]:
    """The common ids as tensors, without those beyond the teacher's head."""
    rows = min(head.shape[0] for head in teacher.heads)
    kept = common.teacher < rows
    return {
        "common": torch.from_numpy(common.student[kept]).to(device),
        "known_common": torch.from_numpy(common.teacher[kept]).to(device),
    }


def spanned(source: TeacherSource, windows: TeacherWindows, student: Any, teacher: Any) -> Spanned:
    """`source` aligned with a student's windows; student, teacher: the tokenizers."""
    return Spanned(source, windows, common_ids(student, teacher))


def _flat(numbers: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(numbers.astype(np.int64)).flatten().to(device)
