"""Quantisation-aware training: weights are rounded in every forward pass; gradients pass straight through.

    int4     symmetric integers -7 .. 7 with one scale a group of inputs: s = max|w| / 7
    fp8      e4m3 with one scale an output: s = max|w| / 448
    ternary  -1, 0, 1 with one scale a group: s = mean|w|   (Ma et al. 2024, "The Era of 1-bit LLMs", equation 1)

    w_q = s round(w / s),   dL/dw = dL/dw_q                 the straight-through estimator (Bengio et al. 2013)

The linear layers of the blocks and their experts are quantised; embedding, head, norms, routers and what lies outside
of the blocks are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from flashstill.distill.models import STORED, Model
from flashstill.distill.models.layers import place_of
from flashstill.distill.students.balance import routers
from flashstill.errors import BadInput, unknown

FORMATS = ("int4", "fp8", "ternary")
LARGEST_INT4 = 7
LARGEST_E4M3 = 448.0
DEFAULT_GROUP = 64
_EXPERTS = ("gate_up_proj", "down_proj")  # three-dimensional, where experts are kept in one tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A number format of weights. group: inputs that share a scale; ignored by fp8, which has one scale per output."""

    name: str
    group: int = DEFAULT_GROUP

    def __post_init__(self) -> None:
        if self.name not in FORMATS:
            raise BadInput(unknown("format of weights", self.name, FORMATS))
        if self.group < 1:
            raise BadInput(f"a group of {self.group} weights cannot share a scale; give at least 1")


def rounded(weight: Tensor, format_: Format) -> tuple[Tensor, Tensor]:
    """Rounded values [..., groups, group] and scales [..., groups, 1] of a weight [..., out, in], in float32."""
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
    """max|w| of each group, computed without allocating a tensor of absolute values."""
    low, high = torch.aminmax(grouped, dim=-1, keepdim=True)
    return torch.maximum(high, low.neg_())


def round_weight(weight: Tensor, format_: Format) -> Tensor:
    """The dequantised weight s round(w / s), in the weight's own shape and dtype."""
    values, scale = rounded(weight, format_)
    return values.mul_(scale.to(weight.dtype).float()).reshape(weight.shape).to(weight.dtype)


def round_stored(weight: Tensor, format_: Format) -> Tensor:
    """The dequantised weight as it is stored: with bfloat16 scales, whatever dtype the model computes in."""
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
    """(path, module, name) of every weight that a format applies to; of modules that blocks share once."""
    inside = f"{place_of(model).path}."
    of_routers = {id(part) for router in routers(model).values() for part in router.modules()}
    for path, module in model.named_modules():
        if not path.startswith(inside) or id(module) in of_routers:
            continue
        if isinstance(module, nn.Linear):
            yield path, module, "weight"
        elif isinstance(getattr(module, "gate_up_proj", None), Tensor):  # already quantisation-aware
            yield from ((path, module, name) for name in _EXPERTS)


def quantise_aware(model: Model, format_: Format) -> Model:
    """Make a model round its weights in every forward pass, in place; the underlying weights keep full precision."""
    for _, module, name in list(weights_to_round(model)):
        rounded(getattr(module, name).detach()[..., :1, :], format_)  # raises BadInput for an unfit group size
        parametrize.register_parametrization(module, name, _Fake(format_))
    return model


def settle(model: Model) -> Model:
    """Replace the weights with their rounded values, in place, and remove the rounding from the forward pass."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    return model


def round_model(model: Model, format_: Format) -> Model:
    """Round to nearest without training, in place: the baseline for quantisation-aware training."""
    with torch.no_grad():
        for _, module, name in list(weights_to_round(model)):
            weight = getattr(module, name)
            weight.copy_(round_stored(weight, format_))
    return model
