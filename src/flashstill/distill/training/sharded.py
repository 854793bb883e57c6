"""Training over several processes: FSDP2, started by torchrun; gloo on CPUs, NCCL on GPUs.

Every process holds a float32 shard of each parameter, of its gradient and of its moments; blocks are gathered in
bfloat16 when they are computed, and gradients are reduced in float32.  Parameters that a 16-bit model has in float32
(routers, rates of state spaces) are small: every process holds them whole, as FSDP would gather them in 16 bits too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flashstill.distill.models.devices import current
from flashstill.distill.models.empty import Files, allocated, fill_buffers
from flashstill.distill.training.mixed_precision import adamw, format_of_passes
from flashstill.distill.training.recipe import TrainRecipe
from flashstill.errors import BadInput


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
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ  # which may start a single process, to be sharded or not
    if (size > 1 or by_torchrun) and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=30))
    return World(rank=int(os.environ.get("RANK", "0")), size=size, device=device)


@runtime_checkable
class Parts(Protocol):
    """Tensors of which rows can be read without the others."""

    def part(self, name: str, rows: slice) -> Tensor:
        """Some rows of a tensor."""
        ...


class Sharded:
    """The optimiser of a model sharded over processes; same interface as MixedPrecisionAdamW."""

    def __init__(
        self, module: nn.Module, blocks: nn.ModuleList, recipe: TrainRecipe, world: World, files: Files | None = None
    ) -> None:
        """files: where the weights of a module on meta lie, without its first prefix; each process reads its shards."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        self.clip_norm, self.module, self.world = recipe.clip_norm, module, world
        self.format = format_ = format_of_passes(module)
        wide = {name: each for name, each in module.named_parameters() if each.dtype != format_}
        if numbers := [name for name, each in module.named_parameters() if not each.ndim]:
            raise BadInput(
                f"{numbers[0].partition('.')[2]} is a single number, which has no rows that several processes could"
                " hold a part of; train this model in one process, without torchrun"
            )
        module.float()
        mesh = init_device_mesh(world.device.type, (world.size,))
        policy = MixedPrecisionPolicy(
            param_dtype=None if format_ == torch.float32 else format_, reduce_dtype=torch.float32,
            cast_forward_inputs=False,  # states between blocks may be wider, as in one process
        )  # fmt: skip
        whole = set(wide.values())
        for block in blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=whole)
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=whole)
        if files is not None:
            allocated(module, world.device)
            fill_buffers(next(module.children()), files)
        self.weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.whole = {name: weight for name, weight in self.weights.items() if name in wide}
        if files is not None:
            _read_shards(dict(module.named_parameters()), files)
        self.optimizer = adamw(self.weights, recipe)

    def collect(self) -> None:
        """Does nothing: FSDP accumulates the gradients of several micro-steps in float32."""

    def apply(self, rate: float) -> float:
        """One optimiser step; returns the gradient norm before clipping. Skips the update if the norm is not finite."""
        kinds = self._gradients()
        norms: list[Any] = [torch.nn.utils.get_total_norm(gradients) for gradients in kinds if gradients]
        norm = math.hypot(*(float(each.full_tensor() if hasattr(each, "full_tensor") else each) for each in norms))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if math.isfinite(norm):
            for gradients in filter(None, kinds):
                torch._foreach_mul_(gradients, min(1.0, self.clip_norm / (norm + 1e-6)))
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def _gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """The gradients of sharded weights, and of those that every process holds whole: the mean over processes, which
        FSDP leaves out."""
        sharded, whole = list[Tensor](), list[Tensor]()
        for name, weight in self.weights.items():
            if weight.grad is None:  # of a layer that no token reached; it decays all the same
                weight.grad = torch.zeros_like(weight)
            (whole if name in self.whole else sharded).append(weight.grad)
        if whole and self.world.size > 1:
            summed = torch.cat([each.flatten() for each in whole])
            dist.all_reduce(summed)
            means = torch.split(summed / self.world.size, [each.numel() for each in whole])
            for gradient, mean in zip(whole, means, strict=True):
                gradient.copy_(mean.view_as(gradient))
        return sharded, whole

    def tensors(self) -> dict[str, Tensor]:
        """This process's share of master weights and moments, by the names of the parameters."""
        shares: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            moments = self.optimizer.state[weight]
            shares[f"master/{name}"] = weight
            shares[f"exp_avg/{name}"] = moments["exp_avg"]
            shares[f"exp_avg_sq/{name}"] = moments["exp_avg_sq"]
        return {name: self.stored(name.partition("/")[2], _share(each)) for name, each in shares.items()}

    def stored(self, name: str, tensor: Tensor) -> Tensor:
        """What this process writes of a tensor of the parameter `name`: what all hold whole, the first one writes."""
        return tensor[:0] if name in self.whole and not self.world.is_main else tensor

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore from the tensors of all processes: each reads its own shards; nothing is communicated."""
        with torch.no_grad():
            for name, weight in self.weights.items():
                _share(weight).copy_(_cut(tensors, f"master/{name}", weight))
                moments = {each: torch.zeros_like(weight) for each in ("exp_avg", "exp_avg_sq")}
                for each, moment in moments.items():
                    _share(moment).copy_(_cut(tensors, f"{each}/{name}", weight))
                self.optimizer.state[weight] = {"step": torch.tensor(float(step), device=weight.device), **moments}

    def settle(self) -> None:
        """Free the weights that a pass without gradients has gathered."""
        self.module.reshard()  # type: ignore[operator]

    def kept_weights(self) -> dict[str, Tensor]:
        """Copies of this process's shards of the trained weights in CPU memory, in the format of passes, and of what
        every process holds whole in float32."""
        return {
            name: _share(each).to("cpu", torch.float32 if name in self.whole else self.format, copy=True)
            for name, each in self.weights.items()
        }

    def own_weights(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """This process's shards of what `kept_weights` returned, from the checkpoint of any number of processes."""
        return {name: _cut(tensors, prefix + name, weight) for name, weight in self.weights.items()}

    @torch.no_grad()
    def put_weights(self, kept: Mapping[str, Tensor]) -> None:
        """Give the model the weights that `kept_weights` returned; training does not go on from them."""
        for name, weight in self.weights.items():
            _share(weight).copy_(kept[name])

    def gathered(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        """All weights and buffers, one after another, by their names below `prefix`; a collective call."""
        for name, tensor in self.module.state_dict().items():
            yield name.removeprefix(prefix), _whole(tensor)


def _cut(tensors: Mapping[str, Tensor], name: str, like: Any) -> Tensor:
    """This process's part of a tensor that `like` [rows, ...] has the shape and the sharding of."""
    part = _part(like)
    if isinstance(tensors, Parts):
        return tensors.part(name, part[0])
    return tensors[name][part]


def _part(weight: Any) -> tuple[slice, ...]:
    """The slices of a sharded tensor that this process holds; at least one, as nothing is sharded to a number."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if not hasattr(weight, "placements"):
        return tuple(slice(0, size) for size in weight.shape)
    shape, first = compute_local_shape_and_global_offset(weight.shape, weight.device_mesh, weight.placements)
    return tuple(slice(start, start + size) for start, size in zip(first, shape, strict=True))


def _read_shards(weights: Mapping[str, Any], files: Files) -> None:
    """Fill sharded weights, named with a prefix, from files: each process reads its slices."""
    with torch.no_grad():
        for name, weight in weights.items():
            local = _share(weight)
            if local.numel():
                local.copy_(files.read(name.partition(".")[2], _part(weight)))


def _whole(tensor: Any) -> Tensor:
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole


def _share(tensor: Any) -> Tensor:
    local: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.detach()
