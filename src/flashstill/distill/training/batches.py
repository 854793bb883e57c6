"""What a step learns from: windows of tokens, which of their targets count, and in which order they come."""

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
    """tokens [B, L+1]; mask [B, L]: which targets count; windows [B]: where they stand in the packing.

    windows is None for text that was made on the way, of which no cached signal can know.  made: what the metrics of
    the step say of how it was made.
    """

    tokens: Tensor
    mask: Tensor
    windows: np.ndarray | None
    made: Mapping[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> Tensor:
        """[B, L]"""
        return self.tokens[:, :-1]

    @property
    def targets(self) -> Tensor:
        """[B L]: the token after each input."""
        return self.tokens[:, 1:].flatten()

    def rows(self, part: slice) -> Batch:
        """The batch of some of its windows."""
        return Batch(
            tokens=self.tokens[part],
            mask=self.mask[part],
            windows=None if self.windows is None else self.windows[part],
        )

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(tokens=self.tokens.to(device), mask=self.mask.to(device), windows=self.windows)


Student = Callable[[], Model]
"""the student as it is now, whole; where several processes share it, they must ask for it together"""


class Source(Protocol):
    """Where the batches of a run come from; all processes of a run draw the same ones."""

    @property
    def window_length(self) -> int:
        """Targets of a window."""
        ...

    @property
    def key(self) -> dict[str, object]:
        """What a checkpoint must agree with."""
        ...

    def batch(self, step: int, student: Student) -> Batch:
        """All windows of step `step`."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What the next batch depends on beside the step and the model."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a saved `state`."""
        ...


class Offline:
    """The windows of a packing, epoch after epoch, each in an order of its own."""

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
    """Some windows of a packing."""
    return Batch(
        tokens=torch.from_numpy(packed.tokens[windows].astype(np.int64)),
        mask=torch.from_numpy(packed.mask[windows]),
        windows=windows,
    )


def window_order(seed: int, windows: int, step: int, per_step: int) -> np.ndarray:
    """The windows of step `step`: epochs are independent permutations, a function of the seed alone."""
    first = step * per_step
    epochs = range(first // windows, (first + per_step - 1) // windows + 1)
    order = np.concatenate([np.random.default_rng([seed, epoch]).permutation(windows) for epoch in epochs])
    start = first - epochs.start * windows
    return order[start : start + per_step]
