"""Gated FFNs that keep less for the backward pass than transformers does; outputs and gradients are the same.

    y = (silu(x Wg^T) * (x Wu^T)) Wd^T

transformers keeps x, gate, silu(gate), up and the product for the backward pass: 4 f + d numbers a token; here the
gate and up projections are kept and the rest is made again from them: 2 f + d.  The operations are the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu

PARTS = ("gate_proj", "up_proj", "down_proj")
WIDTH, NEURONS, ROWS = 8, 12, 5
"""sizes that a module is tried with: its own weights may be spread over processes"""


class _GatedFfn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate_weight: Tensor, up_weight: Tensor, down_weight: Tensor) -> Tensor:
        gate, up = linear(x, gate_weight), linear(x, up_weight)
        ctx.save_for_backward(x, gate, up, gate_weight, up_weight, down_weight)
        return linear(silu(gate).mul_(up), down_weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, gate, up, *weights = ctx.saved_tensors
        by_x, *wanted = ctx.needs_input_grad
        rows, gate, up, grad = (each.flatten(0, -2) for each in (x, gate, up, grad))
        activated = silu(gate)
        by_product = grad @ weights[2]
        by_down = grad.T @ (activated * up) if wanted[2] else None
        by_up = activated.mul_(by_product)
        by_gate = torch.ops.aten.silu_backward(by_product.mul_(up), gate)
        by_weights = [slope.T @ rows if asked else None for slope, asked in zip((by_gate, by_up), wanted, strict=False)]
        by_input = (by_gate @ weights[0]).add_(by_up @ weights[1]).view(x.shape) if by_x else None
        return by_input, by_weights[0], by_weights[1], by_down


def _forward(module: Any, x: Tensor) -> Tensor:
    fed: Tensor = _GatedFfn.apply(x, *(getattr(module, part).weight for part in PARTS))  # type: ignore[no-untyped-call]
    return fed


@contextmanager
def fused_ffns(model: nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Context in which gated FFNs of `model` keep less, where that is proven to change nothing of passes in `dtype`.

    Patches `forward` of their classes and restores it at the end.
    """
    kinds: dict[type[nn.Module], list[nn.Module]] = {}
    for module in model.modules():
        if all(hasattr(module, part) for part in PARTS):
            kinds.setdefault(type(module), []).append(module)
    chosen = [
        kind
        for kind, modules in kinds.items()
        if all(map(_is_plain, modules)) and all(_same(module, dtype) for module in modules)
    ]
    with forward_of(chosen, _forward):
        yield


def in_passes(weight: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype that a weight has in passes: `dtype` if it is sharded, as it is gathered so, else its own."""
    return dtype if hasattr(weight, "placements") else weight.dtype


@contextmanager
def forward_of(kinds: Sequence[type[nn.Module]], forward: Callable[..., Any]) -> Iterator[None]:
    """Context in which modules of these classes run `forward` in place of their own."""
    originals: dict[Any, Any] = {kind: kind.forward for kind in kinds}
    try:
        for kind in originals:
            kind.forward = forward
        yield
    finally:
        for kind, original in originals.items():
            kind.forward = original


def _is_plain(module: nn.Module) -> bool:
    """Whether the three projections are ordinary: of no other class (LoRA, rounding), without biases and hooks."""
    parts: list[Any] = [getattr(module, part) for part in PARTS]
    return all(
        type(part) in (nn.Linear,) and part.bias is None and not (part._forward_hooks or part._forward_pre_hooks)
        for part in parts
    )


def _same(module: Any, passes: torch.dtype | None) -> bool:
    """Whether a module, with small weights in place of its own, gives the outputs and gradients of the fused one."""
    dtype = passes or module.gate_proj.weight.dtype
    if any(in_passes(getattr(module, part).weight, dtype) != dtype for part in PARTS):
        return False
    weight = module.gate_proj.weight
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(weight.device, dtype).requires_grad_()

    shapes = ((NEURONS, WIDTH), (NEURONS, WIDTH), (WIDTH, NEURONS))
    inputs = [drawn(1, ROWS, WIDTH), *(drawn(*shape) for shape in shapes)]
    named = {f"{part}.weight": given for part, given in zip(PARTS, inputs[1:], strict=True)}
    slope = drawn(1, ROWS, WIDTH).detach()
    with torch.enable_grad():
        try:
            theirs = torch.func.functional_call(module, named, (inputs[0],))
            own: Tensor = _GatedFfn.apply(*inputs)  # type: ignore[no-untyped-call]
            if not (isinstance(theirs, Tensor) and torch.equal(theirs, own)):
                return False
            pairs = [torch.autograd.grad(output, inputs, slope) for output in (theirs, own)]
        except (TypeError, ValueError, RuntimeError):  # wants other inputs, or gives no gradients
            return False
    return all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))
