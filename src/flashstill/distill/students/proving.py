"""Proof that an axis of a model is described right, on a small copy of it in float64.

The units of an axis have no order: a model whose units are permuted, in all dimensions that hold them alike, has the
same outputs.  If a dimension is missing from the description, or its layout is another, the outputs differ.  Only an
axis that passes is cut.  Vectors, which transformers initialises to constants, are disturbed first, so that none is
overlooked.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from flashstill.arch.adapter.axes import EXPERT_COUNT, expert_groups
from flashstill.distill.models import Model, decoder_layers, keep_layers
from flashstill.distill.students.axes import WORDS, Axis, Group, find_axis
from flashstill.distill.students.cutting import reordered
from flashstill.errors import FlashstillError, UnsupportedArchitecture, first_line

SMALL = 2 * 10**7
"""parameters of a model that is copied as a whole; of a larger one, one block of each shape"""
TOKENS, TOLERANCE, DISTURBANCE = 12, 1e-4, 0.1


def proven(model: Model, axis: Axis) -> tuple[Group, ...]:
    """The layout of the axis that is right; UnsupportedArchitecture if none is."""
    twin, layouts = small_copy(model), axis.layouts
    if len(decoder_layers(twin)) != len(decoder_layers(model)):
        layouts = find_axis(twin, axis.name, axis.bound).layouts
    generator = torch.Generator().manual_seed(0)
    disturb(twin, generator)
    tokens = some_tokens(twin, generator)
    expected = outputs(twin, tokens)
    for index, layout in enumerate(layouts):
        orders = [_random_order(twin, axis.name, group, generator) for group in layout]
        _permute(twin, layout, orders)
        if alike(outputs(twin, tokens), expected):
            return axis.layouts[index]
        _permute(twin, layout, [order.argsort(-1) for order in orders])
    raise UnsupportedArchitecture(
        f"{type(model).__name__} cannot be cut in {WORDS[axis.name]}: its outputs depend on their order in a way that"
        " is not understood"
    )


def small_copy(model: Model) -> Model:
    """A copy in float64 and eval mode, with one block of each shape if the model is large.

    In float32 if it does not run in float64 (XGLM's mask).
    """
    reason = ""
    few = _fewer_blocks(model) if sum(weight.numel() for weight in model.parameters()) > SMALL else model
    for dtype in (torch.float64, torch.float32):
        try:
            twin = copy.deepcopy(few).to(dtype).eval()
            twin.set_experts_implementation("eager")  # the others know no float64
            outputs(twin, some_tokens(twin, torch.Generator().manual_seed(0)))
        except (RuntimeError, ValueError, TypeError) as error:
            reason = first_line(error)
        else:
            return twin
    raise UnsupportedArchitecture(f"{type(model).__name__} does not run on token ids alone ({reason})")


def _fewer_blocks(model: Model) -> Model:
    blocks = decoder_layers(model)
    kinds: dict[object, int] = {}
    for index, block in enumerate(blocks):
        modules = tuple((name, type(module).__name__) for name, module in block.named_modules())
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in block.state_dict().items())
        kinds.setdefault((modules, shapes), index)
    if len(kinds) == len(blocks):
        return model
    try:
        return keep_layers(model, sorted(kinds.values()))
    except FlashstillError:  # of an architecture that cannot be cut in depth, the whole is copied
        return model


def disturb(model: Model, generator: torch.Generator) -> None:
    """Add noise to all vectors of a model, in place."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                weight += DISTURBANCE * noise.to(weight.device)


def some_tokens(model: Model, generator: torch.Generator) -> Tensor:
    """Random token ids [2, TOKENS]."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    return torch.randint(vocabulary, (2, TOKENS), generator=generator).to(model.device)


def outputs(model: Model, tokens: Tensor) -> Tensor:
    """Logits [B, L, V] of token ids [B, L]."""
    with torch.inference_mode():
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


def alike(one: Tensor, other: Tensor) -> bool:
    """Whether logits are equal but for rounding."""
    return bool((one - other).abs().max() <= TOLERANCE * (other - other.mean()).abs().max())


def _random_order(model: Model, axis: str, group: Group, generator: torch.Generator) -> Tensor:
    """A permutation of a group's units [u], or one for each of its copies [c, u]; experts stay together by group."""
    if group.copies:
        return torch.stack([_shuffled(group.units, generator) for _ in range(group.copies)])
    groups = expert_groups(model.config)[0] if axis == EXPERT_COUNT else 1
    size = group.units // groups
    return torch.cat([start * size + _shuffled(size, generator) for start in _shuffled(groups, generator)])


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    """A random permutation other than the identity, if there is one."""
    order = torch.randperm(count, generator=generator)
    return order.roll(1) if torch.equal(order, torch.arange(count)) else order


def _permute(model: Model, layout: tuple[Group, ...], orders: list[Tensor]) -> None:
    state = model.state_dict()
    with torch.no_grad():
        for group, order in zip(layout, orders, strict=True):
            done = set()
            for side in group.sides:
                tensor = state[side.tensor]
                place = (tensor.data_ptr(), side.dim)
                if place not in done:  # tied tensors are permuted once
                    tensor.copy_(reordered(tensor, side, group, order))
                    done.add(place)
