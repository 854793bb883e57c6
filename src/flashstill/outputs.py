"""Write text to a user-named output: regular files are replaced atomically; links, FIFOs and devices are followed."""

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
"""path that stands for standard input or output"""
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


@contextlib.contextmanager
def written_out(path: Path) -> Iterator[TextIO]:
    """A text stream to a user-named file; "-" is standard output. DiskTrouble if it cannot be written.

    A regular file is replaced atomically and keeps its mode; a symlink is kept and its target written; FIFOs and
    devices are written to directly. Nothing else is replaced, and no directory is created.
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
            raise  # the reader of standard output closed the pipe, as `head` does
        raise DiskTrouble(f"cannot write {path}: whoever read it has left") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiskTrouble(f"cannot write {path}: {reason[:1].lower()}{reason[1:]}") from error


def check_writable(path: Path | None) -> None:
    """DiskTrouble if `written_out` could not write to a path, as far as that is known before hours of work."""
    if path is None or path == STANDARD:
        return
    reason = ""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()
        target = Path(os.path.realpath(path))
        if _descriptor(path) is not None:
            return
        if target.is_dir():
            reason = "it is a directory; name a file"
        elif not target.parent.is_dir():
            reason = f"there is no directory {target.parent}; make it first"
        elif not os.access(target if target.exists() else target.parent, os.W_OK):
            reason = "permission denied"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        reason = f"{reason[:1].lower()}{reason[1:]}"
    if reason:
        raise DiskTrouble(f"cannot write {path}: {reason}")


@contextlib.contextmanager
def _regular(target: Path) -> Iterator[TextIO]:
    """A regular or new file: replaced atomically, or rewritten in place if hard-linked or not replaceable."""
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
    """Standard output as UTF-8 regardless of locale; it is not closed."""
    sys.stdout.flush()
    stream = io.TextIOWrapper(sys.stdout.buffer, **_TEXT)
    try:
        yield stream
        stream.flush()
    finally:
        stream.detach()


def _descriptor(path: Path) -> int | None:
    """The open file descriptor that /dev/stdout, /dev/fd/3 or a symlink to one refers to; otherwise None."""
    for _ in range(40):
        path = path.absolute()
        found = re.fullmatch(rf"/(?:dev|proc/(?:self|{os.getpid()}))/fd/(\d{{1,9}})", path.as_posix(), re.ASCII)
        if found:
            return int(found[1])
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None
