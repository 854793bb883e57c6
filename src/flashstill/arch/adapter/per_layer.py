"""What a configuration says of single layers, and what it must say when only some of them remain.

Families say it in many ways, which are told apart by form and not by family:

    a list of one entry per layer           layer_types, no_rope_layers, mlp_layer_types, intermediate_size, ...
    a text of one letter per layer          hybrid_override_pattern
    patterns with a number of repeats       attention_types [[["global", "local"], 2]]
    a pattern that is repeated              block_types ["recurrent", "recurrent", "attention"]
    a list of layer numbers                 mlp_only_layers, attn_layer_indices, full_attn_idxs, hybrid_layer_ids, ...
    an object by layer number               per_layer_config {"3": {...}}
    the first layer of another kind         first_k_dense_replace, num_dense_layers, max_window_layers, ...
    how many layers at the end share        num_kv_shared_layers
    a period                                decoder_sparse_step, attn_layer_period, sliding_window_pattern, ...

`remaining` says all of this for the layers that are kept, except periods, which need not fit them: `variants` then
lists other ways to say it.  Whether one of them is right is proven on the model (distill/models/shallower.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

Changes = dict[str, Any]
DEPTH_NAME = re.compile(r"(num_|n_)?(hidden_|decoder_|attention_)?(layers?|blocks)|num_hidden_layers|n_layer")
INDEX_NAME = re.compile(r".*(layers|indices|idxs?|ids)$|.*_(layer|layers)_(ids|indices|idxs?)")
FROM_THE_START = re.compile(
    r"first_k_dense_replace|num_dense_layers|max_window_layers|moe_layer_start_index|.*first_\w*"
)
INCLUSIVE_END = re.compile(r".*layer_end_index")
AT_THE_END = re.compile(r"num_\w*shared_layers")
REPEATED = re.compile(r".*(types?|pattern)")
PERIODIC = re.compile(r".*(step|period|offset|interval|every|pattern|group_size|start|end|first|dense|window_layers).*")
SPECIAL = re.compile(r".*(token|eos|bos|pad|section|time_step).*")
"""fields whose lists are of no layers, however long they are"""


def remaining(fields: Mapping[str, Any], depth: int, kept: Sequence[int]) -> Changes:
    """Fields that change when of `depth` layers only `kept` (ascending indices) remain."""
    changes = {name: _remaining(name, content, depth, kept) for name, content in fields.items()}
    return {name: new for name, new in changes.items() if new != fields[name]}


def _remaining(name: str, content: Any, depth: int, kept: Sequence[int]) -> Any:
    if SPECIAL.fullmatch(name) or isinstance(content, bool):
        return content
    if isinstance(content, int):
        return _number(name, content, depth, kept)
    if isinstance(content, str):
        return "".join(content[index] for index in kept) if _is_pattern(name, content, depth) else content
    if isinstance(content, Mapping):
        numbered = content and all(str(key).isdigit() and int(key) < depth for key in content)
        places = {str(layer): place for place, layer in enumerate(kept)}
        if not numbered:
            return content
        return {
            type(key)(places[str(key)]): inner for key, inner in content.items() if str(key) in places
        }  # the keys stay text or numbers
    if isinstance(content, Sequence) and content:
        if len(content) == depth and not _is_index(name, content, depth):
            return [content[index] for index in kept]
        if _is_index(name, content, depth):
            return [place for place, layer in enumerate(kept) if layer in content]
        if REPEATED.fullmatch(name) and len(content) < depth and all(isinstance(item, str) for item in content):
            return [content[index % len(content)] for index in kept]
        if (whole := _repeated(content)) is not None and len(whole) == depth:
            return [[[whole[index]], 1] for index in kept]
    return content


def _number(name: str, content: int, depth: int, kept: Sequence[int]) -> int:
    if DEPTH_NAME.fullmatch(name) and content and content % depth == 0:
        return content // depth * len(kept)
    if not 0 <= content <= depth:
        return content
    if INCLUSIVE_END.fullmatch(name):
        return sum(layer <= content for layer in kept) - 1
    if FROM_THE_START.fullmatch(name):
        return sum(layer < content for layer in kept)
    return sum(layer >= depth - content for layer in kept) if AT_THE_END.fullmatch(name) else content


def _is_pattern(name: str, content: str, depth: int) -> bool:
    return len(content) == depth and "pattern" in name


def _is_index(name: str, content: Sequence[Any], depth: int) -> bool:
    """Whether a list holds layer numbers: ascending, below the depth, under a name that speaks of them."""
    if not INDEX_NAME.fullmatch(name) or not all(type(item) is int and 0 <= item < depth for item in content):
        return False
    return all(before < after for before, after in pairwise(content))


def _repeated(content: Sequence[Any]) -> list[Any] | None:
    """The entries of a list of [pattern, repeats]; None if it is none."""
    whole: list[Any] = []
    for item in content:
        if not (isinstance(item, Sequence) and len(item) == 2 and isinstance(item[1], int)):
            return None
        if not isinstance(item[0], Sequence) or isinstance(item[0], str):
            return None
        whole += list(item[0]) * item[1]
    return whole


def variants(fields: Mapping[str, Any], layers: int, groups: Sequence[Sequence[int]]) -> Iterator[Changes]:
    """Other ways to say what is in `layers` layers, of which `groups` (lists of indices) are alike.

    First lists of layer numbers, with and without all periods set to 1; then each field that may hold a period, an
    offset or a first layer; then each two of them that belong together (attn_layer_period, attn_layer_offset).
    """
    names = [name for name, content in fields.items() if _may_vary(name, content)]
    lists = [
        name
        for name, content in fields.items()
        if INDEX_NAME.fullmatch(name) and not SPECIAL.fullmatch(name) and isinstance(content, list | type(None))
    ]
    ones = {name: 1 for name in names if re.fullmatch(r".*(step|period|interval|every).*", name)}
    for name in lists:
        for group in groups:
            yield {name: list(group)}
            if ones:
                yield {name: list(group), **ones}
    singles = [(name, number) for name in names for number in range(layers + 2)]
    yield from ({name: number} for name, number in singles)
    for place, (name, number) in enumerate(singles):
        for other, another in singles[place + 1 :]:
            if other != name and other.rpartition("_")[0] == name.rpartition("_")[0]:
                yield {name: number, other: another}


def rescaled(fields: Mapping[str, Any], ratio: float) -> Iterator[Changes]:
    """Each real number of the configuration times a ratio: MiniCPM's scale_depth is divided by the depth's root."""
    yield from ({name: content * ratio} for name, content in fields.items() if type(content) is float and content)


def _may_vary(name: str, content: Any) -> bool:
    return type(content) is int and content >= 0 and PERIODIC.fullmatch(name) is not None
