"""Processes and time limits of ten_minutes.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def ran(command: list[str], given: str = "") -> str:
    """What a process prints; with the last line that it complains in, if it fails.  It ends with its children."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        printed, complaint = process.communicate(given)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        print(complaint[-6000:], file=sys.stderr)
        raise RuntimeError((complaint.strip().splitlines() or [f"ended with {process.returncode}"])[-1])
    return printed


def last_json(command: list[str], given: str = "") -> dict[str, Any]:
    """The last JSON line that a process prints."""
    lines = [line for line in ran(command, given).splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Context that ends with a TimeoutError after so many seconds."""

    def over(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
