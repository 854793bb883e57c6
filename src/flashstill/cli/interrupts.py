"""Start and end of a command under adverse conditions: closed standard streams, Ctrl-C, SIGTERM, a closed output pipe,
a full disk under standard output.

The first signal raises an exception, so that unfinished work is cleaned up; a second one ends the process at once.
Neither prints a traceback.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

RESUMED = ("run", "demo", "distill")
"""commands that resume from finished work"""
RESUMED_WITH_OUT = ("evaluate", "measure")
"""commands that resume only if given --out"""

RESEND_S = 0.01
"""delay before resending a signal swallowed by a destructor; repeated if the destructor is still running"""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG)


class Stopped(KeyboardInterrupt):
    """Raised on SIGTERM."""


def open_closed_streams() -> None:
    """Open closed standard streams on the null device, so that no other file gets descriptor 0, 1 or 2."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def trouble_of(error: OSError) -> str | None:
    """Message for an OSError without a file name that is caused by the environment; otherwise None."""
    reason = (error.strerror or str(error)).lower()
    if error.filename is not None:
        return f"cannot use {error.filename}: {reason}"
    if error.errno not in _FULL:
        return None
    _to_nowhere(1)
    return f"cannot write the output: {reason}"


def has_directory() -> bool:
    """Whether the working directory still exists."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def watch() -> None:
    """Install handlers for SIGINT and SIGTERM, unless they are ignored or already handled.

    Workers under torchrun keep the default SIGTERM action, as they may be blocked in a collective outside Python.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    owner = os.getpid()

    def first(number: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:  # in a forked worker: restore the default action and die of the signal
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, again)
        raise Stopped if number == signal.SIGTERM else KeyboardInterrupt

    def again(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(128 + number)

    def not_raised(lost: sys.UnraisableHookArgs) -> None:
        """Resend a signal that arrived during a destructor, as Python discards exceptions raised there."""
        if not isinstance(lost.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(lost)
            return
        number = signal.SIGTERM if isinstance(lost.exc_value, Stopped) else signal.SIGINT
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) is again:
                signal.signal(each, first)
        resend = threading.Timer(RESEND_S, os.kill, (owner, number))
        resend.daemon = True
        resend.start()

    sys.unraisablehook = not_raised
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, first)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and "RANK" not in os.environ:
        signal.signal(signal.SIGTERM, first)


def sentence(command: str, error: BaseException | None, words: Sequence[str] = ()) -> str:
    """Message after an interruption; only resumable commands say that work was kept. words: command-line arguments."""
    how = "stopped by SIGTERM" if isinstance(error, Stopped) else "interrupted"
    if command in RESUMED or (command in RESUMED_WITH_OUT and any(word.startswith("--out") for word in words)):
        return f"{how}; what was finished is kept, run the same command again to go on"
    return f"{how} before it was done"


def exit_code(error: BaseException | None) -> int:
    """Exit code as shells define it: 128 plus the signal number."""
    return 128 + (signal.SIGTERM if isinstance(error, Stopped) else signal.SIGINT)


def reader_left() -> bool:
    """Whether the reader of standard output or standard error has closed its pipe."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def leave_quietly() -> NoReturn:
    """Exit with 0 after the reader closed the pipe; buffered output is discarded."""
    _to_nowhere(1, 2)
    sys.exit(0)


def _to_nowhere(*descriptors: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
