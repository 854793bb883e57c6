"""Which layers of a model an adapter is put on: by structure, not by name, so that it works for any architecture.

All linear layers of the blocks (also those that are stored turned, as GPT-2's), except
    routers                        their outputs choose experts
    layers that are never called   some architectures read their weights directly, past an adapter
    that share their weights       two changes to one weight cannot be merged (the blocks of Zamba)
    inside a state-space mixer     all but its input projections, as fused kernels read the others' weights directly
    named as experts               peft takes the names for those of experts, which are stored as one tensor
Experts that are stored as one tensor are no linear layers; they stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from flashstill.distill.adapters.merging import layers_of, tied
from flashstill.distill.adapters.settings import named
from flashstill.distill.models import Model, parts
from flashstill.distill.models.configuration import numbers
from flashstill.errors import BadInput, unknown

PROBE_TOKENS = 8
BLOCK = r"\.\d+\."
"""in the names of what stands in a list of modules, as the blocks do"""


def target_names(model: Model, asked: Sequence[str] = ()) -> list[str]:
    """Full names of the layers to adapt. asked: last parts of names, such as "q_proj"; empty for all that can be.

    Raises BadInput if a name fits no linear layer of the blocks, or one that is not run as a layer.
    """
    check_targets(model, asked)
    inside = dict(_linear_in_blocks(model))
    if not inside:
        raise BadInput(f"{type(model).__name__} has no linear layers in its blocks that an adapter could change")
    called, taken = _called(model, inside), _names_of_experts(model, inside)
    if not asked:
        names = [name for name in inside if name in called and not _is_left_out(model, name, inside[name])]
        return [name for name in names if name.rpartition(".")[2] not in taken]
    chosen = [name for name in inside if named(name, tuple(asked))]
    for each in asked:
        fits = {name for name in inside if named(name, (each,))}
        if not fits:
            raise BadInput(f"{type(model).__name__} cannot be adapted in {each}: no plain linear layer has that name")
        if each.rpartition(".")[2] in taken:
            raise BadInput(f"peft takes {each} of {type(model).__name__} for its stacked experts; leave it out")
        if not fits & called:
            raise BadInput(f"{type(model).__name__} reads the weights of {each} directly; an adapter would do nothing")
    return [name for name in chosen if name in called]


def check_targets(model: Model, asked: Sequence[str]) -> None:
    """BadInput if a name fits no linear layer of the blocks; before any work, as the model may be without weights."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    inside = [name for name in names if re.search(BLOCK, name)]
    for each in asked:
        if not any(named(name, (each,)) for name in inside):
            raise BadInput(unknown("target layer", each, sorted({name.rpartition(".")[2] for name in inside})))


def short_names(model: Model, names: Sequence[str]) -> list[str]:
    """The last parts of the names if these fit no other layer of the model, else the names: for adapter_config.json."""
    last = sorted({name.rpartition(".")[2] for name in names})
    fits = [name for name, _ in model.named_modules() if named(name, tuple(last))]
    return last if set(fits) == set(names) else sorted(names)


def _linear_in_blocks(model: Model) -> Iterator[tuple[str, Any]]:
    """Those that stand in a list of modules, which the blocks are, and share their weights with no other layer."""
    shared = tied(model)
    for name, module in layers_of(model):
        if re.search(BLOCK, name) and id(module.weight) not in shared:
            yield name, module


def _is_left_out(model: Model, name: str, layer: Any) -> bool:
    parent_name, _, last = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    if hasattr(parent, "A_log") and not last.startswith("in_proj"):
        return True
    outputs = layer.weight.shape[0] if isinstance(layer, nn.Linear) else layer.weight.shape[1]
    experts = {number for key, number in numbers(model.config.to_dict()) if "expert" in key and number > 1}
    return outputs in experts and bool(re.search(r"gate|router|classifier", name))


def _called(model: Model, layers: dict[str, Any]) -> set[str]:
    """Names of the layers that a forward pass calls, or that have the place of one that it calls in another block or
    expert: few tokens do not reach all experts."""
    places: set[str] = set()

    def noting(place: str) -> Callable[..., None]:
        return lambda *_: places.add(place)

    hooks = [layer.register_forward_hook(noting(_place(name))) for name, layer in layers.items()]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts(model).hidden(torch.ones(1, PROBE_TOKENS, dtype=torch.int64, device=model.device))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return {name for name in layers if _place(name) in places}


def _place(name: str) -> str:
    return re.sub(BLOCK, ".*.", name)


def _names_of_experts(model: Model, names: Iterable[str]) -> set[str]:
    """Last parts of names that peft would take for experts of this architecture (as they were stored one by one)."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    taken = set()
    for last in {name.rpartition(".")[2] for name in names}:
        config = LoraConfig(target_modules=[last])
        try:
            convert_peft_config_for_transformers(config, model, None)
        except ValueError:  # an expert's layer that goes with another one
            taken.add(last)
        if last not in config.target_modules:
            taken.add(last)
    return taken
