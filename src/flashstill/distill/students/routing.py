"""Observe routed experts: which are chosen, what they contribute, and which of their neurons are active.

In transformers a block's experts are one module with stacked weights, called with the tokens, the experts chosen for
each token and their weights.  Llama 4 instead gives every expert all tokens, times a score that is zero where the
expert is not chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from flashstill.distill.models import Model
from flashstill.distill.students.axes import Group


def routed_call(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Tokens [N, d], chosen experts [N, k] and their weights [N, k] of a call of an experts module; None if unlike."""
    tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    if len(tensors) != 3:
        return None
    hidden, chosen, weights = tensors
    if chosen.is_floating_point() or not weights.is_floating_point() or chosen.shape != weights.shape:
        return None
    return hidden.reshape(-1, hidden.shape[-1]), chosen, weights


def experts_modules(model: Model, inside: str) -> dict[str, nn.Module]:
    """Modules below `inside` that may hold routed experts, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if name.startswith(f"{inside}.") and "experts" in type(module).__name__.lower()
    }


def learned_only(call: tuple[Tensor, Tensor, Tensor], learned: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of a call of experts that count. learned [B, L]: True there, None for all."""
    if learned is None or learned.numel() != len(call[0]):
        return call
    kept = learned.flatten().to(call[0].device)
    return call[0][kept], call[1][kept], call[2][kept]


def watch_experts(
    model: Model, groups: Sequence[Group], learned: Tensor | None = None
) -> tuple[dict[str, Tensor], list[RemovableHandle]]:
    """REAP's scores [experts] by group, filled in during the next forward pass, and the hooks that do so.

    learned [B, L]: the places that count, None for all.
    """
    scores: dict[str, Tensor] = {}
    handles: list[RemovableHandle] = []
    for group in groups:
        for module in experts_modules(model, group.name).values():
            handles.append(module.register_forward_hook(_look(group, scores, learned), with_kwargs=True))
    return scores, handles


def _look(group: Group, scores: dict[str, Tensor], learned: Tensor | None) -> Any:
    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = routed_call(args, kwargs)
        if call is not None:
            scores[group.name] = reap(module, learned_only(call, learned), group.units)
        elif len(args) == 1 and isinstance(output, Tensor) and args[0].shape[0] % group.units == 0:
            scores[group.name] = _of_scaled(args[0], output, group.units, learned)

    return look


def reap(module: Any, call: tuple[Tensor, Tensor, Tensor], experts: int) -> Tensor:
    """Mean over the tokens routed to each expert of gate weight x norm of the expert's output; [experts]."""
    hidden, chosen, weights = call
    found = torch.zeros(experts)
    for expert in range(experts):
        tokens, places = torch.where(chosen == expert)
        if len(tokens):
            own = chosen.new_full((len(tokens), 1), expert)
            alone = module.forward(hidden[tokens], own, torch.ones_like(own, dtype=weights.dtype))
            norms = alone.float().norm(dim=-1)
            found[expert] = float((weights[tokens, places].float() * norms).mean())
    return found


def _of_scaled(inputs: Tensor, output: Tensor, experts: int, learned: Tensor | None) -> Tensor:
    """As `reap`, of experts whose inputs [experts x N, d] are scaled by their weights, zero if not chosen."""
    is_routed = (inputs != 0).any(-1).view(experts, -1)
    if learned is not None and learned.numel() == is_routed.shape[1]:
        is_routed = is_routed & learned.flatten().to(inputs.device)
    norms = output.reshape(experts, -1, output.shape[-1]).float().norm(dim=-1)
    means: Tensor = (norms * is_routed).sum(-1) / is_routed.sum(-1).clamp_min(1)
    return means.cpu()


class _Contractions(TorchFunctionMode):
    """Sees every product whose second factor is a slice of a stacked weight [experts, ., .]."""

    def __init__(
        self, stacked: Mapping[int, tuple[str, Tensor]], seen: dict[str, list[Tensor]], learned: Tensor | None
    ) -> None:
        super().__init__()
        self.stacked, self.seen, self.learned = stacked, seen, learned
        self.is_again = False
        """whether the experts run a second time, for the tokens that count alone"""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("linear", "matmul", "__matmul__", "bmm", "mm") and len(args) > 1 and isinstance(args[1], Tensor):
            self._see(args[0], args[1])
        return func(*args, **(kwargs or {}))

    def _see(self, values: Tensor, weight: Tensor) -> None:
        for start, (name, whole) in self.stacked.items():
            offset = weight.data_ptr() - start
            step = whole[0].numel() * whole.element_size()
            if not 0 <= offset < step * len(whole):
                continue
            sums, counts = self.seen[name]
            if weight.dim() == 3:
                if self.learned is not None and self.learned.numel() == values.shape[1]:
                    values = values[:, self.learned.flatten().to(values.device)]
                sums += values.detach().float().abs().sum(1).cpu()
                counts += values.shape[1]
            elif weight.shape == whole.shape[1:] and (self.learned is None or self.is_again):
                expert = offset // step
                sums[expert] += values.detach().float().abs().flatten(0, -2).sum(0).cpu()
                counts[expert] += values.flatten(0, -2).shape[0]


def _run_again(model: Model, groups: Mapping[str, Group], contractions: _Contractions) -> list[RemovableHandle]:
    """Hooks that let routed experts run again for the tokens that count."""

    def look(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        call = routed_call(args, kwargs)
        if call is not None and not contractions.is_again:
            contractions.is_again = True
            try:
                module.forward(*learned_only(call, contractions.learned))
            finally:
                contractions.is_again = False

    modules = {id(module): module for name in groups for module in (model.get_submodule(name),)}
    modules |= {id(module): module for name in groups for module in experts_modules(model, name).values()}
    return [module.register_forward_hook(look, with_kwargs=True) for module in modules.values()]


@contextmanager
def watch_neurons(
    model: Model, groups: Mapping[str, Group], learned: Tensor | None = None
) -> Iterator[dict[str, Tensor]]:
    """Mean activations [experts, neurons] by group of a forward pass inside this context.

    learned [B, L]: the places that count, None for all.  The experts compute one after the other, so that each product
    with the weights of one expert is seen; they do so again for the places that count, as an expert does not say which
    tokens it was given.
    """
    if not groups:
        yield {}
        return
    state = model.state_dict()
    stacked: dict[int, tuple[str, Tensor]] = {}
    seen: dict[str, list[Tensor]] = {}
    for name, group in groups.items():
        widest = max(len(state[side.tensor].shape) for side in group.sides)
        readers = [side for side in group.sides if side.parts == (1,) and state[side.tensor].dim() == widest]
        last = state[readers[-1].tensor]  # the matrix that leads back to the stream; a gate of its own comes before
        stacked[last.data_ptr()] = (name, last)
        seen[name] = [torch.zeros(group.copies, group.units), torch.zeros(group.copies, 1)]
    found: dict[str, Tensor] = {}
    before = model.config._experts_implementation
    model.set_experts_implementation("eager")
    contractions = _Contractions(stacked, seen, learned)
    again = [] if learned is None else _run_again(model, groups, contractions)
    try:
        with contractions:
            yield found
    finally:
        for handle in again:
            handle.remove()
        model.config._experts_implementation = before
    for name, (sums, counts) in seen.items():
        found[name] = sums / counts.clamp_min(1)
