"""bfloat16 weights with float32 master weights and AdamW (Micikevicius et al. 2018, section 3.1), on one device.

Gradients stay in the weights' dtype until they are used.  A step updates the parameters in pieces that fit the
cache (widen, scale, step, round back): memory is read and written once, and gradients need no full float32 copy.
Gradients of several micro-steps are accumulated in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as adamw_step

from flashstill.distill.training.recipe import TrainRecipe

ON_CPU, ON_GPU = 2**20, 2**24
ADAM_BETAS = (0.9, 0.95)
ADAM_EPSILON = 1e-8


def piece_elements(device: torch.device) -> int:
    """Elements updated at a time: the fastest on two cores (docs/log.md); on a GPU enough to keep it busy."""
    return ON_CPU if device.type == "cpu" else ON_GPU


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """Elements `first` to `last` of a flattened parameter."""

    name: str
    first: int
    last: int

    def of(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The elements as a view of the parameter's tensor, which must be contiguous."""
        return tensors[self.name].detach().reshape(-1)[self.first : self.last]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Piece:
    """Parts of parameters that the optimiser updates together."""

    parts: tuple[_Part, ...]
    weight_decay: float

    def of(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """Views of all parts."""
        return [part.of(tensors) for part in self.parts]

    def widened(self, grads: Mapping[str, Tensor], space: Tensor) -> list[Tensor]:
        """The gradients of the parts in float32, written into `space`; zeros where a parameter has no gradient."""
        sizes = [part.last - part.first for part in self.parts]
        views = list(torch.split(space[: sum(sizes)], sizes))
        known = [(view, part.of(grads)) for part, view in zip(self.parts, views, strict=True) if part.name in grads]
        if len(known) < len(views):
            space[: sum(sizes)].zero_()
        if known:
            torch._foreach_copy_([view for view, _ in known], [gradient for _, gradient in known])
        return views


class MixedPrecisionAdamW:
    """The optimiser of an unsharded model."""

    def __init__(self, module: nn.Module, recipe: TrainRecipe) -> None:
        self.clip_norm, self.format = recipe.clip_norm, format_of_passes(module)
        # a tied head appears once
        self.weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        for weight in self.weights.values():
            weight.data = weight.data.contiguous()  # so that slices of it are views
        self.masters = {
            name: weight.detach() if weight.dtype == torch.float32 else weight.detach().float()
            for name, weight in self.weights.items()
        }
        self.exp_avg = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        self.exp_avg_sq = {name: torch.zeros_like(master) for name, master in self.masters.items()}
        self._step = 0
        self._sums: dict[str, Tensor] = {}
        device = next(iter(self.weights.values())).device
        self._pieces = _pieces(self.weights, piece_elements(device), recipe.weight_decay)
        largest = max(sum(part.last - part.first for part in piece.parts) for piece in self._pieces)
        self._space = torch.empty(largest, dtype=torch.float32, device=device)

    def collect(self) -> None:
        """Add the gradients of one micro-step to their float32 sums."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if name in self._sums:
                self._sums[name].add_(weight.grad)
            else:
                self._sums[name] = weight.grad.float()
            weight.grad = None

    def apply(self, rate: float) -> float:
        """One optimiser step; returns the gradient norm before clipping. Skips the update if the norm is not finite."""
        gradients = self._sums or {name: each.grad for name, each in self.weights.items() if each.grad is not None}
        squares = [torch.dot(wide, wide) for piece in self._pieces for wide in self._to_square(piece, gradients)]
        norm = math.sqrt(float(torch.stack(squares).sum()))
        if math.isfinite(norm):
            self._step += 1
            scale = min(1.0, self.clip_norm / (norm + 1e-6))
            for piece in self._pieces:
                self._apply(piece, gradients, scale, rate)
        self._sums.clear()
        for weight in self.weights.values():
            weight.grad = None
        return norm

    def _to_square(self, piece: _Piece, grads: Mapping[str, Tensor]) -> list[Tensor]:
        """A piece's gradients in float32, by parameter; on a GPU as one tensor, which takes one product for all."""
        wide = piece.widened(grads, self._space)
        return wide if self._space.device.type == "cpu" else [self._space[: sum(each.numel() for each in wide)]]

    @torch.no_grad()
    def _apply(self, piece: _Piece, grads: Mapping[str, Tensor], scale: float, rate: float) -> None:
        masters = piece.of(self.masters)
        scaled = piece.widened(grads, self._space)
        torch._foreach_mul_(scaled, scale)
        # made on the device: a GPU would be waited for once a parameter if they came from the CPU
        steps = torch.full((len(masters),), self._step - 1.0, dtype=torch.float32, device=masters[0].device)
        adamw_step(
            masters, scaled, piece.of(self.exp_avg), piece.of(self.exp_avg_sq), [], list(steps.unbind()), fused=True,
            amsgrad=False, beta1=ADAM_BETAS[0], beta2=ADAM_BETAS[1], lr=rate, weight_decay=piece.weight_decay,
            eps=ADAM_EPSILON, maximize=False,
        )  # fmt: skip
        pairs = zip(piece.of(self.weights), masters, strict=True)
        narrower = [(weight, master) for weight, master in pairs if weight.dtype != master.dtype]
        if narrower:
            torch._foreach_copy_([weight for weight, _ in narrower], [master for _, master in narrower])

    def tensors(self) -> dict[str, Tensor]:
        """Master weights and moments, by the names of the parameters."""
        state = {"master": self.masters, "exp_avg": self.exp_avg, "exp_avg_sq": self.exp_avg_sq}
        return {f"{kind}/{name}": tensor for kind, of in state.items() for name, tensor in of.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Restore the state that `tensors` returned after `step` steps."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for name, weight in self.weights.items():
            weight.copy_(self.masters[name])
        self._step = step

    def stored(self, name: str, tensor: Tensor) -> Tensor:
        """What is written of a tensor of the parameter `name`: all of it."""
        return tensor

    def settle(self) -> None:
        """Does nothing: a pass without gradients leaves nothing behind."""

    def kept_weights(self) -> dict[str, Tensor]:
        """Copies of the trained weights in CPU memory, in their own format."""
        return {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}

    def own_weights(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """What `kept_weights` returned, from a checkpoint in which the names begin with `prefix`."""
        return {name: tensors[prefix + name] for name in self.weights}

    @torch.no_grad()
    def put_weights(self, kept: Mapping[str, Tensor]) -> None:
        """Give the model the weights that `kept_weights` returned; training does not go on from them."""
        for name, weight in self.weights.items():
            weight.copy_(kept[name])


def format_of_passes(module: nn.Module) -> torch.dtype:
    """The dtype of a model's matrix products: the narrowest of its parameters, of which some are kept wider."""
    return min((each.dtype for each in module.parameters()), key=lambda dtype: dtype.itemsize)


def adamw(weights: Mapping[str, Tensor], recipe: TrainRecipe) -> torch.optim.AdamW:
    """torch's AdamW over float32 weights, by name, with the settings of the recipe; sharded ones are stepped apart."""
    groups: dict[tuple[float, type], list[Tensor]] = {}
    for name, weight in weights.items():
        decay = recipe.weight_decay if decays(name, weight) else 0.0
        groups.setdefault((decay, type(weight.data)), []).append(weight)
    filled = [{"params": group, "weight_decay": decay} for (decay, _), group in groups.items()]
    return torch.optim.AdamW(filled, lr=recipe.learning_rate, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)


def decays(name: str, weight: Tensor) -> bool:
    """Whether weight decay applies: not to norms and biases, nor to the logarithms of a state space's decay rates, a
    matrix in Mamba, which it would pull towards one rate for all."""
    return weight.dim() > 1 and not name.endswith("A_log")


def _pieces(weights: Mapping[str, Tensor], elements: int, weight_decay: float) -> list[_Piece]:
    """All parameters in pieces of at most `elements`; parameters with and without weight decay in separate pieces."""
    pieces: list[_Piece] = []
    for decay, chosen in (
        (weight_decay, [name for name, weight in weights.items() if decays(name, weight)]),
        (0.0, [name for name, weight in weights.items() if not decays(name, weight)]),
    ):
        parts: list[_Part] = []
        room = elements
        for name in chosen:
            first, size = 0, weights[name].numel()
            while first < size:
                last = min(size, first + room)
                parts.append(_Part(name=name, first=first, last=last))
                room, first = room - (last - first), last
                if room == 0:
                    pieces.append(_Piece(parts=tuple(parts), weight_decay=decay))
                    parts, room = [], elements
        if parts:
            pieces.append(_Piece(parts=tuple(parts), weight_decay=decay))
    return pieces
