"""Load balance of routed experts: counts for every router, a bias that evens the load, or an auxiliary loss.

    bias    b_e += rate sign(mean load - load_e) after every step; only of routers with a correction bias, which affects
            the choice of experts but not their weights (Wang et al. 2024, "Auxiliary-Loss-Free Load Balancing")
    loss    E sum_e f_e P_e, the mean over routers, times a coefficient (Fedus et al. 2022, "Switch Transformers",
            equations 4 to 6; with k experts a token f sums to k, as in transformers' load_balancing_loss_func)
            f_e: tokens of expert e / tokens; P_e: mean probability that the router gives e; only P has a gradient

Unlike that function, which mixes the tokens of all layers, every router is balanced by itself.  f and P are those of
one pass: with several passes a step, or several processes, the loss is the mean of theirs, weighted by tokens.

The gradient of the loss enters where the router's weights leave it, so that training, sharded or not, needs no change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from flashstill.arch.adapter.axes import EXPERT_COUNT, choices, chosen_experts, units
from flashstill.distill.models import Model
from flashstill.distill.models.devices import widest
from flashstill.errors import BadInput

_ROUTER = re.compile(r"(Router|Gating|MoEGate|MoEV1Gate)$", re.IGNORECASE)
_BIAS = re.compile(r"(correction_bias|expert_bias)$")


class LoadBalance:
    """Watches all routers of a model in training, and balances them if asked; called after every step for metrics.

    rate: of the bias, 0 to leave it; coefficient: of the loss, 0 for none; step_tokens: tokens of one optimiser step,
    over all passes and processes.  Raises BadInput if there is no router, or no bias to move.
    """

    def __init__(self, model: Model, rate: float = 0.0, coefficient: float = 0.0, step_tokens: int = 0) -> None:
        self.rate, self.coefficient, self.step_tokens = rate, coefficient, step_tokens
        self.routers, self.per_token = check_balance(model, rate), chosen_experts(model.config)
        self.loads: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        for name, router in self.routers.items():
            router.register_forward_hook(self._watch(name))

    @property
    def of_a_pass(self) -> str:
        """The key of what another number of windows a pass changes; empty if nothing."""
        return "student.balance_loss" if self.coefficient else ""

    def _watch(self, name: str) -> Any:
        def look(module: nn.Module, args: object, output: Any) -> Any:
            routing = read_routing(output, self.per_token)
            if not module.training or routing is None:
                return None
            logits, chosen, place = routing
            counts = torch.bincount(chosen.detach().flatten(), minlength=logits.shape[-1])[: logits.shape[-1]]
            counts = counts.to(widest(counts.device))
            self.loads[name] = self.loads[name] + counts if name in self.loads else counts
            if not self.coefficient or not torch.is_grad_enabled():
                return None
            loss = balance_loss(logits, chosen)
            self.losses.append(loss.detach())
            return _replaced(output, place, self._share(len(logits)) * loss)

        return look

    def _share(self, tokens: int) -> float:
        """Factor of one router's loss in one pass; gradients are averaged over processes."""
        processes = dist.get_world_size() if dist.is_initialized() else 1
        return self.coefficient * processes * tokens / max(self.step_tokens, tokens) / len(self.routers)

    def __call__(self, model: Model, step: int) -> dict[str, float]:
        """Update the biases; returns max / mean load of the worst router, experts without tokens, and the loss."""
        if (self.rate or self.coefficient) and not self.loads:
            raise BadInput(f"the routers of {type(model).__name__} do not say what they chose; they cannot be balanced")
        fullest, idle, biases = 0.0, 0, bias_buffers(model)  # new ones, if the model was on meta at first
        for name in sorted(self.loads):
            load = self.loads[name]
            if dist.is_initialized():
                dist.all_reduce(load)
            mean = load.mean()
            bias = _bias_of(name, biases)
            if self.rate and bias is not None:
                bias += (self.rate * torch.sign(mean - load)).to(bias.dtype).view_as(bias)
            fullest = max(fullest, float(load.max() / mean.clamp_min(1.0)))
            idle += int((load == 0).sum())
        row = {"fullest_expert": round(fullest, 4), "idle_experts": float(idle)}
        if self.losses:
            total = torch.stack(self.losses).mean()
            if dist.is_initialized():
                dist.all_reduce(total)
                total /= dist.get_world_size()
            row["balance_loss"] = round(float(total), 6)
        self.loads.clear()
        self.losses.clear()
        return row


