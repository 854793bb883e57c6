"""Typed access to a parsed config.json, with errors that name the field.

Several spellings of one quantity are given together: older and newer versions of transformers name it differently.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from flashstill.errors import UnsupportedArchitecture, shortened

Config = Mapping[str, Any]
_MOST = 10**8
_DEEPEST = 10_000  # blocks are listed one by one, so that a nonsense depth must not fill the memory
# What a count may be at most, by words of its name: several times what any published model has, and small enough that
# nothing that is listed or drawn for each layer, head or expert fills the memory.
_MOST_OF = (
    (re.compile(r"expert|top_?k"), 100_000),
    (re.compile(r"_period|_offset|_interval|_freq|_step"), _DEEPEST),
    (re.compile(r"layer"), _DEEPEST),
    (re.compile(r"heads?$|n_head"), 100_000),
    (re.compile(r"position|model_max_length|max_sequence|seq_length|window|chunk"), 10**10),
    (re.compile(r"hidden_size|n_embd|n_embed|d_model|_dim$|_rank$|kernel|conv|groups"), 10**7),
)

WIDTH = ("hidden_size", "n_embd", "n_embed", "d_model")
DEPTH = ("num_hidden_layers", "n_layer", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
CONTEXT = ("max_position_embeddings", "n_positions", "model_max_length", "max_sequence_length", "seq_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")

_LAYER_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "mamba": "linear",
    "indexed_attention": "indexed",
    "deepseek_sparse_attention": "indexed",
    "moe": "moe",
    "mlp": "mlp",
}


def most_of(name: str) -> int:
    """The largest number that a field of this name may hold."""
    return next((most for words, most in _MOST_OF if words.search(name)), _MOST)


def shown(value: Any) -> str:
    """A value as a sentence shows it: never long, whatever a config holds."""
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of about {int(abs(value).bit_length() * 0.30103) + 1} digits"
    if isinstance(value, list | dict) and len(value) > 12:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)} entries"
    return shortened(repr(value))


class Fields:
    """A config with the name of its model; a field that is absent and one that is null are the same."""

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name = config, name

    def fail(self, message: str) -> UnsupportedArchitecture:
        """The error to raise, with the model's name before `message`."""
        return UnsupportedArchitecture(f"the config of {self.name}{message}")

    def changed(self, changes: Config) -> Fields:
        """The same config with some fields set otherwise."""
        return Fields({**self.config, **changes}, self.name)

    def part(self, name: str) -> Fields:
        """The object that a field holds; empty if it is not set."""
        value = self.value(name)
        if value is not None and not isinstance(value, dict):
            raise self.fail(f": {name} is {shown(value)}, not an object")
        return Fields(value or {}, f"{self.name} ({name})")

    def spelled(self, *names: str) -> str:
        """The first of several spellings that the config sets, or the first of all."""
        return next((name for name in names if self.config.get(name) is not None), names[0])

    def value(self, *names: str) -> Any:
        """What the first set spelling holds; None if none is set."""
        return self.config.get(self.spelled(*names))

    def count(self, *names: str, default: int | None = None, least: int = 1, most: int | None = None) -> int:
        """A whole number from `least` on, and at most what a field of that name may hold."""
        name = self.spelled(*names)
        most = most_of(name) if most is None else most
        value = self.config.get(name)
        if value is None:
            if default is None:
                raise self.fail(f" has no {name}")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            kind = "a positive whole number" if least == 1 else f"a whole number from {least} on"
            raise self.fail(f": {name} is {shown(value)}, not {kind} of at most {most}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(f": {name} is {shown(value)}, not true or false")
        return value

    def refuse(self, *names: str) -> None:
        """Refuse a config that sets a field whose meaning is not modelled."""
        for name in names:
            if self.config.get(name):
                raise self.fail(f" sets {name}, which is not supported yet")

    def require(self, name: str, wanted: Any) -> None:
        """Refuse a config whose field, if set, is not `wanted`."""
        value = self.config.get(name)
        if value is not None and value != wanted:
            raise self.fail(f": {name} other than {wanted} is not supported yet")

    @property
    def width(self) -> int:
        """Model width."""
        return self.count(*WIDTH)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.count(*DEPTH, most=_DEEPEST)

    def whole_numbers(self, name: str) -> frozenset[int]:
        """A list of block numbers, or nothing."""
        value = self.config.get(name) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.fail(f": {name} is {shown(value)}, not a list of whole numbers")
        return frozenset(value)

    def words(self, name: str, known: Collection[Any]) -> list[Any] | None:
        """One of the `known` words for every block, or None if the config does not list them."""
        listed = self.config.get(name)
        if listed is None:
            return None
        if not isinstance(listed, list) or len(listed) != self.depth:
            raise self.fail(f": {name} does not list one kind for each of the {self.depth} layers")
        for word in listed:
            if not any(word == one and type(word) is type(one) for one in known):
                raise self.fail(f": {name} has {shown(word)}, which is not supported for this model_type")
        return listed

    def layer_kinds(self, *names: str, known: Collection[str]) -> list[str] | None:
        """The kind of every block ("full", "sliding", "linear", ...), or None if the config does not list them."""
        written = self.words(self.spelled(*names), [word for word, kind in _LAYER_KINDS.items() if kind in known])
        return None if written is None else [_LAYER_KINDS[word] for word in written]
