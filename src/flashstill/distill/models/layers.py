"""The transformer blocks of a causal language model, wherever it keeps them, and copies of it with fewer blocks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from flashstill.arch.adapter.edit import depth_changes, set_fields
from flashstill.distill.models.loading import Model
from flashstill.errors import UnsupportedArchitecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a model keeps its blocks: the attribute `name` of the module `owner` is their ModuleList."""

    owner: nn.Module
    name: str

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks, in order."""
        blocks = getattr(self.owner, self.name)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def put(self, blocks: list[nn.Module]) -> None:
        """Put other blocks in their place."""
        setattr(self.owner, self.name, nn.ModuleList(blocks))


def place_of(model: Model) -> Place:
    """Where the model keeps its blocks: the list of modules with the most weights, the outermost of several.

    UnsupportedArchitecture if it has no list of modules.
    """
    lists = [
        (sum(weight.numel() for weight in child.parameters()), Place(owner=owner, name=name))
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and not isinstance(owner, nn.ModuleList)
    ]
    if not lists:
        raise UnsupportedArchitecture(f"{type(model).__name__} keeps its blocks in no list of modules")
    most = max(weights for weights, _ in lists)
    return next(place for weights, place in lists if weights == most)


def decoder_layers(model: Model) -> nn.ModuleList:
    """The list of transformer blocks."""
    return place_of(model).blocks


def keep_layers(model: Model, kept: list[int]) -> Model:
    """A copy of `model` with only the blocks `kept` (ascending indices); the original is unchanged."""
    config = copy.deepcopy(model.config)
    set_fields(config, depth_changes(config, kept))
    place = place_of(model)
    original = place.blocks
    place.put([])  # taken out, so that deepcopy copies no unused layers
    try:
        pruned = copy.deepcopy(model)
    finally:
        setattr(place.owner, place.name, original)
    blocks = nn.ModuleList(copy.deepcopy(original[index]) for index in kept)
    for position, block in enumerate(blocks):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                setattr(module, "layer_idx", position)  # noqa: B010 - nn.Module's type hints allow no int
    pruned.get_decoder().layers = blocks
    pruned.config = config
    pruned.get_decoder().config = config
    return pruned
