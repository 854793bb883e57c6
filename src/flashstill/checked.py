"""Validate external data into frozen dataclasses: pydantic checks every value, errors are one-sentence BadInput.

Bounds are part of the field types (`Annotated[int, between(1, 64)]`).  Data is passed to pydantic as JSON in strict
mode: strings are not converted to numbers, nor numbers to booleans; a list is accepted for a tuple.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from flashstill.bounded import lone_surrogate, read_bounded
from flashstill.errors import BadInput, nearest, shortened, shown, unknown

T = TypeVar("T")
DEEPEST = 16
"""nesting levels of tables and lists"""
MOST_HOMES = 3
"""tables that a message names for a key that stands in the wrong one"""
LARGEST = 1e30
"""upper limit of any number; no quantity of a model, text or machine is larger"""
_EXPECTED = {
    "int_type": "a whole number", "float_type": "a number", "string_type": "a text", "bool_type": "true or false",
    "tuple_type": "a list", "dataclass_type": "a table", "mapping_type": "a table", "dict_type": "a table",
}  # fmt: skip


def between(low: float, high: float, open_low: bool = False, open_high: bool = False) -> AfterValidator:
    """Validator: a number from `low` to `high`; open_low, open_high exclude that end."""

    def check(value: float) -> float:
        if (low < value if open_low else low <= value) and (value < high if open_high else value <= high):
            return value
        raise PydanticCustomError("range", "{rule}", {"rule": _range(value, low, high, open_low, open_high)})

    return AfterValidator(check)


Number: TypeAlias = Annotated[float, between(-LARGEST, LARGEST)]
Amount: TypeAlias = Annotated[float, between(0, LARGEST)]
"""a non-negative number in the results of a run"""


def _range(value: float, low: float, high: float, open_low: bool, open_high: bool) -> str:
    if high <= 10:
        ends = (open_low, open_high)
        how = {
            (True, False): f"above {low:g} and up to {high:g}",
            (False, True): f"at least {low:g} and below {high:g}",
        }
        return f"lie {how[ends]}" if ends in how else f"lie between {low:g} and {high:g}"
    if value <= low:
        return "be positive" if open_low and not low else f"be above {low:g}" if open_low else f"be at least {low:g}"
    return f"be below {high:,g}" if open_high else f"be at most {int(high):,}"


def one_of(choices: Collection[str]) -> AfterValidator:
    """Validator: a string that is one of `choices`."""

    def check(value: str) -> str:
        if value in choices:
            return value
        raise PydanticCustomError(
            "choice", "{sentence}", {"sentence": unknown("KEY", value, [name for name in choices if name])}
        )

    return AfterValidator(check)


def sized(least: int, most: int) -> AfterValidator:
    """Validator: a list or string with `least` to `most` entries or characters."""

    def check(value: Any) -> Any:
        if least <= len(value) <= most:
            return value
        what = "characters" if isinstance(value, str) else "entries"
        rule = f"have at least {least} {what}" if len(value) < least else f"have at most {most:,} {what}"
        raise PydanticCustomError("range", "{rule}", {"rule": rule.replace("1 entries", "one entry")})

    return AfterValidator(check)


def shaped(broken_rule: Callable[[str], str]) -> AfterValidator:
    """Validator of strings. broken_rule: value -> what it must be, or "" if it is valid."""

    def check(value: str) -> str:
        rule = broken_rule(value)
        if rule:
            raise PydanticCustomError("range", "{rule}", {"rule": rule})
        return value

    return AfterValidator(check)


def json_object(path: Path, most_bytes: int = 2**26) -> dict[str, Any]:
    """The JSON object in a file; BadInput if the file is missing, not regular, too large or not a JSON object."""
    return _object(_text(path, most_bytes), shortened(str(path), 200))


def json_rows(path: Path, most_bytes: int = 2**28) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, object) for each non-blank line of a JSONL file; BadInput names a line that is not a JSON object."""
    for number, line in enumerate(_text(path, most_bytes).split("\n"), start=1):
        if line.strip():
            where = f"{shortened(str(path), 200)}, line {number}"
            yield where, _object(line, where)


def toml_tree(path: Path, most_bytes: int = 2**20) -> dict[str, Any]:
    """The parsed TOML file; BadInput if it is missing, not a regular file, too large or not TOML."""
    shown = shortened(str(path), 200)
    try:
        return tomllib.loads(_text(path, most_bytes, "TOML"))
    except RecursionError as error:
        raise BadInput(f"{shown} is not a recipe: its lists or tables nest too deep") from error
    except ValueError as error:  # also raised for integers beyond Python's digit limit
        raise BadInput(f"{shown} is not TOML: {shortened(str(error), 200)}") from error


