"""Reads and writes recipes as TOML; checks file size, unknown keys, types and ranges."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any, TypeVar

from flashstill.checked import toml_tree
from flashstill.errors import BadInput, shortened

T = TypeVar("T")


def read_tree(path: Path) -> dict[str, Any]:
    """The tables of a recipe file; BadInput if it is missing, not a regular file, too large, or not TOML."""
    shown = shortened(str(path), 200)
    try:
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise BadInput(f"recipe {shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not exists:
        raise BadInput(f"there is no recipe at {shown}")
    return toml_tree(path)


def located(value: str, base: Path, where: Path, key: str) -> str:
    """Make a path absolute if it exists relative to `base`, the recipe's directory; other text is returned unchanged.

    Raises BadInput for anything but a regular file or a directory: a device or a pipe may be endless.
    """
    if not value:
        return value
    path, split = base / value, ""
    head, colon, tail = value.rpartition(":")
    if colon and tail and "/" not in tail and _is_directory(base / head) and not path.exists():  # "DIR:train", a split
        path, split = base / head, f":{tail}"
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return value
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise BadInput(f"{where}: {key} is {value!r}, which is neither a regular file nor a directory; give one")
    return str(path.resolve()) + split


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def to_toml(recipe: Any) -> str:
    """The recipe as TOML with all defaults written out."""
    import tomli_w

    return tomli_w.dumps(_plain(dataclasses.asdict(recipe)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
