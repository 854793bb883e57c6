"""Training batches: windows of tokens, the loss mask of their targets, and the order of the windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from flashstill.distill.data.packing import Packed
from flashstill.distill.models import Model


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """tokens [B, L+1]; mask [B, L]: loss weight of each target; windows [B]: their indices in the packed text.

    windows is None for text generated during training, for which no signals are stored.  starts [B, L]: nonzero where
    an input begins a document, which sees nothing before it; None if each window is one document.  own [B]: whether the
    student wrote a window, None if it wrote none.  factors [B]: multiply the loss of a window's targets, where a reward
    weighs what the student wrote.  made: metrics of the step about that generation.
    """

    tokens: Tensor
    mask: Tensor
    windows: np.ndarray | None
    starts: Tensor | None = None
    own: Tensor | None = None
    factors: Tensor | None = None
    made: Mapping[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> Tensor:
        """[B, L]"""
        return self.tokens[:, :-1]

    @property
    def of_text(self) -> Tensor | None:
        """[B L]: 1 for a target of the text, 0 for one that the student wrote; None if all are of the text."""
        return None if self.own is None else (~self.own).float().repeat_interleave(self.mask.shape[1])

    @property
    def targets(self) -> Tensor:
        """[B L]: the token after each input."""
        return self.tokens[:, 1:].flatten()

    def rows(self, part: slice) -> Batch:
        """A slice of the batch along its windows."""
        return Batch(
            tokens=self.tokens[part],
            mask=self.mask[part],
            windows=None if self.windows is None else self.windows[part],
            starts=None if self.starts is None else self.starts[part],
            own=None if self.own is None else self.own[part],
            factors=None if self.factors is None else self.factors[part],
        )

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        optional = (self.starts, self.own, self.factors)
        starts, own, factors = (None if each is None else each.to(device) for each in optional)
        tokens, mask = self.tokens.to(device), self.mask.to(device)
        return Batch(tokens=tokens, mask=mask, windows=self.windows, starts=starts, own=own, factors=factors)


Student = Callable[[], Model]
"""returns the current student with all weights; a collective call if the student is sharded over processes"""


class Source(Protocol):
    """Provides the batches of a run; all processes of a run get the same ones."""

    @property
    def window_length(self) -> int:
        """Targets per window."""
        ...

    @property
    def key(self) -> dict[str, object]:
        """Settings that must match those in a checkpoint."""
        ...

    def batch(self, step: int, student: Student) -> Batch:
        """All windows of step `step`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Tensors that the next batch depends on, besides the step and the model."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved `state`."""
        ...


class Offline:
    """The windows of a packed text, reshuffled every epoch."""

    def __init__(self, packed: Packed, per_step: int, seed: int) -> None:
        self.packed, self.per_step, self.seed = packed, per_step, seed

    @property
    def window_length(self) -> int:
        return self.packed.length

    @property
    def key(self) -> dict[str, object]:
        return {"packing": self.packed.hash}

    def batch(self, step: int, student: Student) -> Batch:
        windows = window_order(self.seed, self.packed.windows, step, self.per_step)
        return take(self.packed, windows)

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        pass


def take(packed: Packed, windows: np.ndarray) -> Batch:
    """A batch of the given windows of a packed text."""
    return Batch(
        tokens=torch.from_numpy(packed.tokens[windows].astype(np.int64)),
        mask=torch.from_numpy(packed.mask_of(windows)),
        windows=windows,
        starts=None if packed.starts is None else torch.from_numpy(packed.starts[windows] != 0),
    )


def window_order(seed: int, windows: int, step: int, per_step: int) -> np.ndarray:
    """Window indices of step `step`: each epoch is an independent permutation that depends only on seed and epoch."""
    first = step * per_step
    epochs = range(first // windows, (first + per_step - 1) // windows + 1)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(windows) for epoch in epochs])
    start = first - epochs.start * windows
    return order[start : start + per_step]
