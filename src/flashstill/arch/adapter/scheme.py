"""What readers of quantisation schemes share: formats with scales, and the modules that a list names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flashstill.arch.adapter.fields import Fields
from flashstill.arch.adapter.modules import Modules
from flashstill.arch.formats import BITS, Formats, Stored

BLOCKS = ("linear", "experts", "attention")
_NOT_CONVERTED = (
    "modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules", "exclude",
)  # fmt: skip


def scaled(name: str, block: int, scale_bits: float) -> Stored:
    """A format with one scale per block of weights; block 0: scales are too few to count."""
    return Stored(name=name, bits=BITS[name] + (scale_bits / block if block > 0 else 0.0))


def names_of(scheme: Fields, field: str) -> list[str]:
    """The names that a field lists; none if it is not set."""
    listed = scheme.value(field) or []
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise scheme.fail(f": {field} is not a list of names")
    return listed


def matches(scheme: Fields, modules: Modules, kind: str, patterns: Sequence[str]) -> bool:
    """Whether `patterns` name the modules of this kind of weight; a bad pattern is an error of the scheme."""
    if not patterns:
        return False
    try:
        return modules.matches(kind, patterns)
    except ValueError as error:
        raise scheme.fail(f": {error}") from error


def excluded(scheme: Fields, modules: Modules, kind: str) -> bool:
    """Whether the scheme leaves this kind of weight as it is."""
    alone = [name for field in _NOT_CONVERTED for name in names_of(scheme, field)]
    return matches(scheme, modules, kind, alone)


def applied(
    scheme: Fields, formats: Formats, modules: Modules, name: str | None, stored: Stored, kinds: Sequence[str]
) -> Formats:
    """`formats` with `stored` for the given kinds, except those that the scheme excludes."""
    changed: dict[str, Any] = {kind: stored for kind in kinds if not excluded(scheme, modules, kind)}
    return replace(formats, scheme=name, **changed)
