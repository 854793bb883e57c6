"""Which keys of [student] belong to which kinds of students: a key of another kind would be ignored in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from flashstill.errors import shown

if TYPE_CHECKING:
    from flashstill.recipes.distillation import ShapeRecipe

KINDS: Mapping[str, tuple[str, ...]] = {
    "keep_layers": ("depth",),
    "hidden": ("width",),
    "feed_forward": ("width", "dense", "eagle"),
    "key_heads": ("width",),
    "config": ("scratch",),
    "experts": ("width", "upcycle"),
    "experts_per_token": ("upcycle",),
    "shared_experts": ("upcycle",),
    "expert_neurons": ("width", "upcycle"),
    "into": ("upcycle", "dense"),
}
"""key of [student] -> kinds that read it; keys that are not here are of all kinds, or have sentences of their own"""


def shape_problems(student: ShapeRecipe) -> Iterator[str]:
    """Keys that a student of this kind does not read."""
    usual = {field.name: field.default for field in fields(student)}
    for key, kinds in KINDS.items():
        value = getattr(student, key)
        if value != usual[key] and student.kind not in kinds:
            of = kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"
            yield (
                f"student.{key} is {shown(value)}, but it is for students of kind {of}, not {student.kind}; leave it"
                " out, or change student.kind"
            )