def check_balance(model: Model, rate: float) -> dict[str, nn.Module]:
    """The routers of a model, with weights or without; BadInput if there are none, or no bias that `rate` moves."""
    found, name = routers(model), type(model).__name__
    if not found:
        raise BadInput(
            f"{name} has no router of experts to balance; leave student.balance_rate and student.balance_loss out"
        )
    if rate and not bias_buffers(model):
        raise BadInput(f"the routers of {name} have no correction bias that balance_rate could move; use balance_loss")
    return found


def _bias_of(router: str, biases: Mapping[str, Tensor]) -> Tensor | None:
    """The bias in the router or in the block that holds it."""
    holder = router.rpartition(".")[0]
    inside = [name for name in biases if name.startswith(f"{router}.")]
    beside = [name for name in biases if name.rpartition(".")[0] == holder]
    return biases[(inside or beside)[0]] if inside or beside else None


class _WithLoss(torch.autograd.Function):
    """The first argument, through which the gradient of the second, a loss, enters the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, loss: Tensor) -> Tensor:
        ctx.kind = loss.dtype, loss.device
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        dtype, device = ctx.kind
        return grad, torch.ones((), dtype=dtype, device=device)


def _replaced(output: Any, place: int, loss: Tensor) -> Any:
    if isinstance(output, Tensor):
        return _WithLoss.apply(output, loss)  # type: ignore[no-untyped-call]
    changed = list(output)
    changed[place] = _WithLoss.apply(changed[place], loss)  # type: ignore[no-untyped-call]
    return tuple(changed)


def balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """E sum_e f_e P_e of router logits [N, E] and the experts chosen [N, k]; between k and E k, k if even."""
    experts = logits.shape[-1]
    probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    shares = torch.bincount(chosen.flatten(), minlength=experts)[:experts].to(probabilities) / len(logits)
    return experts * (shares * probabilities.mean(0)).sum()


def read_routing(output: Any, per_token: int) -> tuple[Tensor, Tensor, int] | None:
    """Router logits [N, E], chosen experts [N, k], and the place of its weights in a router's output; None if unlike.

    Routers of transformers return logits, weights and indices; Llama 4's returns scores of all experts and logits,
    DBRX's only logits.  per_token: experts per token, for the latter two.
    """
    values = [each for each in (output if isinstance(output, tuple) else (output,)) if isinstance(each, Tensor)]
    floats = [index for index, each in enumerate(values) if each.is_floating_point()]
    indices = [each for each in values if not each.is_floating_point()]
    if len(values) == 3 and len(indices) == 1 and len(floats) == 2:
        logits, chosen = values[floats[0]], indices[0]
        is_distribution = bool((logits >= 0).all()) and bool((logits.sum(-1) - 1).abs().max() < 1e-3)
        logits = logits.clamp_min(1e-9).log() if is_distribution else logits  # Gemma 4 returns probabilities
        return logits.flatten(0, -2), chosen.flatten(0, -2), floats[1]
    if len(values) == 2 and len(floats) == 2 and values[0].shape == values[1].shape:
        return values[1], values[0].topk(max(per_token, 1), dim=-1).indices, 0
    if isinstance(output, Tensor) and output.dim() == 2:
        return output, output.topk(max(per_token, 1), dim=-1).indices, 0
    return None


def routers(model: Model) -> dict[str, nn.Module]:
    """The routers of a model's experts, by name: modules so called with one row of weights for each expert."""
    names = next(choices(model.config, EXPERT_COUNT), None)
    if names is None:
        return {}
    experts = units(model.config, names)
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        is_router = bool(_ROUTER.search(type(module).__name__))
        holds_rows = any(weight.dim() == 2 and len(weight) >= experts for weight in module.parameters())
        if is_router and holds_rows and not any(name.startswith(f"{other}.") for other in found):
            found[name] = module
    return found


def bias_buffers(model: Model) -> dict[str, Tensor]:
    """The correction biases that are state of the model but not trained by gradients, by name."""
    return {name: buffer for name, buffer in model.named_buffers() if _BIAS.search(name)}
