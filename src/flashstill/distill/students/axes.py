"""Which dimensions of which tensors belong to an axis of a model: found from shapes, without a list of architectures.

The model's shapes are compared with those of a model whose configuration makes one axis twice as wide; a dimension that
doubles belongs to the axis.  A dimension of s elements with u units is laid out in one of two ways:

    unit by unit     u runs of s/u elements: query heads by key head, a fused QKV of GPT-NeoX, gate and up of gpt-oss
    part by part     several matrices one after the other, each unit by unit: QKV of Phi-3 and GPT-2, gate and up

Where shapes leave both open, both are proposed; `proving.py` tells which one is right, or that none is.

Where a family has no head width of its own (GPT-2: hidden / heads), hidden dimensions and heads are scaled together,
and the names of attention's matrices tell which of their dimensions are heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

from flashstill.arch.adapter import axes as fields
from flashstill.arch.adapter.axes import EXPERT_COUNT, EXPERT_NEURONS, HIDDEN, KEY_GROUPS, NEURONS
from flashstill.distill.models import Model, decoder_layers
from flashstill.distill.models.rebuild import without_memory
from flashstill.errors import UnsupportedArchitecture

WORDS = {
    HIDDEN: "hidden dimensions", NEURONS: "FFN neurons", KEY_GROUPS: "key heads", EXPERT_COUNT: "experts",
    EXPERT_NEURONS: "neurons of an expert",
}  # fmt: skip
MOST_LAYOUTS = 16
Shapes = dict[str, tuple[int, ...]]
Place = tuple[str, int]
"""a tensor's name and the number of one of its dimensions"""
_OUTPUT = re.compile(r"(^|_)(o|out|dense|wo|c_proj|output)(_proj|_linear)?$")
_OF_HEADS = re.compile(r"(^|_)(q|k|query|key)(_|$|norm|layernorm)")
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One dimension of a tensor: for each of its parts, the number of elements of one unit."""

    tensor: str
    dim: int
    parts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Units that are cut together, and the dimensions that hold them.

    copies: experts that each have such units of their own (neurons of stacked experts); 0 for none."""

    name: str
    units: int
    sides: tuple[Side, ...]
    copies: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An axis: its fields in the configuration, their value, and possible layouts of its groups.

    bound: hidden dimensions and heads have one size, so that both must be cut in proportion."""

    name: str
    fields: tuple[str, ...]
    units: int
    layouts: tuple[tuple[Group, ...], ...]
    bound: bool = False


def find_axis(model: Model, name: str, bound: bool = False) -> Axis:
    """The axis `name` of a model; bound: in a family in which the width of heads is hidden / heads.

    Raises UnsupportedArchitecture in one sentence if its sizes follow no known rule.
    """
    before, stated = _shapes(model.state_dict()), fields.explicit(model.config, head_width=not bound)
    reason = f"no field of its configuration sets their number by itself ({type(model.config).__name__})"
    found: list[tuple[tuple[str, ...], list[Place]]] = []
    for names, others in _choices(stated, name, bound):
        places = _places(model, stated, (*names, *others), before)
        if isinstance(places, str):
            reason = places
            continue
        if bound:
            places = [each for each in places if _is_of_heads(model, before, each) == (name == KEY_GROUPS)]
        if places:
            found.append((names, places))
    stacked = [_is_stacked(before, places) for _, places in found]
    if name == EXPERT_NEURONS:
        found = [each for each, has in zip(found, stacked, strict=True) if has]
    elif name == NEURONS and not all(stacked):
        found = [each for each, has in zip(found, stacked, strict=True) if not has]
    if not found:
        raise _refused(model, name, reason)
    names, places = found[0]
    return _axis(model, stated, name, names, before, places, bound)


def _choices(stated: Any, name: str, bound: bool) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Fields that may set the axis, and others that are scaled with them."""
    for names in fields.choices(stated, name):
        if not bound:
            yield names, ()
        else:
            for others in fields.choices(stated, HIDDEN if name == KEY_GROUPS else KEY_GROUPS):
                yield names, others


def meta_shapes(model: Model, configuration: Any) -> Shapes:
    """Shapes of all saved tensors of a model of this class with another configuration; nothing is allocated."""
    with without_memory():
        return _shapes(type(model)(configuration).state_dict())


def _shapes(state: Any) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _places(model: Model, stated: Any, names: Sequence[str], before: Shapes) -> list[Place] | str:
    """The dimensions that double with these fields, or the reason why they cannot be told."""
    try:
        after = meta_shapes(model, fields.scaled(stated, names, 2, 1))
    except Exception as error:  # transformers and torch raise many kinds for sizes that do not fit together
        return f"its modules cannot be made with another {names[0]} ({str(error).strip().splitlines()[-1][:120]})"
    if after.keys() != before.keys():
        return f"another {names[0]} changes which tensors it has"
    places = []
    for tensor, shape in before.items():
        if len(after[tensor]) != len(shape):
            return f"another {names[0]} changes the dimensions of {tensor}"
        for dim, (old, new) in enumerate(zip(shape, after[tensor], strict=True)):
            if new == 2 * old:
                places.append((tensor, dim))
            elif new != old:
                return f"dimension {dim} of {tensor} grows with {names[0]}, but not in proportion"
    return places


