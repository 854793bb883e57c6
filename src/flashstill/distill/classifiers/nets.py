"""Classifiers of the paper: MLPs with ReLU and dropout; several nets of one shape are computed as a batch.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", section 3: two hidden layers of 1200 with
dropout teach two of 800 without.  Weights are stored in bfloat16 and multiplied in the dtype that is faster here.

The weights of M nets form one tensor [M, in, out] per layer: trained one by one, ten small nets would spend two thirds
of their time outside matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flashstill.distill.classifiers.inputs import Inputs
from flashstill.distill.models import STORED

_BYTE = 256
EXAMPLES = 2048
"""of one batch of a pass without gradients"""


class Nets(nn.Module):
    """M nets: images [M, B, D] -> logits [M, B, C]. seeds [M]: of the initial weights of each."""

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        classes: int,
        seeds: Sequence[int],
        dtype: torch.dtype = STORED,
    ) -> None:
        super().__init__()
        self.features, self.hidden, self.classes = features, tuple(hidden), classes
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        for fan_in, fan_out in itertools.pairwise([features, *hidden, classes]):
            drawn = [torch.randn(fan_in, fan_out, generator=generator) for generator in generators]
            weight = torch.stack(drawn) * (2.0 / fan_in) ** 0.5
            self.weights.append(nn.Parameter(weight.to(STORED).to(dtype)))
            self.biases.append(nn.Parameter(torch.zeros(len(seeds), 1, fan_out, dtype=dtype)))

    def __len__(self) -> int:
        return len(self.weights[0])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the nets compute."""
        dtype: torch.dtype = self.weights[0].dtype
        return dtype

    @torch.no_grad()
    def as_stored(self) -> Nets:
        """Round the weights to the stored dtype, in place, so that nets read back from disk are identical."""
        for parameter in self.parameters():
            parameter.copy_(parameter.to(STORED))
        return self

    @property
    def parameters_each(self) -> int:
        """Parameters per net."""
        return sum(parameter.numel() for parameter in self.parameters()) // len(self)

    def forward(self, images: Tensor, dropout: Dropout | None = None) -> Tensor:
        """Logits [M, B, C] in float32; `dropout` applies to hidden units."""
        hidden = images.to(self.dtype)
        last = len(self.weights) - 1
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if place < last:
                hidden = torch.relu_(hidden)
                hidden = hidden if dropout is None else dropout(hidden)
        return hidden.float()


class Dropout:
    """Dropout with rescaling of the kept units; the rate is a multiple of 1/256.

    One 64-bit random number serves eight units: one number per unit would take as long as the matrix products.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self.dropped, self.generator = round(share * _BYTE), generator

    def __call__(self, units: Tensor) -> Tensor:
        if not self.dropped:
            return units
        words = torch.empty(-(-units.numel() // 8), dtype=torch.int64)
        words.random_(-(2**63), None, generator=self.generator)
        kept = words.view(torch.uint8)[: units.numel()].view_as(units) >= self.dropped
        return units * (kept * (_BYTE / (_BYTE - self.dropped))).to(units.dtype)


def logits_of(nets: Nets, data: Inputs) -> Tensor:
    """Logits [M, N, C] of all nets on all examples, computed in batches."""
    parts = []
    with torch.inference_mode():
        for begin in range(0, len(data), EXAMPLES):
            part = data.values[begin : begin + EXAMPLES].flatten(1)
            parts.append(nets(part.expand(len(nets), -1, -1)))
    return torch.cat(parts, 1)
