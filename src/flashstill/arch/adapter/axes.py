"""Fields of a configuration that set a width: the names that families give them, and how to scale them.

An axis of a model is what its matrices are cut along: hidden dimensions of the residual stream, FFN neurons, groups of
query heads that share a key head, routed experts, and neurons of an expert.  Nested fields are written `part.field`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from flashstill.arch.adapter.fields import CHOSEN, EXPERTS, HEADS, WIDTH
from flashstill.arch.adapter.sizes import HEAD_WIDTH

HIDDEN, NEURONS, KEY_GROUPS, EXPERT_COUNT, EXPERT_NEURONS = (
    "hidden", "feed_forward", "key_heads", "experts", "expert_neurons",
)  # fmt: skip
"""axes, named as the keys of a recipe"""
_NEURONS = (
    "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "ffn_config.ffn_hidden_size", "intermediate_size_mlp",
    "shared_intermediate_size", "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "dff",
)  # fmt: skip
_EXPERT_NEURONS = (
    "moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size", "ffn_config.ffn_hidden_size",
)  # fmt: skip
_BESIDE_HIDDEN = ("word_embed_proj_dim", "ffn_config.hidden_size", "embedding_size")
"""further fields for the width of embeddings or of a part; scaled with the hidden size where they are equal to it"""
_KEY_HEADS = ("num_kv_heads", "attn_config.kv_n_heads", "num_key_value_heads")
_HEADS_BY_LAYER = ("num_attention_heads_per_layer",)
_EXPERTS = (*EXPERTS, "ffn_config.moe_num_experts")
_GROUPS = ("n_group", "num_expert_group")
_CHOSEN_GROUPS = ("topk_group", "num_limited_groups", "topk_group_num")
_FOUR_TIMES = "n_inner"


def field(configuration: Any, name: str) -> Any:
    """The value of a field, nested ones as `part.field`; None if absent."""
    value = configuration
    for part in name.split("."):
        try:
            value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
        except RuntimeError:  # a field that differs by layer has no value of its own
            return None
    return value


def set_field(configuration: Any, name: str, value: Any) -> None:
    """Set a field, nested ones as `part.field`, in place."""
    *outer, last = name.split(".")
    for part in outer:
        configuration = configuration[part] if isinstance(configuration, dict) else getattr(configuration, part)
    if isinstance(configuration, dict):
        configuration[last] = value
    else:
        setattr(configuration, last, value)


def text_of(configuration: Any) -> Any:
    """The configuration of the text part of a transformers configuration."""
    return configuration.get_text_config() if hasattr(configuration, "get_text_config") else configuration


def explicit(configuration: Any, head_width: bool = False) -> Any:
    """A copy of a transformers configuration in which widths that follow from others are stated.

    head_width: also that of heads, which not every family reads from its own field.
    """
    stated = copy.deepcopy(configuration)
    text = text_of(stated)
    if _FOUR_TIMES in _names(text) and field(text, _FOUR_TIMES) is None:
        setattr(text, _FOUR_TIMES, 4 * _first(text, WIDTH))
    width, heads = _first(text, WIDTH), _first(text, HEADS)
    if head_width and isinstance(width, int) and isinstance(heads, int) and field(text, HEAD_WIDTH) is None:
        with suppress(AttributeError, RuntimeError):  # of a field that differs by layer
            setattr(text, HEAD_WIDTH, width // heads)
    return stated


def choices(configuration: Any, axis: str) -> Iterator[tuple[str, ...]]:
    """Sets of fields that may set an axis; those of one set are scaled together. The first with an effect is right."""
    text = text_of(configuration)
    if axis == KEY_GROUPS:
        queries, by_layer = _set(text, HEADS)[:1], _set(text, _HEADS_BY_LAYER)
        for key in _set(text, _KEY_HEADS) or [""]:
            if queries:
                yield tuple(filter(None, [*queries, key, *by_layer]))
        return
    if axis == HIDDEN:
        names = _set(text, WIDTH)[:1]
        beside = [name for name in _BESIDE_HIDDEN if names and field(text, name) == field(text, names[0])]
        if names:
            yield (*names, *beside)
        return
    known = {NEURONS: _NEURONS, EXPERT_COUNT: _EXPERTS, EXPERT_NEURONS: _EXPERT_NEURONS}[axis]
    for name in _set(text, known):
        yield (name,)


def scaled(configuration: Any, names: Sequence[str], new: int, old: int) -> Any:
    """A copy with these fields multiplied by new / old, exactly; lists element by element. ValueError if not whole."""
    changed = copy.deepcopy(configuration)
    text = text_of(changed)
    for name in names:
        value = field(text, name)
        set_field(
            text,
            name,
            [_times(each, new, old) for each in value] if isinstance(value, list) else _times(value, new, old),
        )
    return changed


def units(configuration: Any, names: Sequence[str]) -> int:
    """The number of units of an axis: of key heads the smallest of its fields, else the field's value."""
    values = [field(text_of(configuration), name) for name in names]
    return min(max(value) if isinstance(value, list) else int(value) for value in values)


def width(configuration: Any) -> int:
    """Dimensions of the residual stream; 0 if not stated."""
    return _first(text_of(configuration), WIDTH) or 0


def heads_of(configuration: Any) -> int:
    """Number of query heads; 0 if not stated."""
    return _first(text_of(configuration), HEADS) or 0


def expert_groups(configuration: Any) -> tuple[int, int]:
    """Groups of experts that a router chooses first, and how many of them a token gets; (1, 1) without groups."""
    text = text_of(configuration)
    groups, chosen = _first(text, _GROUPS) or 1, _first(text, _CHOSEN_GROUPS)
    return groups, chosen or groups


def chosen_experts(configuration: Any) -> int:
    """Routed experts per token; 0 if not stated."""
    found = _first(text_of(configuration), (*CHOSEN, "num_selected_experts", "ffn_config.moe_top_k"))
    return max(found) if isinstance(found, list) else found or 0


def _set(configuration: Any, names: Sequence[str]) -> list[str]:
    """The names that a configuration sets to counts, once for those that are one field under two names."""
    stated: list[str] = []
    aliases = getattr(configuration, "attribute_map", {})
    for name in names:
        value = field(configuration, name)
        is_count = isinstance(value, int) and not isinstance(value, bool) and value > 0
        is_list = isinstance(value, list) and bool(value) and all(isinstance(each, int) for each in value)
        if (is_count or is_list) and aliases.get(name, name) not in [aliases.get(each, each) for each in stated]:
            stated.append(name)
    return stated


def _first(configuration: Any, names: Sequence[str]) -> Any:
    return next((field(configuration, name) for name in names if field(configuration, name) is not None), None)


def _names(configuration: Any) -> set[str]:
    return set(configuration.to_dict()) if hasattr(configuration, "to_dict") else set(configuration)


def _times(value: int, new: int, old: int) -> int:
    if value * new % old:
        raise ValueError(f"{value} times {new} / {old} is no whole number")
    return value * new // old