def _is_stacked(before: Shapes, places: list[Place]) -> bool:
    """Whether the axis is that of stacked experts: dimensions of tensors [experts, ., .] other than the first."""
    return any(len(before[tensor]) == 3 and dim > 0 for tensor, dim in places)


def _is_of_heads(model: Model, before: Shapes, place: Place) -> bool:
    """Whether a dimension of an attention module holds heads rather than hidden dimensions, by its module's name."""
    tensor, dim = place
    path, _, _ = tensor.rpartition(".")
    outer, _, leaf = path.rpartition(".")
    if not _ATTENTION.search(outer):
        return False
    if len(before[tensor]) == 2:
        output_dim = 1 if type(model.get_submodule(path)).__name__ == "Conv1D" else 0
        return (dim == output_dim) != bool(_OUTPUT.search(leaf))
    norm = "norm" in type(model.get_submodule(path)).__name__.lower()
    return bool(_OF_HEADS.search(leaf)) if norm else not _OUTPUT.search(leaf)


def _axis(
    model: Model, stated: Any, name: str, names: tuple[str, ...], before: Shapes, places: list[Place], bound: bool
) -> Axis:
    """The axis with all its possible layouts. places: of the dimensions that hold it."""
    units, blocks = fields.units(stated, names), block_path(model)
    experts = next(fields.choices(stated, EXPERT_COUNT), None)
    by_group: dict[str, list[Place]] = {}
    for place in places:
        by_group.setdefault(_group_of(name, place[0], blocks, before), []).append(place)
    skeletons = []
    for key, members in by_group.items():
        sizes = [before[tensor][dim] for tensor, dim in members]
        copies = 0
        if name in (NEURONS, EXPERT_NEURONS) and experts and _is_stacked(before, members):
            copies = before[members[0][0]][0]
            if any(before[tensor][0] != copies for tensor, _ in members):
                raise _refused(model, name, f"the tensors of {key} hold different numbers of experts")
        count = min(sizes) if name in (NEURONS, EXPERT_NEURONS) else units
        if any(size % count for size in sizes):
            raise _refused(model, name, f"{count} of them do not divide the sizes {sorted(set(sizes))} in {key}")
        skeletons.append((key, count, copies, members))
    if not skeletons:
        raise _refused(model, name, "none of its matrices holds them")
    open_to: dict[str, list[tuple[int, ...]]] = {}
    for _, count, _, members in skeletons:
        for tensor, dim in members:
            each = before[tensor][dim] // count
            open_to.setdefault(_pattern(tensor, each), _partings(stated, name, each, count))
    layouts = []
    for chosen in islice(product(*open_to.values()), MOST_LAYOUTS):
        by_pattern = dict(zip(open_to, chosen, strict=True))
        layouts.append(
            tuple(
                Group(
                    name=key, units=count, copies=copies,
                    sides=tuple(
                        Side(tensor=tensor, dim=dim, parts=by_pattern[_pattern(tensor, before[tensor][dim] // count)])
                        for tensor, dim in members
                    ),
                )
                for key, count, copies, members in skeletons
            )
        )  # fmt: skip
    return Axis(name=name, fields=names, units=units, layouts=tuple(layouts), bound=bound)


def _partings(stated: Any, name: str, each: int, units: int) -> list[tuple[int, ...]]:
    """Possible parts of a dimension with `each` elements per unit."""
    if name == EXPERT_COUNT or each == 1:
        return [(each,)]
    if name == KEY_GROUPS:
        queries = fields.heads_of(stated) // units
        fused, over = divmod(each, queries + 2)
        return [(each,)] if over else [(each,), (queries * fused, fused, fused)]
    return [(1,) * each, (each,)]


def _pattern(tensor: str, each: int) -> str:
    """The module that owns a tensor, without the numbers of its blocks: its weight and bias have one layout."""
    return f"{re.sub(r'[.][0-9]+[.]', '.*.', tensor).rpartition('.')[0]} {each}"


def _group_of(name: str, tensor: str, blocks: str, before: Shapes) -> str:
    """The name of the group of a tensor: one for the stream, one per block for heads and experts, one per FFN."""
    if name == HIDDEN:
        return ""
    path = tensor.rpartition(".")[0]
    if name in (KEY_GROUPS, EXPERT_COUNT):
        inside = re.match(re.escape(blocks) + r"[.][0-9]+", tensor)
        return inside.group() if inside else path.rpartition(".")[0]
    owns_stacked = any(len(shape) == 3 and other.rpartition(".")[0] == path for other, shape in before.items())
    return path if owns_stacked else path.rpartition(".")[0]


def block_path(model: Model) -> str:
    """The name of the list of blocks, such as `model.layers`."""
    blocks = decoder_layers(model)
    path: str = next(name for name, module in model.named_modules() if module is blocks)
    return path


def _refused(model: Model, name: str, reason: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(f"{type(model).__name__} cannot be cut in {WORDS[name]}: {reason}")
