"""Typed access to a parsed config.json, with errors that name the field.

An absent field takes the default of its model_type, if any; a null field counts as absent without a default.

Methods accept several names of one quantity, as versions of transformers name it differently.
Reads are recorded; `unread` lists the fields that no reader has read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flashstill.arch.adapter.bounds import most_of
from flashstill.errors import UnsupportedArchitecture, shown

Config = Mapping[str, Any]
WIDTH = ("hidden_size", "n_embd", "n_embed", "d_model")
DEPTH = ("num_hidden_layers", "n_layer", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
CONTEXT = ("max_position_embeddings", "n_positions", "model_max_length", "max_sequence_length", "seq_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk", "moe_k")
PREDICTORS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")

_LAYER_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "mamba": "linear",
    "indexed_attention": "indexed",
    "minimax_m3_sparse": "blocks",
    "conv": "convolution",
    "deepseek_sparse_attention": "indexed",
    "moe": "moe",
    "mlp": "mlp",
}


_ONE_MEANING = (WIDTH, DEPTH, HEADS, EXPERTS, CHOSEN)


class Fields:
    """A config with the name of its model and defaults for absent fields."""

    def __init__(self, config: Config, name: str, defaults: Config | None = None) -> None:
        self.config, self.name, self.defaults = config, name, defaults or {}
        self._read: set[str] = set()
        self._parts: dict[str, Fields] = {}
        self._blocks: dict[str, str] = {}

    def fail(self, message: str) -> UnsupportedArchitecture:
        """The error to raise, with the model's name before `message`."""
        return UnsupportedArchitecture(f"the config of {self.name}{message}")

    def changed(self, changes: Config) -> Fields:
        """The config with some fields changed; reads of the copy count as reads of this one."""
        other = Fields({**self.config, **changes}, self.name, self.defaults)
        other._read, other._parts = self._read, self._parts
        return other

    def with_defaults(self, defaults: Config) -> Fields:
        """The config with `defaults` for fields that it does not set."""
        missing = {key: value for key, value in defaults.items() if value is not None and self.config.get(key) is None}
        return self.changed(missing)

    def part(self, name: str) -> Fields:
        """The nested object in a field; empty if it is not set."""
        value = self.value(name)
        if value is not None and not isinstance(value, dict):
            raise self.fail(f": {name} is {shown(value)}, not an object")
        return self._parts.setdefault(name, Fields(value or {}, f"{self.name} ({name})"))

    def block(self, number: int) -> Fields:
        """The config of one block, with its overrides from `per_layer_config`."""
        overrides = self.part("per_layer_config")
        if not self._blocks:
            for name in overrides.config:
                if not name.isdigit() or name.lstrip("0") in self._blocks:
                    raise self.fail(f": per_layer_config has {shown(name)}, which is no number of a block of its own")
                self._blocks[name.lstrip("0")] = name
        own = self._blocks.get(str(number).lstrip("0"))
        return self if own is None else self.changed(overrides.part(own).taken())

    def taken(self) -> Config:
        """All fields, marking them as read."""
        self._read.update(self.config)
        return {key: value for key, value in self.config.items() if value is not None}

    def ignore(self, *names: str) -> None:
        """Mark fields as read that do not affect this model_type's shape."""
        self._read.update(names)

    def unread(self) -> Iterator[tuple[str, Any]]:
        """(name, value) of fields not yet read; nested ones are named `object.field`."""
        for name, value in self.config.items():
            if name in self._parts:
                yield from ((f"{name}.{inner}", content) for inner, content in self._parts[name].unread())
            elif name not in self._read and value is not None:
                yield name, value

    @property
    def read(self) -> frozenset[str]:
        """Names of fields that have been read."""
        return frozenset(self._read)

    def spelled(self, *names: str) -> str:
        """The first name that the config sets, else the first with a default, else the first."""
        self._read.update(names)
        written = next((name for name in names if self.config.get(name) is not None), None)
        # null means none; no default replaces it.
        absent = written is None and not self.says(*names)
        default = next((name for name in names if name in self.defaults), None) if absent else None
        return written or default or names[0]

    def says(self, *names: str) -> bool:
        """Whether the config has one of these fields, null included."""
        return any(name in self.config for name in names)

    def value(self, *names: str) -> Any:
        """The value under the first name that is set, else its default, else None."""
        name = self.spelled(*names)
        return self.config.get(name) if self.says(*names) else self.defaults.get(name)

    def count(self, *names: str, default: int | None = None, least: int = 1, most: int | None = None) -> int:
        """A whole number from `least` to `most`; `most` defaults to the limit of that field name."""
        name, value = self.spelled(*names), self.value(*names)
        most = most_of(name) if most is None else most
        if value is None:
            if default is None:
                raise self.fail(f" has no {name}")
            return default
        if names in _ONE_MEANING and any(self.config.get(other) not in (None, value) for other in names):
            other = next(other for other in names if self.config.get(other) not in (None, value))
            raise self.fail(f": {name} is {shown(value)}, but {other}, which means the same, is another")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            kind = "a positive whole number" if least == 1 else f"a whole number from {least} on"
            raise self.fail(f": {name} is {shown(value)}, not {kind} of at most {most}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(f": {name} is {shown(value)}, not true or false")
        return value

    def refuse(self, *names: str) -> None:
        """Reject a config that sets one of these fields, as they are not modelled."""
        for name in names:
            if self.value(name):
                raise self.fail(f" sets {name}, which is not supported yet")

    def require(self, name: str, only: Any) -> None:
        """Reject a config in which the field is set to anything but `only`."""
        value = self.value(name)
        if value is not None and value != only:
            raise self.fail(f": {name} other than {only} is not supported yet")

    @property
    def width(self) -> int:
        """Model width."""
        return self.count(*WIDTH)

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return self.count(*DEPTH)

    def whole_numbers(self, name: str) -> frozenset[int]:
        """The block numbers listed in a field; empty if it is not set."""
        value = self.value(name) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.fail(f": {name} is {shown(value)}, not a list of whole numbers")
        return frozenset(value)

    def words(self, name: str, known: Collection[Any]) -> list[Any] | None:
        """A list with one of the `known` words per block; None if the config has no such list."""
        listed = self.value(name)
        if listed is None:
            return None
        if not isinstance(listed, list) or len(listed) != self.depth:
            raise self.fail(f": {name} does not list one kind for each of the {self.depth} layers")
        for word in listed:
            if not any(word == one and type(word) is type(one) for one in known):
                raise self.fail(f": {name} has {shown(word)}, which is not supported for this model_type")
        return listed

    def layer_kinds(self, *names: str, known: Collection[str]) -> list[str] | None:
        """The kind of each block ("full", "sliding", "linear", ...), or None if the config does not list them."""
        written = self.words(self.spelled(*names), [word for word, kind in _LAYER_KINDS.items() if kind in known])
        return None if written is None else [_LAYER_KINDS[word] for word in written]
