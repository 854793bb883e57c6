"""Files of a stranger: regular ones, up to a size and a depth; a device or a pipe may have no end."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, shortened

DEEPEST_JSON = 64
"""levels of brackets; published configurations have up to six"""


def named_path(name: str) -> Path:
    """The path that a user names, ~ for a home directory; as it is written where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def lone_surrogate(text: str) -> int | None:
    """The index of an unpaired UTF-16 surrogate, which JSON can escape and UTF-8 cannot encode; None where none is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """BadInput where it is not a regular file, or larger; a device or a pipe may have no end."""
    shown = shortened(str(path), 200)
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise BadInput(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{shown} is not a regular file; give one")
    if most_bytes is not None and status.st_size > most_bytes:
        raise _too_large(shown, most_bytes)


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a regular file that is no larger; else BadInput."""
    check_regular(path, most_bytes)
    shown = shortened(str(path), 200)
    try:
        with path.open("rb") as stream:
            content = stream.read(most_bytes + 1)
    except OSError as error:
        raise BadInput(f"{shown} cannot be read: {error.strerror or error}") from error
    if len(content) > most_bytes:  # it has grown since
        raise _too_large(shown, most_bytes)
    return content


def _too_large(shown: str, most_bytes: int) -> BadInput:
    return BadInput(f"{shown} is larger than {most_bytes // 2**20} MiB, the most that is read of such a file")


def is_deeper(value: Any, most: int = DEEPEST_JSON) -> bool:
    """Whether lists and objects of a parsed JSON value lie in each other at more than `most` levels."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    """The lists and objects directly inside a list or an object."""
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)]
