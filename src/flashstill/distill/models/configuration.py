"""The configuration object of an untrusted config.json, checked before a model is built from it.

It is without the keys that would download or run other code, and must not describe a model larger than the stored
weights, so that building it is safe.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flashstill.arch.adapter.sizes import KIND, is_quantised, kind, value
from flashstill.distill.models.directories import Shapes, read_json
from flashstill.distill.models.rebuild import without_memory
from flashstill.distill.models.text_part import auto_class
from flashstill.errors import BadInput, first_line

LARGER, LARGER_PACKED = 2, 16
"""largest ratio of parameters to stored elements, plain and quantised (a tied head is stored once; an int32 can pack
eight 4-bit values)"""
SWITCHES = re.compile(
    r"_?(attn|experts)_implementation(_internal|_autoset)?|auto_map|trust_remote_code|custom_(generate|pipelines)"
    r"|transformers_weights"
)
"""config.json keys that make transformers download or run other code, or read other files than the standard ones"""
OUTPUTS = re.compile(r"(use_)?return_dict|output_(hidden_states|attentions|router_logits)")
"""config.json keys that change what a model returns, not what it computes; what is needed is asked for in each call"""
LEFT_OUT = (SWITCHES, OUTPUTS)
FLOAT_TAG = "__float__"
"""how transformers writes a number that JSON lacks: {"__float__": "Infinity"}"""
_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_LAYERS = re.compile(r"(num|n)_(\w+_)?layers?|num_\w*blocks|\w*depths?")


def plain_config(path: Path) -> Any:
    """The transformers configuration object of a directory, without keys that would download or run other code."""
    from transformers import CONFIG_MAPPING

    written = read_json(path / "config.json")
    fields = without_switches(written)
    name = kind(fields)
    if name not in CONFIG_MAPPING:
        named = str(value(fields, KIND))[:80]
        own = ", and code that comes with a model (auto_map) is never run" if written.get("auto_map") else ""
        raise BadInput(f"model directory {path} cannot be loaded: transformers has no {KIND} {named!r}{own}")
    try:
        return CONFIG_MAPPING[name].from_dict(fields)
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error


def without_switches(value: Any) -> Any:
    """A configuration without the keys that match `SWITCHES` and `OUTPUTS`, at any depth, with infinities as saved."""
    if isinstance(value, dict):
        if set(value) == {FLOAT_TAG} and value[FLOAT_TAG] in _FLOATS:
            return _FLOATS[value[FLOAT_TAG]]
        kept = {key: inner for key, inner in value.items() if not any(each.fullmatch(str(key)) for each in LEFT_OUT)}
        return {key: without_switches(inner) for key, inner in kept.items()}
    return [without_switches(inner) for inner in value] if isinstance(value, list) else value


def check_size(path: Path, config: Any, stored: Shapes) -> None:
    """BadInput if the configuration describes a larger model than the weights `stored` on disk."""
    for key, layers in numbers(config.to_dict()):
        if _LAYERS.fullmatch(key) and layers > max(len(stored), 64):
            raise BadInput(f"model directory {path}: {key} is {layers}, but its weights are {len(stored)} tensors")
    on_disk = sum(math.prod(shape) for shape in stored.values())
    largest = max((max(shape, default=1) for shape in stored.values()), default=1)
    usual = dict(numbers(type(config)().to_dict()))
    for key, number in numbers(config.to_dict()):
        unused = number == usual.get(key)  # a default of a family that has no experts unless asked (Doge)
        if "experts" in key and "per_tok" not in key and number > max(largest, len(stored)) and not unused:
            raise BadInput(f"model directory {path}: {key} is {number}, more than its weights hold")
    described = parameters(path, config)
    more = LARGER_PACKED if is_quantised(config) else LARGER
    if described > more * on_disk:
        raise BadInput(
            f"model directory {path}: its config.json describes {described:,} parameters, its weights hold {on_disk:,};"
            " tensors are missing"
        )


def parameters(path: Path, config: Any) -> int:
    """Number of parameters that a configuration describes, counted on the meta device (no memory is allocated)."""
    try:
        with without_memory():
            model = auto_class(config).from_config(config)
    except BadInput:
        raise
    except Exception as error:  # transformers raises many kinds for fields that do not fit together
        raise BadInput(f"model directory {path} cannot be loaded: {first_line(error)}") from error
    return sum(parameter.numel() for parameter in model.parameters())


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """(key, number) for every integer in a configuration, and (key, length) for every list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, str(name))
    elif isinstance(value, list):
        yield key, len(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, value
