"""TOML to frozen dataclasses and back: every key typed, every unknown key named with the nearest known one."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from flashstill.errors import BadInput, nearest

T = TypeVar("T")
MAY_BE_EMPTY = {"may_be_empty": True}
"""metadata of a field whose list may have no entry"""


def read_toml(path: Path, kind: type[T]) -> T:
    """The file as a `kind`; BadInput where it is missing, is not TOML, or a key is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"there is no recipe at {path}") from error
    except OSError as error:
        raise BadInput(f"recipe {path} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {path} is not TOML: {error}") from error
    return _build(kind, raw, str(path), "")


def _build(kind: type[T], raw: Mapping[str, Any], where: str, prefix: str) -> T:
    hints = typing.get_type_hints(kind)
    known = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in raw:
        if key not in known:
            close = ", ".join(nearest(key, known))
            raise BadInput(f"{where}: unknown key {prefix + key!r}; the nearest known: {close}")
    values = {}
    for key, entry in known.items():
        if key in raw and raw[key] == [] and entry.metadata.get("may_be_empty"):
            values[key] = ()
        elif key in raw:
            values[key] = _convert(hints[key], raw[key], where, prefix + key)
        elif entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise BadInput(f"{where}: the key {prefix + key!r} is missing")
    return kind(**values)


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise BadInput(f"{where}: {key!r} must be a table")
        return _build(hint, value, where, key + ".")
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list) or not value:
            raise BadInput(f"{where}: {key!r} must be a list with at least one entry")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, entry, where, f"{key}[{index}]") for index, entry in enumerate(value))
    if typing.get_origin(hint) is Mapping:  # a table with keys of its own: another package knows them
        if not isinstance(value, Mapping):
            raise BadInput(f"{where}: {key!r} must be a table")
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        wanted = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]
        raise BadInput(f"{where}: {key!r} is {value!r}, not {wanted}")
    return value


def to_toml(recipe: Any) -> str:
    """The recipe with every default written out."""
    import tomli_w

    return tomli_w.dumps(_plain(dataclasses.asdict(recipe)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