def _text(path: Path, most_bytes: int, kind: str = "JSON") -> str:
    try:
        # Some editors begin a file with a byte order mark.
        return read_bounded(path, most_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        shown = shortened(str(path), 200)
        raise BadInput(f"{shown} is not {kind}: it is no UTF-8 text at byte {error.start}") from error


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except RecursionError as error:
        raise BadInput(f"{where} cannot be read: its brackets nest too deep") from error
    except ValueError as error:
        raise BadInput(f"{where} is not JSON: {shortened(str(error), 200)}") from error
    if not isinstance(tree, dict):
        raise BadInput(f"{where} is not a JSON object")
    return tree


def built(kind: type[T], raw: Mapping[str, Any], where: str, open_end: bool = False) -> T:
    """Validate nested plain data into the dataclass `kind`; BadInput names `where` and the invalid key.

    open_end: unknown keys are ignored.
    """
    for key, problem in _foreign(raw, "", 0):
        raise BadInput(f"{where}: {f'{shortened(key)!r} ' if key else ''}{problem}")
    for key, known in () if open_end else _unknown_keys(kind, raw, ""):
        name = key.rpartition(".")[2]
        homes = sorted(dict.fromkeys(_tables_with(kind, name)), key=lambda table: table.count("."))[:MOST_HOMES]
        close = f"the nearest known: {', '.join(nearest(name, known))}"
        hint = f"it is a key of {' or '.join(homes)}" if homes else close
        raise BadInput(f"{where}: unknown key {shortened(key)!r}; {hint}")
    try:
        value: T = _adapter(typing.cast("Any", kind)).validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise BadInput(f"{where}: {_sentence(error)}") from None
    return value


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key, came = _path(first["loc"]), shortened(repr(first["input"]))
    if first["type"] == "missing":
        return f"the key {key!r} is missing"
    if first["type"] == "choice":
        return f"{first['msg'].replace('KEY', key, 1)}"
    if first["type"] == "range":
        value = first["input"]
        return f"{key} is {f'{value:g}' if isinstance(value, float) else shown(value)}; it must {first['msg']}"
    if first["type"] in _EXPECTED:
        return f"{key!r} is {came}, not {_EXPECTED[first['type']]}" if key else f"it is {came}, not a table"
    return f"{key!r} is {came}: {first['msg']}" if key else first["msg"]


def _path(places: tuple[int | str, ...]) -> str:
    return "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places).removeprefix(".")


def _foreign(value: Any, key: str, level: int) -> Iterator[tuple[str, str]]:
    """(key, problem) of values never allowed: dates, non-finite numbers, integers over 64 bits, deep nesting."""
    if level > DEEPEST:
        yield key, f"nests deeper than {DEEPEST} levels"
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _foreign(entry, f"{key}.{name}" if key else name, level + 1)
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            yield from _foreign(entry, f"{key}[{place}]", level + 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield key, f"is {value}, not a finite number"
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            yield key, "is a number beyond 64 bits"
    elif isinstance(value, str):
        if lone_surrogate(value) is not None:
            yield key, "holds half a character (a lone surrogate)"
    elif value is not None:
        yield key, f"is {value}, a date or time, which no key takes"


def _unknown_keys(kind: Any, raw: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """(path of the key, known keys) for each table key that its dataclass does not have."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is tuple and isinstance(raw, list):
        for place, entry in enumerate(raw):
            yield from _unknown_keys(typing.get_args(kind)[0], entry, f"{prefix[:-1]}[{place}].")
    elif dataclasses.is_dataclass(kind) and isinstance(raw, Mapping):
        hints, known = fields_of(typing.cast("Any", kind)), [entry.name for entry in dataclasses.fields(kind)]
        for key, entry in raw.items():
            if key not in known:
                yield prefix + key, known
            else:
                yield from _unknown_keys(hints[key], entry, f"{prefix}{key}.")


def _tables_with(kind: Any, name: str, path: str = "", level: int = 0) -> Iterator[str]:
    """The tables below a dataclass, as a TOML file names them, that have a key of this name: [train], [[students]]."""
    annotated = typing.get_origin(kind) is typing.Annotated  # its other arguments are validators
    for inside in typing.get_args(kind)[: 1 if annotated else None]:
        yield from _tables_with(inside, name, path, level)
    if not dataclasses.is_dataclass(kind) or level > DEEPEST:
        return
    for field, of in fields_of(typing.cast("Any", kind)).items():
        if field == name and path:
            yield path
        below = f"{path.strip('[]')}.{field}".removeprefix(".")
        yield from _tables_with(of, name, f"[[{below}]]" if "tuple" in str(of) else f"[{below}]", level + 1)


@lru_cache(maxsize=64)
def fields_of(kind: Any) -> dict[str, Any]:
    """Field name -> type of a dataclass, `Annotated` bounds included."""
    return typing.get_type_hints(kind, include_extras=True)
