"""Fields of a config.json under the names of transformers 4, for one that release 5 wrote.

Release 5 puts the base of rotary positions and their scaling into `rope_parameters` and calls torch_dtype dtype.
Engines that still bring release 4 take a default base of 10,000 in silence (vllm-project/vllm#42624).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NEWER = ("rope_parameters", "dtype")
"""what release 5 reads, from its own names or the older ones"""
_ROPE, _DTYPE = NEWER
_THETA, _SCALING, _KIND = "rope_theta", "rope_scaling", "rope_type"
_PARTIAL, _ORIGINAL = "partial_rotary_factor", "original_max_position_embeddings"
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
"""layers with rotary positions of their own, as Gemma 3 has them; release 4 knew a base of the latter"""


def older_fields(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Groups of fields that release 4 reads; release 5 may refuse a group beside its own fields."""
    rope = fields.get(_ROPE)
    if isinstance(rope, dict):
        yield _of_layers(rope)
    if fields.get(_DTYPE):
        yield {"torch_dtype": fields[_DTYPE]}


def _of_layers(rope: Mapping[str, Any]) -> dict[str, Any]:
    if set(rope) != {_GLOBAL, _LOCAL} or not all(isinstance(each, dict) for each in rope.values()):
        return _rotary(rope)
    local = rope[_LOCAL].get(_THETA)
    return _rotary(rope[_GLOBAL]) | ({} if local is None else {"rope_local_base_freq": local})


def _rotary(rope: Mapping[str, Any]) -> dict[str, Any]:
    """The older fields of one kind of rotary positions; none where layers have kinds that release 4 lacked."""
    if _THETA not in rope:
        return {}
    beside = {key: rope[key] for key in (_THETA, _PARTIAL) if key in rope}
    kind = rope.get(_KIND, "default")
    if kind == "default":
        return beside
    if kind == "longrope":  # of exactly these three
        named = {"type": kind, **{key: rope[key] for key in ("long_factor", "short_factor") if key in rope}}
        return {**beside, _SCALING: named, **({_ORIGINAL: rope[_ORIGINAL]} if _ORIGINAL in rope else {})}
    return {**beside, _SCALING: {key: each for key, each in rope.items() if key not in beside}}
