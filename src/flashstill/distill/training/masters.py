"""Weights in bfloat16, masters and AdamW in float32 (Micikevicius et al. 2018, section 3.1), on one device.

Gradients stay in the weights' own format until they are used: they are widened for a group of parameters at a time, so
that no third copy of the model in float32 is ever held.  Several passes a step add up in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flashstill.distill.training.recipe import TrainRecipe

GROUP_ELEMENTS = 2**24
ADAM_BETAS = (0.9, 0.95)


class Masters:
    """The optimiser of a model that one process holds."""

    def __init__(self, module: nn.Module, recipe: TrainRecipe) -> None:
        self.clip_norm = recipe.clip_norm
        # a tied head appears once
        self.weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.masters = {
            name: weight if weight.dtype == torch.float32 else weight.detach().float().clone()
            for name, weight in self.weights.items()
        }
        self._sums: dict[str, Tensor] = {}
        self._groups = [
            (names, adamw([self.masters[name] for name in names], recipe)) for names in _groups(self.weights)
        ]

    def collect(self) -> None:
        """Add the gradients of one of several passes to their sums."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if name in self._sums:
                self._sums[name].add_(weight.grad)
            else:
                self._sums[name] = weight.grad.float()
            weight.grad = None

    def apply(self, rate: float) -> float:
        """One optimiser step; returns the gradient's norm before clipping. Nothing moves where it is not finite."""
        found = self._sums or {name: each.grad for name, each in self.weights.items() if each.grad is not None}
        squares = [torch.linalg.vector_norm(grad, dtype=torch.float32) ** 2 for grad in found.values()]
        norm = math.sqrt(float(torch.stack(squares).sum())) if squares else 0.0
        if math.isfinite(norm):
            scale = min(1.0, self.clip_norm / (norm + 1e-6))
            for names, optimizer in self._groups:
                self._step(names, optimizer, found, scale, rate)
        self._sums.clear()
        for weight in self.weights.values():
            weight.grad = None
        return norm

    def _step(
        self, names: list[str], optimizer: torch.optim.Optimizer, grads: dict[str, Tensor], scale: float, rate: float
    ) -> None:
        for name in names:
            master = self.masters[name]
            master.grad = grads[name].float().mul_(scale) if name in grads else torch.zeros_like(master)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        with torch.no_grad():
            for name in names:
                self.masters[name].grad = None
                if self.masters[name] is not self.weights[name]:
                    self.weights[name].copy_(self.masters[name])

    def tensors(self) -> dict[str, Tensor]:
        """Masters and moments, by the names of the parameters."""
        found: dict[str, Tensor] = {}
        for names, optimizer in self._groups:
            for name in names:
                master = self.masters[name]
                found[f"master/{name}"] = master.detach()
                found[f"exp_avg/{name}"] = optimizer.state[master]["exp_avg"]
                found[f"exp_avg_sq/{name}"] = optimizer.state[master]["exp_avg_sq"]
        return found

    def restore(self, tensors: dict[str, Tensor], step: int) -> None:
        """Go on from what `tensors` gave after `step` steps."""
        with torch.no_grad():
            for names, optimizer in self._groups:
                for name in names:
                    master = self.masters[name]
                    master.copy_(tensors[f"master/{name}"])
                    if master is not self.weights[name]:
                        self.weights[name].copy_(master)
                    optimizer.state[master] = {
                        "step": torch.tensor(float(step)),
                        "exp_avg": tensors[f"exp_avg/{name}"].to(master.device).clone(),
                        "exp_avg_sq": tensors[f"exp_avg_sq/{name}"].to(master.device).clone(),
                    }


def adamw(weights: Sequence[Tensor], recipe: TrainRecipe) -> torch.optim.AdamW:
    """AdamW over float32 weights; norms and biases do not decay."""
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if weight.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [weight for weight in weights if weight.dim() <= 1], "weight_decay": 0.0},
    ]
    held = [group for group in groups if group["params"]]
    return torch.optim.AdamW(held, lr=recipe.learning_rate, betas=ADAM_BETAS, fused=True)


def _groups(weights: dict[str, nn.Parameter]) -> list[list[str]]:
    """Names in their order, cut where a group would grow beyond GROUP_ELEMENTS."""
    groups: list[list[str]] = []
    held = GROUP_ELEMENTS + 1
    for name, weight in weights.items():
        if held + weight.numel() > GROUP_ELEMENTS:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += weight.numel()
    return groups
