"""Validation during training: the student on text that it never trains on, the best weights, and when to stop.

    loss            that of the training, the mean over the targets that count
    bits per byte   NLL of the text's tokens / (ln 2 x their UTF-8 bytes)
    kl              mean KL(teacher || student) of the text's tokens, in nats; of a served teacher a lower bound

What follows is a function of the steps' metrics, which are in every checkpoint, and of the best weights, which are too:
a resumed run decides as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import Head, Sparse, Term, Workspace, forward_kl, head_loss, one_hot
from flashstill.distill.training.batches import Batch, take
from flashstill.distill.training.objectives import Objective, TeacherSource
from flashstill.distill.training.sharded import World
from flashstill.errors import BadInput
from flashstill.units import LN_2

PREFIX = "validation_"
AT_LEAST = "kl_at_least"


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """packed: the text, which is not trained on; objective: the loss on its batches; teacher: for the KL, if there is
    one; is_of_loss: whether the first term of the loss holds its output, which is then not computed again.

    every_steps: between validations, of which there is also one after the last step; metric: the figure that is
    compared, "loss", "bits_per_byte" or "kl"; keep_best: whether training returns the weights of the lowest one;
    patience: validations without an improvement by more than min_delta after which it ends, 0 for never.  Raises
    BadInput if nothing of the text is learned: every student would be as good.
    """

    packed: Packed
    objective: Objective
    teacher: TeacherSource | None = None
    is_of_loss: bool = False
    every_steps: int
    metric: str = "loss"
    keep_best: bool = False
    patience: int = 0
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        is_text = self.packed.target_document >= 0
        if not self.packed.mask.any() or not self.packed.target_bytes[is_text].any():
            raise BadInput(
                "nothing of the validation text is learned, such as what an assistant says; its documents may begin"
                " with long prompts: raise text.window_tokens or text.validation_tokens"
            )

    @property
    def key(self) -> dict[str, Any]:
        """What must match in a checkpoint: the figures before it are compared with those after it."""
        return {"text": self.packed.hash, "metric": self.metric}

    def is_due(self, step: int, steps: int) -> bool:
        """Whether the student is measured after `step` of `steps` steps."""
        return step % self.every_steps == 0 or step == steps


def figure_of(row: Mapping[str, float], metric: str) -> float | None:
    """The figure that is compared, of a step's metrics; None if it was not measured after that step."""
    value = row.get(PREFIX + metric)
    return row.get(PREFIX + AT_LEAST) if value is None and metric == "kl" else value


class Course:
    """The figures so far: the best step, and whether it is time to stop. rows: metrics of the steps so far."""

    def __init__(self, metric: str, patience: int, min_delta: float, rows: Sequence[Mapping[str, float]]) -> None:
        self._metric, self._patience, self._min_delta = metric, patience, min_delta
        self.best_step, self.best = 0, math.inf
        self._reference, self._waited = math.inf, 0
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, float]) -> bool:
        """Add a step's metrics; whether its figure is the lowest so far."""
        figure = figure_of(row, self._metric)
        if figure is None:
            return False
        if figure < self._reference - self._min_delta:
            self._reference, self._waited = figure, 0
        else:
            self._waited += 1
        is_best = figure < self.best
        if is_best:
            self.best_step, self.best = int(row["step"]), figure
        return is_best

    @property
    def is_over(self) -> bool:
        """Whether there were as many validations without an improvement as patience allows."""
        return bool(self._patience) and self._waited >= self._patience


@dataclass(slots=True)
class _Sums:
    """Sums over the targets of a text: the loss, already divided by all targets; NLL in nats; KL."""

    loss: float = 0.0
    nll: float = 0.0
    kl: float = 0.0


def validate(
    validation: Validation,
    student: nn.Module,
    world: World,
    windows_per_pass: int,
    vocabulary: int | None,
    space: Workspace,
) -> dict[str, float]:
    """The figures of a student (passes.Student), and seconds, as metrics of a step; every process takes a share.

    Without dropout, and without gradients.  A collective call.
    """
    started, packed = time.perf_counter(), validation.packed
    own = np.arange(packed.windows)[world.rank :: world.size]
    passes = math.ceil(math.ceil(packed.windows / world.size) / windows_per_pass)
    counted, sums, was_training = int(packed.mask.sum()), _Sums(), student.training
    is_bound = False
    student.eval()
    try:
        with torch.no_grad():
            for part in range(passes):  # as many in each process: a sharded model gathers its weights in all of them
                windows = own[part * windows_per_pass : (part + 1) * windows_per_pass]
                if len(windows):
                    is_bound |= _add(validation, student, windows, counted, sums, world, vocabulary, space)
                else:  # more processes than windows: takes part, and counts nothing
                    _add(validation, student, np.arange(1), counted, _Sums(), world, vocabulary, space)
    finally:
        student.train(was_training)
    is_text = packed.target_document >= 0
    text_bytes = int(packed.target_bytes[is_text].sum())
    row = {"loss": world.total(sums.loss), "bits_per_byte": world.total(sums.nll) / (LN_2 * text_bytes)}
    if validation.teacher is not None:
        bounds = any(world.all_gather(is_bound))
        row[AT_LEAST if bounds else "kl"] = world.total(sums.kl) / int(is_text.sum())
    rounded = {PREFIX + name: round(value, 6) for name, value in row.items()}
    return {**rounded, PREFIX + "s": round(time.perf_counter() - started, 4)}


def _add(
    validation: Validation,
    student: nn.Module,
    windows: np.ndarray,
    counted: int,
    sums: _Sums,
    world: World,
    vocabulary: int | None,
    space: Workspace,
) -> bool:
    """Add some windows to the sums; whether the KL is a lower bound. counted: targets of the whole text."""
    batch = take(validation.packed, windows).to(world.device)
    terms = validation.objective(batch)
    weights = batch.mask.flatten().float() / counted
    is_text = torch.from_numpy(validation.packed.target_document[windows] >= 0).flatten().to(world.device)
    wanted = [Term(teacher=one_hot(batch.targets))]
    if validation.teacher is not None:
        wanted.append(_kl_of(terms) or Term(teacher=_output_of(validation, validation.teacher, terms, batch)))
    found: list[Tensor] = []

    def loss(hidden: Tensor, head: Head) -> Tensor:
        still = head.detach()
        total, per_token = head_loss(hidden, still, terms, weights, vocabulary, space=space)
        found.append(per_token)
        for term in wanted:
            is_same = len(terms) == 1 and terms[0] is term
            found.append(
                per_token if is_same else head_loss(hidden, still, [term], weights, vocabulary, space=space)[1]
            )
        return total

    total = float(student(batch, terms, loss))
    sums.loss += total
    sums.nll += float(found[1][is_text].double().sum())
    sums.kl += float(found[2][is_text].double().sum()) if len(found) > 2 else 0.0
    return len(wanted) > 1 and isinstance(wanted[1].teacher, Sparse)


def _output_of(validation: Validation, teacher: TeacherSource, terms: Sequence[Term], batch: Batch) -> Any:
    """The teacher's output on a batch; terms: of the loss."""
    return terms[0].teacher if validation.is_of_loss else teacher(batch)


def _kl_of(terms: Sequence[Term]) -> Term | None:
    """The KL at temperature 1 to the teacher, if it is all of the loss: it need not be computed twice."""
    if len(terms) != 1 or terms[0].divergence is not forward_kl:
        return None
    return terms[0] if (terms[0].temperature, terms[0].weight) == (1.0, 1.0) else None
