"""What a transformer block is made of, and what differs between two: modules, shapes, settings, but not its number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

Settings = dict[tuple[str, str], Any]
"""(path of a module, name of an attribute) -> its value, or the shape of a tensor"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One setting that differs: as it is, as it would be, and said in words."""

    old: Any
    new: Any
    sentence: str


def settings_of(block: nn.Module) -> Settings:
    """Classes of a block's modules, shapes of its tensors, and plain attributes (numbers, words, flags)."""
    found: Settings = {}
    for path, module in block.named_modules():
        found[path, "class"] = type(module).__name__
        for name, content in vars(module).items():
            if not name.startswith("_") and name != "training" and isinstance(content, bool | int | float | str):
                found[path, name] = content
        for name, tensor in itertools.chain(module._parameters.items(), module._buffers.items()):
            found[path, name] = None if tensor is None else list(tensor.shape)
    return found


def is_index(name: str, value: Any) -> bool:
    """Whether an attribute may be the number of a layer, or count layers."""
    return type(value) is int and any(part in name for part in ("layer", "idx", "index", "block"))


def differences(
    wanted: Settings, there: Settings, layer: int, place: int, kept: Sequence[int], depth: int
) -> list[Difference]:
    """What differs between the block `layer` of `depth` and the one built at `place` of the layers `kept`.

    The number of a layer may change as its place does (also a multiple of it), and so may that of a layer that it
    refers to, and the number of all layers: whether they matter is found by running the model.  Without `kept` no such
    number counts.
    """
    places = {each: position for position, each in enumerate(kept)}
    found = []
    for key in [*wanted, *(key for key in there if key not in wanted)]:
        old, new = wanted.get(key), there.get(key)
        if old == new:
            continue
        if isinstance(old, int) and isinstance(new, int) and is_index(key[1], old) and is_index(key[1], new):
            moved = layer - place
            shifted = moved > 0 and (old - new) % moved == 0 and old >= new
            if not kept or shifted or new == places.get(old) or (old, new) == (depth, len(kept)):
                continue
        what = ".".join(filter(None, key))
        said = f"{what} of layer {layer} is {_shown(old)}, at place {place} it would be {_shown(new)}"
        found.append(Difference(old=old, new=new, sentence=said))
    return found


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)[:40]
