"""As much of JSON Schema (draft 2020-12) as tests/schemas needs: where a value breaks a schema, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("schemas")
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "number": (int, float),
    "integer": (int,), "null": (type(None),),
}  # fmt: skip
KNOWN = {
    "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "definitions", "enum", "format", "items", "maximum",
    "minimum", "oneOf", "pattern", "patternProperties", "properties", "required", "type", "unevaluatedProperties",
    "uniqueItems",
}  # fmt: skip


@cache
def schema(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def mistakes(root: Any, part: Any, value: Any, place: str = "") -> Iterator[str]:
    """root: the whole schema, in which references are looked up; part: the schema of this value."""
    if isinstance(part, bool):
        if not part:
            yield f"{place} is not allowed"
        return
    unknown = set(part) - KNOWN
    assert not unknown, f"the schema has {unknown}"
    if "$ref" in part:
        yield from mistakes(root, _referred(root, part["$ref"]), value, place)
    wanted = part.get("type", list(TYPES))
    if not any(_is(value, kind) for kind in ([wanted] if isinstance(wanted, str) else wanted)):
        yield f"{place} is {value!r}, not {wanted}"
        return
    if "enum" in part and value not in part["enum"]:
        yield f"{place} is {value!r}, not of {part['enum']}"
    if isinstance(value, str) and "pattern" in part and not re.search(part["pattern"], value):
        yield f"{place} is {value!r}, not {part['pattern']}"
    if isinstance(value, int | float) and not part.get("minimum", value) <= value <= part.get("maximum", value):
        yield f"{place} is {value!r}, out of range"
    for choice in part.get("allOf", ()):
        yield from mistakes(root, choice, value, place)
    for name in ("oneOf", "anyOf"):
        if name in part:
            tried = [list(mistakes(root, choice, value, place)) for choice in part[name]]
            good = sum(not each for each in tried)
            if not good or (name == "oneOf" and good > 1):
                yield f"{place} fits {good} of {len(tried)}: {min(tried, key=len)}"
    if isinstance(value, list):
        if part.get("uniqueItems") and len({json.dumps(item, sort_keys=True) for item in value}) < len(value):
            yield f"{place} repeats itself"
        for number, item in enumerate(value):
            yield from mistakes(root, part.get("items", True), item, f"{place}[{number}]")
    if isinstance(value, dict):
        yield from _of_fields(root, part, value, place)


def _of_fields(root: Any, part: Any, value: dict[str, Any], place: str) -> Iterator[str]:
    for name in part.get("required", ()):
        if name not in value:
            yield f"{place} has no {name}"
    for name, inner in value.items():
        own = _parts(part, name)
        for each in own or [part.get("additionalProperties", True)]:
            yield from mistakes(root, each, inner, f"{place}.{name}")
        if part.get("unevaluatedProperties") is False and not _evaluated(root, part, name):
            yield f"{place}.{name} is not allowed"


def _parts(part: Any, name: str) -> list[Any]:
    found = [part["properties"][name]] if name in part.get("properties", {}) else []
    return found + [inner for pattern, inner in part.get("patternProperties", {}).items() if re.search(pattern, name)]


def _evaluated(root: Any, part: Any, name: str) -> bool:
    if _parts(part, name):
        return True
    more = [*part.get("allOf", ()), *([_referred(root, part["$ref"])] if "$ref" in part else [])]
    return any(_evaluated(root, each, name) for each in more)


def _referred(root: Any, reference: str) -> Any:
    found = root
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])
