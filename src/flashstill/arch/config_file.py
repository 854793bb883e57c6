"""A config.json from the disk: found, bounded, and read as strict JSON before anything is made of it.

What a user names may be any text, and what lies on the disk may be any file, so that each way to fail is one sentence.
An architecture is remembered by the content of its file, never by the path alone: a file that changes gives a new one.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from flashstill.arch.adapter import from_hf
from flashstill.arch.model import Architecture
from flashstill.bounded import DEEPEST_JSON, is_deeper, read_bounded
from flashstill.errors import BadInput, shortened

_MOST_BYTES = 8 * 2**20
"""the longest published ones, with the names of all quantised modules, have one to two million"""
_REMEMBERED = 256
_built: dict[tuple[bytes, str], Architecture] = {}


def existing(name: str) -> Path | None:
    """The file or directory of that name; None where there is none, or where no path can be called that."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, or the home of an unknown user
        return None


def read_config(path: Path, name: str) -> Architecture:
    """The architecture in a config.json. Raises BadInput for a broken file, UnsupportedArchitecture."""
    import hashlib  # imported here: it would add milliseconds to every start

    content = _content(path)
    key = (hashlib.sha256(content).digest(), name)
    known = _built.get(key)
    if known is None:
        known = from_hf(parsed(content, path), name)
        if len(_built) >= _REMEMBERED:
            _built.clear()
        _built[key] = known
    return known


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, _MOST_BYTES)
    except BadInput as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BadInput(f"there is no config.json at {shortened(str(path), 200)}") from error
        raise


def parsed(content: bytes, path: Path) -> dict[str, Any]:
    """The object in a configuration; a byte order mark is skipped."""
    shown, broken = shortened(str(path), 200), "the model's configuration is broken"
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{shown} is not UTF-8 text at byte {error.start}; {broken}") from error
    deepest = BadInput(f"{shown} nests its brackets deeper than {DEEPEST_JSON} levels; {broken}")
    try:
        config = json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise deepest from error
    except _Twice as error:
        raise BadInput(f"{shown} sets {shortened(str(error))!r} twice; {broken}") from error
    except ValueError as error:
        raise BadInput(f"{shown} is not JSON ({shortened(str(error))}); {broken}") from error
    if not isinstance(config, dict):
        raise BadInput(f"{shown} is not a JSON object; {broken}")
    if is_deeper(config):
        raise deepest
    return config


class _Twice(Exception):
    """A key stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _Twice(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return fields
