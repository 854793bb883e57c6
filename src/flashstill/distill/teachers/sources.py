"""Teacher sources, which give the teacher's output for a batch (training/objectives.py): one model, an ensemble, or one
model per text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.views import View
from flashstill.distill.losses import DenseTeacher, RoutedTeacher, SpanTeacher, Sparse
from flashstill.distill.models import STORED, Model, parts
from flashstill.distill.models.documents import states_of
from flashstill.distill.signals import finite
from flashstill.distill.signals.making import aligned
from flashstill.distill.training.batches import Batch
from flashstill.distill.training.objectives import TeacherSource
from flashstill.errors import BadInput


class Online:
    """A teacher that runs during training, in eval mode, and so also covers text generated during training.

    as_kept: round hidden states to bfloat16, whatever the model's dtype, to match exact signals on disk.  name: of the
    teacher, and documents [W, L]: of the packed text's targets, for messages; view: what it reads, if not the batch.
    Raises BadInput, when it is made or called, if weights of the head or outputs are not finite.
    """

    def __init__(
        self,
        model: Model,
        as_kept: bool = False,
        name: str = "",
        documents: np.ndarray | None = None,
        view: View | None = None,
    ) -> None:
        self._view = view
        self._as_kept, self._name, self._documents = as_kept, name or type(model).__name__, documents
        self._parts = parts(model.eval())
        self._head = self._parts.head.detach()
        finite.check_head(self._head.weight, self._name)

    def __call__(self, batch: Batch) -> DenseTeacher:
        device = batch.tokens.device
        if self._head.device != device:  # of a teacher that is spread over several devices: one copy, kept
            self._head = self._head.to(device)
        with torch.no_grad():
            hidden = self._states(batch).to(device)
        finite.check_teacher(hidden, self._name, batch.windows, self._documents)
        hidden = hidden.to(STORED) if self._as_kept else hidden
        return DenseTeacher(hidden=(hidden.flatten(0, 1),), heads=(self._head,))

    def _states(self, batch: Batch) -> Tensor:
        """Final hidden states [B, L, d] at the targets of a batch."""
        if self._view is None:
            return states_of(self._parts, batch.inputs, batch.starts)
        if batch.windows is None:
            raise BadInput("a teacher with a system prompt of its own reads the packed text only, not generated text")
        tokens = torch.from_numpy(self._view.tokens[batch.windows, :-1].astype(np.int64))
        starts = torch.from_numpy(self._view.starts[batch.windows] != 0)
        place = torch.from_numpy(self._view.place[batch.windows])
        return aligned(states_of(self._parts, tokens, starts), place)


class Ensemble:
    """The mean of several teachers that share a vocabulary.

    shares: weights, normalised to sum to 1 (None: equal); mean: "arithmetic" (probabilities) or "geometric" (logits).
    """

    def __init__(self, members: Sequence[TeacherSource], shares: Sequence[float] | None, mean: str) -> None:
        total = sum(shares) if shares else 0.0
        self.members, self.mean = tuple(members), mean
        self.shares = tuple(share / total for share in shares) if shares else None

    def __call__(self, batch: Batch) -> DenseTeacher:
        teachers = [dense(member(batch)) for member in self.members]
        return DenseTeacher(
            hidden=tuple(each.hidden[0] for each in teachers),
            heads=tuple(each.heads[0] for each in teachers),
            shares=self.shares,
            mean=self.mean,
        )


class Router:
    """Specialist teachers, each for the windows of its own text. groups [W]: index of each window's specialist."""

    def __init__(self, members: Sequence[TeacherSource], groups: np.ndarray) -> None:
        self.members, self.groups = tuple(members), groups

    def __call__(self, batch: Batch) -> RoutedTeacher:
        if batch.windows is None:
            raise BadInput("text generated during training belongs to no specialist; use one teacher or an ensemble")
        owner = self.groups[batch.windows]
        length = batch.mask.shape[1]
        which = torch.from_numpy(owner.astype(np.int64)).repeat_interleave(length)
        place = torch.zeros_like(which)
        teachers = []
        for index, member in enumerate(self.members):
            mine = np.flatnonzero(owner == index)
            if len(mine):
                rows = torch.from_numpy(mine).to(batch.tokens.device)
                starts = None if batch.starts is None else batch.starts[rows]
                own = Batch(
                    tokens=batch.tokens[rows], mask=batch.mask[rows], windows=batch.windows[mine], starts=starts
                )
                teachers.append(dense(member(own)))
                place[which == index] = torch.arange(len(mine) * length)
                # provisional negative index, replaced below: only specialists used in this batch are numbered
                which[which == index] = -len(teachers)
        device = batch.tokens.device
        return RoutedTeacher(members=tuple(teachers), which=(-which - 1).to(device), place=place.to(device))


def dense(teacher: DenseTeacher | RoutedTeacher | Sparse | SpanTeacher) -> DenseTeacher:
    """Return `teacher` if it covers the full vocabulary (DenseTeacher), else raise BadInput."""
    if not isinstance(teacher, DenseTeacher):
        raise BadInput("several teachers need exact signals (kind hidden, or none to run them during training)")
    return teacher
