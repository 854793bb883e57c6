"""Training classifiers: AdamW on float32 master weights, cosine decay to 0, batches in a seeded order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flashstill.distill.classifiers.inputs import Inputs
from flashstill.distill.classifiers.nets import Dropout, Nets
from flashstill.distill.training.mixed_precision import MixedPrecisionAdamW
from flashstill.distill.training.recipe import TrainRecipe, learning_rate_at
from flashstill.errors import BadInput
from flashstill.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """Training settings. An epoch is a pass over the examples of the net that has the most. jitter: whole pixels by
    which images are moved at most, anew every time."""

    epochs: float
    batch: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.0
    jitter: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """images [M, B, D]: normalised inputs of M nets; index [M, B] of the examples."""

    images: Tensor
    index: Tensor


Loss = Callable[[Tensor, Batch], Tensor]
"""(logits [M, B, C], batch) -> loss per example [M, B]"""


class Order:
    """An endless stream of example indices: a new permutation every epoch."""

    def __init__(self, examples: Tensor, generator: torch.Generator) -> None:
        self.examples, self.generator = examples, generator
        self.left = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        while len(self.left) < count:
            more = torch.randperm(len(self.examples), generator=self.generator)
            self.left = torch.cat([self.left, self.examples[more]])
        chosen, self.left = self.left[:count], self.left[count:]
        return chosen


def fit(
    nets: Nets, data: Inputs, loss: Loss, how: Fit, seed: int, examples: Sequence[Tensor], progress: Progress, name: str
) -> Nets:
    """Train the nets in place, each on its own examples [n_m] in its own order; returns the nets.

    Raises BadInput if rows of a table are to be moved, or if the loss is not finite.
    """
    if how.jitter and data.values.shape[1] == 1:
        raise BadInput("jitter moves images and cannot be used on rows of a table: set it to 0")
    steps = max(1, round(how.epochs * max(len(each) for each in examples) / how.batch))
    schedule = TrainRecipe(
        tokens=steps, windows_per_step=1, learning_rate=how.learning_rate, clip_norm=1e9,
        warmup_fraction=0.05, final_fraction=0.0,
    )  # fmt: skip
    optimiser, generator = MixedPrecisionAdamW(nets, schedule), torch.Generator().manual_seed(seed)
    orders, dropout = [Order(each, generator) for each in examples], Dropout(how.dropout, generator)
    with progress.task(name, steps, "batches") as advance:
        for step in range(steps):
            index = torch.stack([order.take(how.batch) for order in orders])
            images = data.moved(index, how.jitter, generator) if how.jitter else data.rows(index)
            batch = Batch(images=images, index=index)
            value = loss(nets(batch.images, dropout), batch).mean(-1).sum()
            if not bool(torch.isfinite(value)):
                raise BadInput(f"{name}: the loss is not finite at step {step}; lower its learning rate")
            value.backward()  # type: ignore[no-untyped-call]
            optimiser.apply(learning_rate_at(schedule, step, steps))
            advance(1)
    return nets
