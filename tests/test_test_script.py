"""scripts/test: exit codes of its two processes, what an interruption leaves, and arguments that it cannot take.

A stand-in for Python says how each process ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import is_running

ROOT = Path(__file__).parents[1]
STAND_IN = """#!/usr/bin/env bash
case "$*" in
  *"--arm cost"*) echo $$ >"$HERE/cost.part"; mv "$HERE/cost.part" "$HERE/cost"; {cost} ;;
  *) while ! [ -e "$HERE/cost" ]; do sleep 0.01; done; touch "$HERE/begun"; {learning} ;;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    (tmp_path / "left").mkdir()
    return tmp_path


def _started(place: Path, cost: str, learning: str, *arguments: str) -> subprocess.Popen[bytes]:
    python = place / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN.format(cost=cost, learning=learning))
    python.chmod(0o755)
    return subprocess.Popen(
        [place / "scripts" / "test", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(place / "left"), "HERE": str(place)}, start_new_session=True,
    )  # fmt: skip


@pytest.mark.parametrize(("cost", "learning", "code"), [("exit 1", "exit 0", 1), ("exit 0", "exit 3", 3)])
def test_it_fails_with_either_process(place: Path, cost: str, learning: str, code: int) -> None:
    with _started(place, f"echo 7 failed; {cost}", learning, "fast") as run:
        output, _ = run.communicate(timeout=120)
    assert run.returncode == code
    assert b"7 failed" in output
    assert list((place / "left").iterdir()) == []


@pytest.mark.parametrize("cost", ["exit 0", "sleep 300"])
def test_an_interruption_leaves_nothing(place: Path, cost: str) -> None:
    with _started(place, cost, "exec sleep 300", "fast") as run:
        while not (place / "begun").exists():
            assert run.poll() is None
            time.sleep(0.01)
        while cost == "exit 0" and is_running(int((place / "cost").read_text())):  # one that is done has ended
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGTERM)
        run.communicate(timeout=120)
    assert run.returncode == 130
    assert list((place / "left").iterdir()) == []


@pytest.mark.parametrize("arguments", [("fast", "-k", "losses"), ("slow", "--coverge"), ("reached", "--coverage")])
def test_arguments_that_would_be_ignored_are_refused(place: Path, arguments: tuple[str, ...]) -> None:
    with _started(place, "exit 0", "exit 0", *arguments) as run:
        output, _ = run.communicate(timeout=120)
    assert run.returncode == 2
    assert f"cannot take {' '.join(arguments[1:])}".encode() in output
    assert not (place / "begun").exists()
