"""Atomic writes: a killed process or a full disk never leaves a partial file.

Files are written under a temporary name in the same directory, flushed to disk and renamed, so a reader sees the old
content or the new, never a mixture.  Imports needed only for writing are local, as every command loads this module.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from flashstill.errors import DiskTrouble

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.EISDIR}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a denied write into a DiskTrouble that names the path.

    safetensors and pyarrow wrap the OSError in their own exceptions, so the message text is checked as well.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL or "No space left" in str(error):
            raise DiskTrouble(f"the disk is full: could not write {path}; free some space and run it again") from error
        if error.errno in _REFUSED:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise DiskTrouble(f"cannot write {path}: {reason.lower()}; give a directory that can be written") from error
        raise
    except Exception as error:
        if "No space left" in str(error) or "StorageFull" in str(error):
            raise DiskTrouble(f"the disk is full: could not write {path}; free some space and run it again") from error
        raise


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """As `disk_errors`, for a full disk alone: around long work, whose other errors are not those of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        with disk_errors(path):
            raise


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> Path:
    """Create the directory `path` if needed; DiskTrouble if it cannot be made or written."""
    if path.is_symlink() and not path.exists():  # to make it says "file exists"
        raise DiskTrouble(f"cannot write {path}: it is a link to {path.readlink()}, which is not there; make it")
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(path))
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; it is renamed to `path` if the block ends without an error."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = path.with_name(f".{_short(path.name)}.{_writer()}.part")
        try:
            yield temporary
            _usual_mode(temporary)
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _short(name: str) -> str:
    """The name, shortened so that a temporary suffix still fits; most file systems allow 255 bytes."""
    if len(os.fsencode(name)) <= 200:
        return name
    import hashlib

    return hashlib.sha256(os.fsencode(name)).hexdigest()


@contextlib.contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a directory: it gets its final name only when complete."""
    import shutil
    import tempfile

    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary = Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.{_writer()}.", suffix=".part", dir=path.parent))
        try:
            yield temporary
            for member in temporary.rglob("*"):
                if member.is_file():
                    _usual_mode(member)
                    sync(member)
            if path.exists():
                shutil.rmtree(path)
            temporary.chmod(0o777 & ~_umask())
            temporary.replace(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _usual_mode(file: Path) -> None:
    """Let others read a file as far as the umask allows: safetensors makes its files for their owner alone, and a
    server that runs as another user could not read a student's weights."""
    if not file.is_symlink() and file.stat().st_mode & 0o777 == 0o600:
        file.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


def remove_leftovers(directory: Path, older_than_s: float = 0.0) -> None:
    """Remove temporary files of killed writers; call only when no other writer can be active in `directory`."""
    import shutil

    before = time.time() - older_than_s
    for part in directory.rglob(".*.part"):
        with contextlib.suppress(OSError):
            if part.stat().st_mtime <= before:
                shutil.rmtree(part) if part.is_dir() else part.unlink()


def remove_orphans(directory: Path) -> None:
    """Remove temporary files of dead processes of this machine, not recursively; safe while others are writing."""
    import shutil

    with contextlib.suppress(OSError):
        for part in directory.iterdir():
            if (found := _PART.fullmatch(part.name)) and found["host"] == _host() and not _is_alive(int(found["pid"])):
                with contextlib.suppress(OSError):
                    shutil.rmtree(part) if part.is_dir() and not part.is_symlink() else part.unlink()


_PART = re.compile(r"\..+\.(?P<host>[\w-]+)@(?P<pid>\d{1,9})(\.\w+)?\.part", re.DOTALL)
_swept: set[Path] = set()


def _writer() -> str:
    """Host and process id, as used in the names of temporary files."""
    return f"{_host()}@{os.getpid()}"


def _host() -> str:
    return re.sub(r"[^\w-]", "-", os.uname().nodename)[:20] or "here"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process exists and belongs to another user
        return True
    return True


def _sweep(directory: Path) -> None:
    """Remove orphaned temporary files, once per process and directory, before its first write."""
    if directory not in _swept:
        _swept.add(directory)
        remove_orphans(directory)


def home_directory() -> Path:
    """Directory of converted models and this machine's fact rows: $FLASHSTILL_HOME, default ~/.cache/flashstill."""
    try:
        return Path(os.environ.get("FLASHSTILL_HOME") or "~/.cache/flashstill").expanduser()
    except RuntimeError as error:  # HOME is not set and the user has no passwd entry
        raise DiskTrouble("there is no home directory; let HOME or FLASHSTILL_HOME name a directory") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    import hashlib

    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
