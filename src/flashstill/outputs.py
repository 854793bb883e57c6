"""Text for a file that a user named: written through links, fifos and devices, or replacing a regular file whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from flashstill.errors import DiskTrouble
from flashstill.files import replacing

STANDARD = Path("-")
"""standard input or output, where a user names a file"""
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


@contextlib.contextmanager
def written_out(path: Path) -> Iterator[TextIO]:
    """Text for a file that a user named. "-" is standard output; DiskTrouble says in a sentence what does not go.

    A regular file gets the new text whole or not at all, and keeps its mode; links stay and their target is written;
    fifos and devices are written into; nothing else is replaced, and no directory is made.
    """
    if path == STANDARD:
        with _standard_output() as stream:
            yield stream
        return
    descriptor = None
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()  # raises for a symlink loop, which would otherwise look like a missing file
        descriptor, target = _descriptor(path), Path(os.path.realpath(path))
        if descriptor is not None:
            place: Any = os.fdopen(os.dup(descriptor), "w", **_TEXT)
        elif target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a directory; name a file")
        elif not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no directory {target.parent}; make it first")
        elif not target.exists() or target.is_file():
            place = _regular(target)
        else:
            place = target.open("w", **_TEXT)
        with place as stream:
            yield stream
    except BrokenPipeError as error:
        if descriptor is not None:
            raise  # the reader of standard output closed the pipe (as `head` does)
        raise DiskTrouble(f"cannot write {path}: whoever read it has left") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiskTrouble(f"cannot write {path}: {reason[:1].lower()}{reason[1:]}") from error


@contextlib.contextmanager
def _regular(target: Path) -> Iterator[TextIO]:
    """A regular file or one to be: replaced, or where that would cut a hard link or may not be, rewritten."""
    existing = target.stat() if target.exists() else None
    if existing is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "permission denied")
    if existing is None or (existing.st_nlink == 1 and os.access(target.parent, os.W_OK)):
        with replacing(target) as temporary:
            with temporary.open("w", **_TEXT) as stream:
                yield stream
            if existing is not None:
                temporary.chmod(stat.S_IMODE(existing.st_mode))
        return
    import shutil
    import tempfile

    with tempfile.TemporaryFile("w+", **_TEXT) as spool:
        yield spool
        spool.seek(0)
        with target.open("w", **_TEXT) as place:
            shutil.copyfileobj(spool, place)


@contextlib.contextmanager
def _standard_output() -> Iterator[TextIO]:
    """Standard output in UTF-8, whatever the locale says; it stays open."""
    sys.stdout.flush()
    stream = io.TextIOWrapper(sys.stdout.buffer, **_TEXT)
    try:
        yield stream
        stream.flush()
    finally:
        stream.detach()


def _descriptor(path: Path) -> int | None:
    """The open descriptor that a path such as /dev/stdout or /dev/fd/3 stands for, through any links; else None."""
    for _ in range(40):
        path = path.absolute()
        found = re.fullmatch(rf"/(?:dev|proc/(?:self|{os.getpid()}))/fd/(\d{{1,9}})", path.as_posix(), re.ASCII)
        if found:
            return int(found[1])
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
