"""Width pruning: removes the least important units of a model's axes and keeps the rest as they are.

    hidden           dimensions of the residual stream, the same in all blocks
    feed_forward     neurons of the dense FFNs, chosen per FFN
    key_heads        groups of query heads that share a key head, chosen per block
    experts          routed experts, chosen per block; the same number from every group that a router chooses first
    expert_neurons   neurons of every expert, and of shared experts whose width is a multiple of theirs

Nothing is known about architectures: `axes.py` finds the dimensions of an axis from shapes, `proving.py` proves them,
and `importance.py` measures which units matter.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from flashstill.arch.adapter import axes as fields
from flashstill.arch.adapter.axes import EXPERT_COUNT, EXPERT_NEURONS, HIDDEN, KEY_GROUPS, NEURONS
from flashstill.distill.models import Model, cast
from flashstill.distill.models.expert_products import fit_experts
from flashstill.distill.students.axes import WORDS, Axis, Group, find_axis, meta_shapes
from flashstill.distill.students.cutting import reordered
from flashstill.distill.students.importance import measured
from flashstill.distill.students.proving import outputs, proven, some_tokens
from flashstill.errors import BadInput, UnsupportedArchitecture, first_line

Config = Any  # a transformers configuration
Scores = Mapping[str, Mapping[str, Tensor]]
"""scores [units] of the units of every group, by axis and group; [copies, units] for stacked experts"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Width:
    """The widths to keep; 0 keeps all. key_heads: groups of query heads that share keys and values."""

    hidden: int = 0
    feed_forward: int = 0
    key_heads: int = 0
    experts: int = 0
    expert_neurons: int = 0

    @property
    def asked(self) -> dict[str, int]:
        """The axes that are cut, with the units that stay."""
        sizes = {
            HIDDEN: self.hidden, NEURONS: self.feed_forward, KEY_GROUPS: self.key_heads,
            EXPERT_NEURONS: self.expert_neurons, EXPERT_COUNT: self.experts,
        }  # fmt: skip  # experts last: their neurons are scored for all of them
        return {axis: units for axis, units in sizes.items() if units}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A proven description of what a cut changes: the axes and their groups, and the widths to keep."""

    axes: tuple[Axis, ...]
    layouts: Mapping[str, tuple[Group, ...]]
    kept: Mapping[str, int]


def plan(model: Model, width: Width) -> Plan:
    """Which dimensions of which tensors a cut to `width` changes.

    Raises BadInput for widths that the model does not have, UnsupportedArchitecture for an axis that is not understood.
    """
    try:
        return _plan(model, width, bound=False)
    except UnsupportedArchitecture as unbound:
        if not {HIDDEN, KEY_GROUPS} & width.asked.keys():
            raise
        try:
            return _plan(model, width, bound=True)
        except UnsupportedArchitecture:
            raise unbound from None


def _plan(model: Model, width: Width, bound: bool) -> Plan:
    axes, layouts = [], {}
    for name, units in width.asked.items():
        axis = find_axis(model, name, bound and name in (HIDDEN, KEY_GROUPS))
        if not 0 < units <= axis.units:
            raise BadInput(
                f"a student cannot keep {units} of the teacher's {axis.units} {WORDS[name]}; give up to {axis.units},"
                " 0 for all"
            )
        if units < axis.units:
            axes.append(axis)
            layouts[name] = proven(model, axis)
    kept = {axis.name: width.asked[axis.name] for axis in axes}
    _check_distinct(model, axes)
    if bound:
        _check_proportion(model, {axis.name: axis for axis in axes}, kept)
    _check_groups(model, kept)
    return Plan(axes=tuple(axes), layouts=layouts, kept=kept)


def _check_distinct(model: Model, axes: list[Axis]) -> None:
    """BadInput if two axes are one: where all FFNs are experts, their width has one field."""
    for first, second in combinations(axes, 2):
        if set(first.fields) & set(second.fields):
            raise BadInput(
                f"{first.name} and {second.name} are one width in {type(model).__name__} ({first.fields[0]}); give one"
            )


def _check_proportion(model: Model, axes: Mapping[str, Axis], kept: Mapping[str, int]) -> None:
    """BadInput unless hidden dimensions and heads, which have one size, are cut in the same proportion."""
    if not axes.keys() & {HIDDEN, KEY_GROUPS}:
        return
    hidden, heads = find_axis(model, HIDDEN, bound=True), find_axis(model, KEY_GROUPS, bound=True)
    dims, groups = kept.get(HIDDEN, hidden.units), kept.get(KEY_GROUPS, heads.units)
    if dims * heads.units != groups * hidden.units:
        nearest = max(1, round(dims * heads.units / hidden.units)) if HIDDEN in kept else groups
        raise BadInput(
            f"in {type(model).__name__} the heads together are as wide as the hidden dimensions, so both are cut in"
            f" proportion: hidden = {nearest * hidden.units // heads.units} goes with key_heads = {nearest}"
        )


def _check_groups(model: Model, kept: Mapping[str, int]) -> None:
    """BadInput if a router cannot choose as many of the experts that stay as before."""
    if EXPERT_COUNT not in kept:
        return
    experts, chosen = kept[EXPERT_COUNT], fields.chosen_experts(model.config)
    groups, of_groups = fields.expert_groups(model.config)
    if experts % groups:
        nearest = max(groups, round(experts / groups) * groups)
        raise BadInput(f"experts = {experts} does not fill the router's {groups} groups evenly; nearest: {nearest}")
    least = max(chosen, -(-chosen // of_groups) * groups, 2 * groups if groups > 1 else 1)
    if experts < least:
        raise BadInput(
            f"experts = {experts} is fewer than a token gets ({chosen}, from {of_groups} of {groups} groups); keep at"
            f" least {least}"
        )


def importance(
    model: Model,
    tokens: Tensor,
    width: Width | Plan,
    learned: Tensor | None = None,
    starts: Tensor | None = None,
) -> Scores:
    """Scores of the units that a cut to `width` chooses among, from one pass over token ids [B, L].

    learned [B, L]: the places that count, None for all.  starts [B, L]: of documents (watching.py).
    """
    planned = width if isinstance(width, Plan) else plan(model, width)
    return measured(model, planned.layouts, tokens, learned, starts)


def narrow(model: Model, width: Width | Plan, scores: Scores) -> Model:
    """A copy of `model` with the units of the highest scores; without scores the first; the original is untouched."""
    planned = width if isinstance(width, Plan) else plan(model, width)
    state, cut = dict(model.state_dict()), {axis.name for axis in planned.axes}
    own_width = bool(cut & {HIDDEN, KEY_GROUPS}) and not any(axis.bound for axis in planned.axes)
    config = fields.explicit(model.config, own_width) if cut else copy.deepcopy(model.config)
    for axis in planned.axes:
        units = planned.kept[axis.name]
        for group in planned.layouts[axis.name]:
            left = _share(model, axis, group.units, units)
            kept = _best(model, axis, group, left, scores.get(axis.name, {}).get(group.name))
            for side in group.sides:
                state[side.tensor] = reordered(state[side.tensor], side, group, kept)
        try:
            config = fields.scaled(config, axis.fields, units, axis.units)
        except ValueError as error:
            raise BadInput(f"{type(model).__name__} cannot keep {units} {WORDS[axis.name]}: {error}") from error
    return _built(model, config, state)


def _share(model: Model, axis: Axis, whole: int, units: int) -> int:
    """Units of a group that stay: as many as of the axis, or the same share (shared experts are several wide)."""
    left, over = divmod(whole * units, axis.units)
    if over or not left:
        raise BadInput(
            f"{type(model).__name__} has parts of {whole} {WORDS[axis.name]} beside those of {axis.units}, of which no"
            f" whole number stays when {units} are kept"
        )
    return left


def _best(model: Model, axis: Axis, group: Group, count: int, scores: Tensor | None) -> Tensor:
    """Ascending indices [count] of the units with the highest scores; [copies, count] for copies; experts by group."""
    if scores is None:
        scores = -torch.arange(group.units).float().expand(group.copies or 1, -1)
        scores = scores if group.copies else scores[0]
    parts = fields.expert_groups(model.config)[0] if axis.name == EXPERT_COUNT else 1
    size = group.units // parts
    in_parts = scores.reshape(*scores.shape[:-1], parts, size).topk(count // parts, dim=-1).indices.sort(-1).values
    starts = torch.arange(parts)[:, None] * size
    kept: Tensor = (in_parts.cpu() + starts).flatten(-2)
    return kept


def _built(model: Model, config: Config, state: dict[str, Tensor]) -> Model:
    """A model of these weights, built from the new configuration, so that no module keeps the old sizes."""
    try:
        config.validate()
        saved = type(config).from_dict(config.to_dict())
        shapes = meta_shapes(model, saved)
    except Exception as error:  # the library's own kinds of errors for a configuration
        why = str(error).strip().splitlines()[-1].strip().removeprefix("ValueError: ")
        raise BadInput(f"transformers refuses a student of this width: {why}") from error
    wrong = [name for name, tensor in state.items() if shapes.get(name) != tuple(tensor.shape)]
    if wrong:
        raise UnsupportedArchitecture(
            f"{type(model).__name__} cannot be cut to this width: its configuration makes {wrong[0]} of shape"
            f" {shapes.get(wrong[0])}, but {tuple(state[wrong[0]].shape)} is left"
        )
    first = next(model.parameters())
    student = cast(type(model)(config), first.dtype).to(first.device)
    student.load_state_dict(state)
    student.eval()
    fit_experts(student)
    try:
        outputs(student, some_tokens(student, torch.Generator().manual_seed(0)))
    except RuntimeError as error:
        raise BadInput(f"a student of this width does not run ({first_line(error)})") from error
    return student
