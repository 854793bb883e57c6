"""Files of a stranger: regular ones, up to a size; a device or a pipe may have no end."""

from __future__ import annotations

import stat
from pathlib import Path

from flashstill.errors import BadInput


def check_regular(path: Path, most_bytes: int | None = None) -> None:
    """BadInput where it is not a regular file, or larger; a device or a pipe may have no end."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is not a regular file; give one")
    if most_bytes is not None and found.st_size > most_bytes:
        raise BadInput(f"{path} is larger than {most_bytes // 2**20} MiB, the most that is read of such a file")


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a regular file that is no larger; else BadInput."""
    check_regular(path, most_bytes)
    try:
        with path.open("rb") as stream:
            found = stream.read(most_bytes + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if len(found) > most_bytes:
        raise BadInput(f"{path} is larger than {most_bytes // 2**20} MiB, the most that is read of such a file")
    return found
