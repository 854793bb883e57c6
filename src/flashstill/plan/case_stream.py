"""Where the rows of a file of cases come from: a file, a pipe or standard input, and how far they have been read."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO

from flashstill.errors import BadInput, shown
from flashstill.outputs import STANDARD
from flashstill.plan.casefile import TEXT
from flashstill.progress import Progress

LONG_BYTES = 1_000_000
SPEAK_EVERY_S = 15.0
WAIT_S = 20.0
"""for somebody to write into a pipe of cases"""


@contextlib.contextmanager
def opened(source: Path) -> Iterator[tuple[io.TextIOWrapper, int]]:
    """The text of a file, fifo or standard input, and its size in bytes; 0 if unknown."""
    if source == STANDARD:
        stream = io.TextIOWrapper(sys.stdin.buffer, **TEXT)
        try:
            yield stream, 0
        finally:
            stream.detach()
        return
    try:
        stream = io.TextIOWrapper(_bytes_of(source), **TEXT)
    except FileNotFoundError as error:
        raise BadInput(f"there is no file {shown(str(source))}") from error
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise BadInput(f"{shown(str(source))} cannot be read: {why}") from error
    with stream:
        kind = os.fstat(stream.fileno())
        yield stream, kind.st_size if stat.S_ISREG(kind.st_mode) else 0


def _bytes_of(source: Path) -> BinaryIO:
    """The bytes of a file. BadInput for a pipe that nobody opens to write into it, for which `open` waits for ever."""
    if not stat.S_ISFIFO(source.stat().st_mode):
        return source.open("rb")
    opened: SimpleQueue[BinaryIO | OSError] = SimpleQueue()

    def open_pipe() -> None:
        try:
            opened.put(source.open("rb"))
        except OSError as error:
            opened.put(error)

    threading.Thread(target=open_pipe, daemon=True).start()
    try:
        found = opened.get(timeout=WAIT_S)
    except Empty:
        raise BadInput(
            f"nobody has written to the pipe {shown(str(source))} for {WAIT_S:g} s; give a file of cases"
        ) from None
    if isinstance(found, OSError):
        raise found
    return found


@contextlib.contextmanager
def following(progress: Progress, stream: io.TextIOWrapper, size: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the number of rows just answered and reports progress (time left for long files)."""
    answered, read, spoke = 0, 0, time.monotonic()
    if size < LONG_BYTES:

        def count(rows: int) -> None:
            nonlocal answered, spoke
            answered += rows
            if time.monotonic() - spoke > SPEAK_EVERY_S:
                spoke = time.monotonic()
                progress.say(f"{answered:,} rows are answered")

        yield count
        return
    with progress.task("answering cases", size / 1e6, "MB") as advance:

        def follow(rows: int) -> None:
            nonlocal answered, read
            answered, before, read = answered + rows, read, os.lseek(stream.fileno(), 0, os.SEEK_CUR)
            advance((read - before) / 1e6, f"{answered:,} rows")

        yield follow
