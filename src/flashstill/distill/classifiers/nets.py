"""Classifiers as the paper has them: layers of rectified linear units, dropout, inputs moved by a pixel or two.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", section 3: two hidden layers of 1200 with
dropout and jitter teach two of 800 without.  Weights are kept in bfloat16 with float32 masters, as language models are.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flashstill.distill.training.masters import Masters
from flashstill.distill.training.recipe import TrainRecipe, learning_rate_at
from flashstill.errors import BadInput


@dataclass(frozen=True, kw_only=True, slots=True)
class NetRecipe:
    """A classifier and how it learns. jitter: pixels that training images are moved by, at most."""

    hidden: tuple[int, ...] = (1200, 1200)
    dropout_input: float = 0.0
    dropout: float = 0.0
    jitter: int = 0
    epochs: float = 20.0
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.0


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits [B, C], indices of the examples [B], the images as the net sees them [B, D]) -> per example [B]"""


class Net(nn.Module):
    """Images [B, D] to logits [B, C]."""

    def __init__(self, inputs: int, classes: int, recipe: NetRecipe, seed: int) -> None:
        super().__init__()
        widths = [inputs, *recipe.hidden, classes]
        layers: list[nn.Module] = [nn.Dropout(recipe.dropout_input)]
        generator = torch.Generator().manual_seed(seed)
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.normal_(linear.weight, std=(2.0 / fan_in) ** 0.5, generator=generator)
            nn.init.zeros_(linear.bias)
            layers.append(linear)
            if index < len(recipe.hidden):
                layers += [nn.ReLU(), nn.Dropout(recipe.dropout)]
        self.layers = nn.Sequential(*layers).to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits.float()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaled:
    """Images as a net sees them: [N, H, W] bytes, brought to mean 0 and deviation 1 over the training set."""

    images: Tensor
    mean: float
    deviation: float

    def rows(self, index: Tensor | slice, shifts: Tensor | None = None) -> Tensor:
        """[B, H W] in bfloat16; shifts [B, 2]: pixels down and right."""
        chosen = self.images[index]
        if shifts is not None:
            chosen = moved(chosen, shifts)
        return ((chosen.flatten(1).float() - self.mean) / self.deviation).to(torch.bfloat16)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> int:
        """D"""
        return int(self.images[0].numel())

    def of(self, images: Tensor) -> Scaled:
        """Other images on the same scale."""
        return Scaled(images=images, mean=self.mean, deviation=self.deviation)


def scaled(images: Tensor) -> Scaled:
    """Training images with their own mean and deviation."""
    values = images.float()
    return Scaled(images=images, mean=float(values.mean()), deviation=float(values.std()) or 1.0)


def moved(images: Tensor, shifts: Tensor) -> Tensor:
    """Images [B, H, W] moved by shifts [B, 2] pixels; what comes in from outside is 0."""
    count, height, width = images.shape
    most = int(shifts.abs().max())
    padded = torch.nn.functional.pad(images, (most, most, most, most))
    rows = torch.arange(height)[None, :] + most - shifts[:, :1]
    columns = torch.arange(width)[None, :] + most - shifts[:, 1:]
    found: Tensor = padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found


def fit(net: Net, data: Scaled, loss: Loss, recipe: NetRecipe, seed: int, index: Tensor | None = None) -> Net:
    """Train in place on the examples `index` (None: all), in an order of the seed's; returns it in eval mode."""
    examples = torch.arange(len(data)) if index is None else index
    per_epoch = max(1, len(examples) // recipe.batch)
    steps = max(1, round(recipe.epochs * per_epoch))
    schedule = TrainRecipe(
        tokens=steps, windows_per_step=1, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay,
        clip_norm=1e9, warmup_fraction=0.05, final_fraction=0.0,
    )  # fmt: skip
    masters, generator = Masters(net, schedule), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout draws from the global generator
    net.train()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < recipe.batch:
            order = torch.cat([order, torch.randperm(len(examples), generator=generator)])
        chosen, order = examples[order[: recipe.batch]], order[recipe.batch :]
        shifts = None
        if recipe.jitter:
            shifts = torch.randint(-recipe.jitter, recipe.jitter + 1, (len(chosen), 2), generator=generator)
        images = data.rows(chosen, shifts)
        value = loss(net(images), chosen, images).mean()
        if not bool(torch.isfinite(value)):
            raise BadInput(f"the classifier's loss is not finite at step {step}; lower its learning rate")
        value.backward()  # type: ignore[no-untyped-call]
        masters.apply(learning_rate_at(schedule, step, steps))
    return net.eval()


def logits_of(nets: Sequence[Net], data: Scaled, batch: int = 4096) -> Tensor:
    """[M, N, C] of several nets."""
    with torch.inference_mode():
        return torch.stack(
            [
                torch.cat([net(data.rows(slice(start, start + batch))) for start in range(0, len(data), batch)])
                for net in nets
            ]
        )
