"""The student with the lowest figure of a training, in memory and in every checkpoint, and the end of the training.

best/weight/NAME     in the format that the student is trained in: 2 bytes a parameter in bf16
best/buffer/NAME     state that is not trained by gradients
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from flashstill.distill.losses import Workspace
from flashstill.distill.models import Model
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.sharded import Sharded, World
from flashstill.distill.training.validation import PREFIX, Course, Validation, validate
from flashstill.errors import BadInput

WEIGHT, BUFFER = "best/weight/", "best/buffer/"


class Watch:
    """The validation of one training; without one it does nothing.

    rows: metrics of the steps so far; saved: the tensors of the checkpoint that training resumes from.
    """

    def __init__(
        self,
        validation: Validation | None,
        rows: Sequence[Mapping[str, float]],
        state: MixedPrecisionAdamW | Sharded,
        model: Model,
        saved: Mapping[str, Tensor],
    ) -> None:
        self.validation, self._state, self._model = validation, state, model
        self._course = None
        if validation is not None:
            self._course = Course(validation.metric, validation.patience, validation.min_delta, rows)
        self._best: dict[str, Tensor] = {}
        if self.keeps and any(name.startswith(WEIGHT) for name in saved):
            self._best = {WEIGHT + name: weight for name, weight in state.own_weights(saved, WEIGHT).items()}
            self._best |= {name: saved[name] for name in saved if name.startswith(BUFFER)}

    @property
    def keeps(self) -> bool:
        """Whether the best weights are kept."""
        return self.validation is not None and self.validation.keep_best

    @property
    def is_over(self) -> bool:
        """Whether the training ends before its last step."""
        return self._course is not None and self._course.is_over

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The best weights of this process, for a checkpoint."""
        return {
            name: self._state.stored(name.removeprefix(WEIGHT), tensor) if name.startswith(WEIGHT) else tensor
            for name, tensor in self._best.items()
        }

    def look(
        self,
        row: dict[str, float],
        steps: int,
        student: nn.Module,
        world: World,
        windows_per_pass: int,
        vocabulary: int | None,
        space: Workspace,
    ) -> None:
        """After a step, of which `row` has the metrics: validate if it is time, add the figures, keep what is best.

        Raises BadInput if a figure is not finite.
        """
        if self.validation is None or self._course is None or not self.validation.is_due(int(row["step"]), steps):
            return
        row |= validate(self.validation, student, world, windows_per_pass, vocabulary, space)
        self._state.settle()
        if not all(math.isfinite(value) for name, value in row.items() if name.startswith(PREFIX)):
            raise BadInput(f"the validation after step {row['step']} is not finite; look at the text held out for it")
        if self._course.add(row) and self.keeps:
            self._best = {WEIGHT + name: weight for name, weight in self._state.kept_weights().items()}
            for name, buffer in buffers(self._model).items():
                self._best[BUFFER + name] = buffer.detach().to("cpu", copy=True)

    def finish(self) -> str:
        """Give the student its best weights, if they are kept; returns what happened, as a sentence or nothing."""
        if self.validation is None or self._course is None:
            return ""
        best = self._course.best_step
        if self.keeps and self._best:
            self._state.put_weights(under(WEIGHT, self._best))
            restore_buffers(self._model, under(BUFFER, self._best))
        kept = "; its weights are kept" if self.keeps else ""
        stopped = " and training has stopped" if self.is_over else ""
        return f"{self.validation.metric} on validation text was lowest after step {best}{kept}{stopped}"


def buffers(model: Model) -> dict[str, Tensor]:
    """Persistent buffers: saved with a model but not trained by gradients, such as the biases of a router."""
    names = set(model.state_dict())
    return {name: buffer for name, buffer in model.named_buffers() if name in names}


def restore_buffers(model: Model, saved: Mapping[str, Tensor]) -> None:
    """Copy saved buffers into a model, by name."""
    own = dict(model.named_buffers())
    with torch.no_grad():
        for name, buffer in saved.items():
            own[name].copy_(buffer)


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}
