"""Read untrusted files: regular files only (a device or pipe may be endless), with limits on size and JSON depth."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, shortened

DEEPEST_JSON = 64
"""nesting levels of JSON; published configurations have at most six"""


def named_path(name: str) -> Path:
    """The path a user gave, with ~ expanded; unchanged if that user does not exist."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def lone_surrogate(text: str) -> int | None:
    """Index of the first unpaired UTF-16 surrogate (allowed in JSON escapes, not encodable as UTF-8), or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """Raise BadInput if `path` is not a regular file (a device or pipe may be endless) or exceeds `most_bytes`."""
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
    """Content of a regular file of at most `most_bytes`; BadInput otherwise."""
    check_regular(path, most_bytes)
    shown = shortened(str(path), 200)
    try:
        with path.open("rb") as stream:
            content = stream.read(most_bytes + 1)
    except OSError as error:
        raise BadInput(f"{shown} cannot be read: {error.strerror or error}") from error
    if len(content) > most_bytes:  # the file grew after its size was checked
        raise _too_large(shown, most_bytes)
    return content


def _too_large(shown: str, most_bytes: int) -> BadInput:
    return BadInput(f"{shown} is larger than {most_bytes // 2**20} MiB, the most that is read of such a file")


def is_deeper(value: Any, most: int = DEEPEST_JSON) -> bool:
    """Whether a parsed JSON value is nested more than `most` levels deep."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(most):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    """The lists and objects directly inside a list or an object."""
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list)]
