"""The command line as tests call it, and where inputs from outside the project lie."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
"""the fixture `cli`: `flashstill` in a process of its own"""
SHARED = Path(__file__).parents[2] / "shared"
"""published configurations and inputs that once failed; beside the project in its workplace only"""

HEAR = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""before a command starts: SIGINT is heard, even where the tests run in the background of a shell, which ignores it"""


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused; returns its one sentence."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("flashstill: ")]
    assert stop.value.code == 2, captured.err
    assert len(lines) == 1
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return lines[0]


def is_running(process: int) -> bool:
    """Whether a process is there and has not ended, by its id (Linux)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening(command: list[str], **more: Any) -> subprocess.Popen[str]:
    """A process that hears a Ctrl-C, also where the tests themselves run in the background, which ignores it."""
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=HEAR, **more)
