"""The transformer blocks of a causal language model, wherever it keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from flashstill.errors import UnsupportedArchitecture


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a model keeps its blocks: the attribute `name` of the module `owner` is their ModuleList; path: its name in
    the model, such as "model.layers"."""

    owner: nn.Module
    name: str
    path: str

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks, in order."""
        blocks = getattr(self.owner, self.name)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def put(self, blocks: nn.ModuleList) -> None:
        """Put other blocks in their place."""
        setattr(self.owner, self.name, blocks)


def place_of(model: Any) -> Place:
    """Where the model keeps its blocks: the list of modules with the most weights, the outermost of several.

    UnsupportedArchitecture if it has no list of modules.
    """
    lists = [
        (sum(weight.numel() for weight in child.parameters()), owner, name, f"{path}.{name}" if path else name)
        for path, owner in model.named_modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.ModuleList) and not isinstance(owner, nn.ModuleList)
    ]
    if not lists:
        raise UnsupportedArchitecture(f"{type(model).__name__} keeps its blocks in no list of modules")
    most = max(weights for weights, *_ in lists)
    _, owner, name, path = next(each for each in lists if each[0] == most)
    return Place(owner=owner, name=name, path=path)


def check_one_list(model: Any) -> None:
    """UnsupportedArchitecture if a model keeps blocks of one kind in several lists, so that none can be left out."""
    place = place_of(model)
    kinds, inside = {type(block) for block in place.blocks}, f"{place.path}."
    others = [path for path, module in model.named_modules() if type(module) in kinds and not path.startswith(inside)]
    if others:
        raise UnsupportedArchitecture(
            f"{type(model).__name__} keeps its blocks in several lists ({place.path}, {others[0].rpartition('.')[0]}),"
            " which take turns: none can be left out; choose a student of another kind than depth"
        )


def decoder_layers(model: Any) -> nn.ModuleList:
    """The list of transformer blocks."""
    return place_of(model).blocks
