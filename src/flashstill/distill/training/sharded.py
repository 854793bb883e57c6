"""Training over several processes: FSDP2, started by torchrun; gloo on CPUs, NCCL on GPUs.

Every process holds a float32 shard of each parameter, of its gradient and of its moments; blocks are gathered in
bfloat16 when they are computed, and gradients are reduced in float32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flashstill.distill.models.devices import current
from flashstill.distill.training.mixed_precision import adamw
from flashstill.distill.training.recipe import TrainRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """The processes of a run; a single one if not started by torchrun."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes the files that are written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            dist.barrier()

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0, on all processes."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def all_gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def total(self, value: float) -> float:
        """The sum over all processes."""
        if self.size == 1:
            return value
        summed = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return float(summed)


def join_world() -> World:
    """Rank and size from torchrun's environment variables; initialises the process group on the first call."""
    size, device = int(os.environ.get("WORLD_SIZE", "1")), current()
    if size > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return World(rank=int(os.environ.get("RANK", "0")), size=size, device=device)


class Sharded:
    """The optimiser of a model sharded over processes; same interface as MixedPrecisionAdamW."""

    def __init__(self, module: nn.Module, blocks: nn.ModuleList, recipe: TrainRecipe, world: World) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self.clip_norm, self.module = recipe.clip_norm, module
        format_ = next(module.parameters()).dtype
        module.float()
        mesh = init_device_mesh(world.device.type, (world.size,))
        policy = MixedPrecisionPolicy(
            param_dtype=None if format_ == torch.float32 else format_, reduce_dtype=torch.float32
        )
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(module, mesh=mesh, mp_policy=policy)
        self.weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.optimizer = adamw(list(self.weights.values()), recipe)

    def collect(self) -> None:
        """Does nothing: FSDP accumulates the gradients of several micro-steps in float32."""

    def apply(self, rate: float) -> float:
        """One optimiser step; returns the gradient norm before clipping. Skips the update if the norm is not finite."""
        norm: Any = torch.nn.utils.clip_grad_norm_(self.weights.values(), self.clip_norm)
        grad_norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if math.isfinite(grad_norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        return grad_norm

    def tensors(self) -> dict[str, Tensor]:
        """This process's share of master weights and moments, by the names of the parameters."""
        shares: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            moments = self.optimizer.state[weight]
            shares[f"master/{name}"] = _share(weight)
            shares[f"exp_avg/{name}"] = _share(moments["exp_avg"])
            shares[f"exp_avg_sq/{name}"] = _share(moments["exp_avg_sq"])
        return shares

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore from unsharded tensors: every process keeps its shard; nothing is communicated."""
        from torch.distributed.tensor import distribute_tensor

        def cut(name: str, like: Any) -> Any:
            whole = tensors[name].to(like.device)
            own = distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
            return own.clone()  # a view would keep the whole tensor in memory

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(cut(f"master/{name}", weight))
                self.optimizer.state[weight] = {
                    "step": torch.tensor(float(step), device=weight.device),
                    "exp_avg": cut(f"exp_avg/{name}", weight),
                    "exp_avg_sq": cut(f"exp_avg_sq/{name}", weight),
                }

    def whole(self) -> dict[str, Tensor]:
        """All weights, gathered on every process; a collective call."""
        return {name: _whole(each) for name, each in self.module.state_dict().items()}


def _whole(tensor: Any) -> Tensor:
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _share(tensor: Any) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach()
