"""Quantisation-aware students: weights that are rounded in every forward pass and learn through the rounding.

    int4     symmetric integers -7 .. 7 with one scale a group of inputs: s = max|w| / 7
    fp8      e4m3 with one scale an output: s = max|w| / 448
    ternary  -1, 0, 1 with one scale a group: s = mean|w|   (Ma et al. 2024, "The Era of 1-bit LLMs", equation 1)

    w_q = s round(w / s),   dL/dw = dL/dw_q                 the straight-through estimator (Bengio et al. 2013)

The linear layers of the blocks and their experts are quantised; embedding, head, norms and routers are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from flashstill.distill.models import STORED, Model, decoder_layers
from flashstill.errors import BadInput, unknown

FORMATS = ("int4", "fp8", "ternary")
LARGEST_INT4 = 7
LARGEST_E4M3 = 448.0
DEFAULT_GROUP = 64
_EXPERTS = ("gate_up_proj", "down_proj")  # three-dimensional, where experts are kept in one tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A number format of weights. group: inputs that share a scale; fp8 has one a row and ignores it."""

    name: str
    group: int = DEFAULT_GROUP

    def __post_init__(self) -> None:
        if self.name not in FORMATS:
            raise BadInput(unknown("format of weights", self.name, FORMATS))
        if self.group < 1:
            raise BadInput(f"a group of {self.group} weights cannot share a scale; give at least 1")


def rounded(weight: Tensor, format_: Format) -> tuple[Tensor, Tensor]:
    """Values [..., groups, group] and scales [..., groups, 1] of a weight [..., out, in], in float32."""
    wide = weight.to(torch.float32, copy=True)  # a private copy, modified in place below to save memory traffic
    group = wide.shape[-1] if format_.name == "fp8" else format_.group
    if wide.shape[-1] % group:
        raise BadInput(f"groups of {group} weights do not fill rows of {wide.shape[-1]}; choose another group")
    grouped = wide.reshape(*wide.shape[:-1], -1, group)
    if format_.name == "ternary":
        scale = torch.linalg.vector_norm(grouped, 1, -1, keepdim=True).div_(group).clamp_min_(1e-8)
        return grouped.div_(scale).round_().clamp_(-1, 1), scale
    if format_.name == "int4":
        scale = largest(grouped).div_(LARGEST_INT4).clamp_min_(1e-8)
        return grouped.div_(scale).round_().clamp_(-LARGEST_INT4, LARGEST_INT4), scale
    scale = largest(grouped).div_(LARGEST_E4M3).clamp_min_(1e-12)
    return grouped.div_(scale).to(torch.float8_e4m3fn).float(), scale


def largest(grouped: Tensor) -> Tensor:
    """max|w| of each group, without a tensor of absolute values."""
    low, high = torch.aminmax(grouped, dim=-1, keepdim=True)
    return torch.maximum(high, low.neg_())


def round_weight(weight: Tensor, format_: Format) -> Tensor:
    """The weight as the format holds it, in its own shape and format."""
    values, scale = rounded(weight, format_)
    return values.mul_(scale.to(weight.dtype).float()).reshape(weight.shape).to(weight.dtype)


def round_stored(weight: Tensor, format_: Format) -> Tensor:
    """The same of the weight as the disk will hold it: scales are in bfloat16 whatever it is multiplied in."""
    return round_weight(weight.to(STORED), format_).to(weight.dtype)


class _Rounding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, format_: Format) -> Tensor:
        return round_stored(weight, format_)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Fake(nn.Module):
    def __init__(self, format_: Format) -> None:
        super().__init__()
        self.format = format_

    def forward(self, weight: Tensor) -> Tensor:
        rounded: Tensor = _Rounding.apply(weight, self.format)  # type: ignore[no-untyped-call]
        return rounded


def weights_to_round(model: Model) -> Iterator[tuple[str, nn.Module, str]]:
    """(path, module, name) of every weight that a format applies to."""
    for index, block in enumerate(decoder_layers(model)):
        for path, module in block.named_modules():
            where = f"model.layers.{index}.{path}"
            if isinstance(module, nn.Linear):
                yield where, module, "weight"
            elif isinstance(getattr(module, "gate_up_proj", None), Tensor):  # rounded already, it is no parameter
                yield from ((where, module, name) for name in _EXPERTS)


def quantise_aware(model: Model, format_: Format) -> Model:
    """Round in every forward pass from now on, in place; the weights underneath stay as fine as they are."""
    for _, module, name in list(weights_to_round(model)):
        rounded(getattr(module, name).detach()[..., :1, :], format_)  # refuses a group that does not fit
        parametrize.register_parametrization(module, name, _Fake(format_))
    return model


def settle(model: Model) -> Model:
    """Keep the rounded weights for good, in place: the model is a plain one whose weights the format holds."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return model


def round_model(model: Model, format_: Format) -> Model:
    """Plain rounding without training, in place: what recovery is measured against."""
    with torch.no_grad():
        for _, module, name in list(weights_to_round(model)):
            weight = getattr(module, name)
            weight.copy_(round_stored(weight, format_))
    return model
