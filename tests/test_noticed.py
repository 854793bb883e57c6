"""Faults that once went unnoticed are noticed: planted one at a time, in a process of their own (docs/testing.md)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flashstill.hardware.topology import closes
from tests.mutation.places import SOURCE, fault_of
from tests.mutation.swap import swap

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_planted_faults_are_noticed() -> None:
    command = [sys.executable, "-m", "tests.mutation.planted"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_fault_is_put_into_functions_alone() -> None:
    """An axis of 4 of a torus whose edges of 4 close is a ring; with the fault it is none, for whoever imported it."""
    path = SOURCE / "hardware" / "topology" / "torus.py"
    text = path.read_text(encoding="utf-8")
    kept, faulty = closes.__code__, text.replace("return edge >= wrap_edge and", "return edge > wrap_edge and")
    try:
        assert closes(4, 4)
        assert swap(fault_of(path, text, faulty, 1))
        assert not closes(4, 4)
        assert closes(8, 4)
    finally:
        closes.__code__ = kept
    # What runs at import cannot be exchanged, and nothing is to be exchanged where nothing differs.
    assert not swap(fault_of(path, text, text.replace("wrap_edge: int) -> bool", "wrap_edge: int = 4) -> bool"), 1))
    assert not swap(fault_of(path, text, text, 1))
