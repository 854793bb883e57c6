"""How a command begins and ends in a world that is not whole: streams that are closed, Ctrl-C, SIGTERM, a reader of
its output that has seen enough, a full disk under standard output.

The first signal raises, so that what is half done is cleared away; a second one ends the process at once, whatever it
was doing.  Neither leaves a traceback.
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
"""commands that keep what was finished and go on where they were"""
RESUMED_WITH_OUT = ("evaluate",)
"""commands that do so where they are given --out"""

RESEND_S = 0.01
"""after which a signal that a destructor swallowed is sent anew: it has returned by then, or is sent once more"""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG)


class Stopped(KeyboardInterrupt):
    """SIGTERM."""


def open_closed_streams() -> None:
    """Standard streams that whoever started this closed lead to nowhere: the next file must not get their number."""
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
    """The sentence for an error of the system that names no file, where it is the surroundings' fault; else None."""
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
    """Take over SIGINT and SIGTERM of this process, unless something else has them or they are to be ignored.

    Workers under torchrun keep the plain SIGTERM: they may be waiting for each other outside of Python.
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
        """A signal that came while a destructor ran: Python drops what is raised there, so that it is sent anew."""
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
    """What a person is told; only commands that resume promise that anything was kept. words: of the command line."""
    how = "stopped by SIGTERM" if isinstance(error, Stopped) else "interrupted"
    if command in RESUMED or (command in RESUMED_WITH_OUT and any(word.startswith("--out") for word in words)):
        return f"{how}; what was finished is kept, run the same command again to go on"
    return f"{how} before it was done"


def exit_code(error: BaseException | None) -> int:
    """As a shell counts them: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(error, Stopped) else signal.SIGINT)


def reader_left() -> bool:
    """Whether nobody reads standard output or standard error any more."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def leave_quietly() -> NoReturn:
    """End well after a reader left; what is still to be flushed goes nowhere."""
    _to_nowhere(1, 2)
    sys.exit(0)


def _to_nowhere(*descriptors: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
