"""Seconds of a training step on this machine: a few steps of the real loop, stopped before it writes anything."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.losses import DenseTeacher, Sparse
from flashstill.distill.models import Model, parts
from flashstill.distill.models.devices import wait
from flashstill.distill.signals import Kind, Sampled, TopK, hidden_states
from flashstill.distill.signals.kinds import sampled_teacher, topk_teacher
from flashstill.distill.training import Batch, Objective, TeacherSource, TrainRecipe, take, train
from flashstill.progress import Silent

NEVER = 2**62


class _AllTimed(Exception):
    """Raised out of the training loop once all steps are timed."""


class _OneBatch:
    """A source that gives the same windows for every step, and notes the time at which each step asks for them."""

    key: dict[str, object] = {}  # noqa: RUF012 - no checkpoint is written that would have to agree with it

    def __init__(self, batch: Batch, steps: int) -> None:
        self._batch, self._steps = batch, steps
        self.started_s: list[float] = []

    @property
    def window_length(self) -> int:
        return self._batch.tokens.shape[1] - 1

    def batch(self, step: int, whole: Callable[[], Model]) -> Batch:
        self.started_s.append(time.perf_counter())
        if step == self._steps:
            raise _AllTimed
        return self._batch

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass


def time_steps(model: Model, batch: Batch, objective: Objective, recipe: TrainRecipe, steps: int) -> list[float]:
    """Seconds of each of `steps` steps after a warm-up step; changes the weights of the model."""
    source = _OneBatch(batch, steps + 1)
    endless = replace(recipe, tokens=NEVER, checkpoint_every_steps=NEVER, diverged_at=0.0)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_AllTimed):
        train(model, source, objective, endless, Path(folder), Silent(), "measure")
    return [end - start for start, end in itertools.pairwise(source.started_s)][1:]


def first_batch(packed: Packed, windows: int) -> Batch:
    """A batch of the first `windows` windows of a packed text."""
    return take(packed, np.arange(windows) % packed.windows)


class CachedTeacher:
    """A teacher whose outputs are cached in memory per batch, to time training as with stored signals."""

    def __init__(self, source: TeacherSource, kind: Kind) -> None:
        self._source, self._kind = source, kind
        self._outputs: dict[bytes, DenseTeacher | Sparse] = {}

    def __call__(self, batch: Batch) -> DenseTeacher | Sparse:
        tokens = batch.tokens.cpu().numpy().tobytes()
        if tokens not in self._outputs:
            self._outputs[tokens] = self._as_signals(batch)
        return self._outputs[tokens]

    def _as_signals(self, batch: Batch) -> DenseTeacher | Sparse:
        """The teacher's output, encoded and decoded as signals of this kind are."""
        output = self._source(batch)
        assert isinstance(output, DenseTeacher)
        if not isinstance(self._kind, Sampled | TopK):
            return output
        assert batch.windows is not None
        shape = (*batch.inputs.shape, -1)
        encoded = self._kind.encode(output.hidden[0].view(shape), output.heads[0], batch.windows.tolist())
        if isinstance(self._kind, TopK):
            return topk_teacher(encoded["ids"].flatten(0, 1), encoded["log_p"].flatten(0, 1))
        return sampled_teacher(encoded["ids"], encoded["counts"], encoded["unique"].flatten(), self._kind.draws)


def signal_seconds(models: Sequence[Model], kind: Kind, packed: Packed, windows: int) -> float:
    """Seconds per token to run all teachers over the text and to encode their signals."""
    total = 0.0
    batch = first_batch(packed, windows)
    with torch.inference_mode():
        for model in models:
            head = parts(model).head.detach()
            for _ in range(2):  # the first warms up
                started = time.perf_counter()
                kind.encode(hidden_states(model, batch.inputs), head, range(windows))
                wait(head.device)
                seconds = time.perf_counter() - started
            total += seconds
    return total / batch.targets.numel()
