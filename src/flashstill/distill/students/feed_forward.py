"""The gated FFNs of a dense model as matrices, and the experts of a mixture that such matrices fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.students.axes import Group, block_path
from flashstill.distill.students.balance import routers
from flashstill.errors import UnsupportedArchitecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    """An FFN down(act(gate x) * up x): gate and up [n, d], down [d, n]; name: of its module."""

    name: str
    gate: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixture:
    """Experts of one block: gate and up [E, 2 n, d], down [E, d, n]; the router's rows; the shared FFN, if any."""

    name: str
    gate_up: Tensor
    down: Tensor
    router: nn.Module
    shared: dict[str, Tensor]
    shared_gate: Tensor | None


def gated(model: Model, layout: tuple[Group, ...]) -> list[Gated]:
    """The FFN of every block; UnsupportedArchitecture if it is not one gated FFN without biases per block."""
    state = model.state_dict()
    found = []
    for group in layout:
        gate = up = down = None
        for side in group.sides:
            weight, last = state[side.tensor].detach(), side.tensor.removeprefix(f"{group.name}.")
            if weight.dim() == 1:
                raise _unlike(model, f"{side.tensor} is a bias or a norm, which experts have not")
            if weight.dim() != 2 or type(model.get_submodule(side.tensor.rpartition(".")[0])) is not nn.Linear:
                raise _unlike(model, f"{side.tensor} is not a plain matrix")
            if side.dim == 1:
                down = weight
            elif side.parts == (1, 1) and "gate" in last:
                gate, up = weight.chunk(2)
            elif side.parts == (1,) and "gate" in last:
                gate = weight
            elif side.parts == (1,):
                up = weight
        if gate is None or up is None or down is None:
            raise _unlike(model, f"{group.name} has no gate")
        found.append(Gated(name=group.name, gate=gate, up=up, down=down))
    if len(found) != len(decoder_layers(model)):
        raise _unlike(model, "not every block has one FFN")
    return found


def mixtures(model: Model) -> list[Mixture]:
    """The experts of every block; UnsupportedArchitecture if they are not stacked gated experts in each."""
    path, by_block = block_path(model), {}
    for name, module in model.named_modules():
        gate_up, down = getattr(module, "gate_up_proj", None), getattr(module, "down_proj", None)
        if isinstance(gate_up, nn.Parameter) and isinstance(down, nn.Parameter) and gate_up.dim() == 3:
            by_block[name] = (gate_up, down)
    found, watched = [], routers(model)
    for name, (gate_up, down) in by_block.items():
        holder = name.rpartition(".")[0]
        router = next((module for other, module in watched.items() if other.startswith(f"{holder}.")), None)
        if router is None or gate_up.shape[1] != 2 * down.shape[2]:
            raise UnsupportedArchitecture(
                f"the experts of {type(model).__name__} are no stacked gated FFNs with a router"
            )
        inside = {
            other: weight for other, weight in model.get_submodule(holder).named_parameters() if "shared" in other
        }
        shared = {
            key: weight for key in ("gate_proj", "up_proj", "down_proj")
            for other, weight in inside.items() if other.endswith(f"{key}.weight")
        }  # fmt: skip
        gate = next((weight for weight in inside.values() if weight.shape == (1, down.shape[1])), None)
        found.append(
            Mixture(
                name=holder, gate_up=gate_up.data, down=down.data, router=router,
                shared={key: weight.data for key, weight in shared.items()},
                shared_gate=None if gate is None else gate.data,
            )
        )  # fmt: skip
    if len(found) != len(decoder_layers(model)):
        raise UnsupportedArchitecture(f"{type(model).__name__} has no stacked experts in every block of {path}")
    return found


def router_rows(mixture: Mixture) -> Tensor:
    """The rows [E, d] of a block's router."""
    experts, width = len(mixture.down), mixture.down.shape[1]
    rows = [weight for weight in mixture.router.parameters() if tuple(weight.shape) == (experts, width)]
    return rows[0].data


def split_queries(state: dict[str, Tensor], sizes: tuple[int, int, int], wanted: Any) -> dict[str, Tensor]:
    """A state in which fused `qkv_proj` matrices are three, where `wanted` has three; sizes: rows of each."""
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        parts = [name.replace("qkv_proj", part) for part in ("q_proj", "k_proj", "v_proj")]
        if "qkv_proj" in name and parts[0] in wanted and len(tensor) == sum(sizes):
            split |= dict(zip(parts, torch.split(tensor, list(sizes)), strict=True))
        else:
            split[name] = tensor
    return split


def _unlike(model: Model, why: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(
        f"{type(model).__name__} cannot be upcycled: {why}, but a gated FFN per block is needed"
    )
