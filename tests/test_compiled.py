"""What Numba keeps on disk is used for the sources that it was made from, and for no others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flashstill.simulate import compiled


def _kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_code_of_other_sources_is_removed(tmp_path: Path) -> None:
    for name in ("loop.advance-1.py311.nbi", "loop.advance-1.py311.1.nbc", "loop.cpython-311.pyc"):
        (tmp_path / name).write_text("code")
    compiled.discard_stale(tmp_path, "first")
    assert _kept(tmp_path) == ["flashstill-sources.txt", "loop.cpython-311.pyc"], "of unknown sources"
    (tmp_path / "loop.advance-1.py311.nbi").write_text("code")
    compiled.discard_stale.cache_clear()
    compiled.discard_stale(tmp_path, "first")
    assert "loop.advance-1.py311.nbi" in _kept(tmp_path), "of the same sources"
    compiled.discard_stale(tmp_path, "second")
    assert _kept(tmp_path) == ["flashstill-sources.txt", "loop.cpython-311.pyc"]
    assert (tmp_path / "flashstill-sources.txt").read_text() == "second"
    compiled.discard_stale(tmp_path / "not yet there", "second")
    assert _kept(tmp_path / "not yet there") == ["flashstill-sources.txt"]


def test_any_module_of_the_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    digests = []
    for name, text in (("loop.py", "a"), ("loop.py", "b"), ("ties.py", "b"), ("loop.py", "a")):
        (tmp_path / name).write_text(text)
        digests.append(compiled.sources.__wrapped__())
    assert len(set(digests)) == 4


@pytest.mark.skipif(not compiled.IS_COMPILED, reason="Numba is not installed")
@pytest.mark.parametrize("disabled", ["0", "1"])
def test_the_loop_is_there_compiled_or_not(disabled: str) -> None:
    """Compiled code in use is of these sources; where Numba is told to compile nothing there is none."""
    code = (
        "from pathlib import Path\nfrom flashstill.simulate import compiled\n"
        "from flashstill.simulate.loop import advance\n"
        "at = getattr(advance, 'stats', None)\n"
        "print(at and (Path(at.cache_path) / 'flashstill-sources.txt').read_text() == compiled.sources())"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == {"0": "True", "1": "None"}[disabled]


NESTED = """
import numpy as np
from flashstill.simulate.compiled import compiled, entry

@compiled
def inner(numbers, at):
    numbers[at] += 1.0
    return 1.0 / numbers[at]

@entry
def outer(numbers):
    return inner(numbers, 1) + inner(numbers, 2)

numbers = np.zeros(3)
print(outer(numbers), inner(numbers, 1), numbers.tolist())
try:
    outer(np.array([0.0, -1.0, 0.0]))
except ZeroDivisionError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not compiled.IS_COMPILED, reason="Numba is not installed")
@pytest.mark.parametrize("disabled", ["0", "1"])
def test_a_part_of_a_compiled_function(tmp_path: Path, disabled: str) -> None:
    """Python may call it as well, which compiles it once more, and an error in it is told; also from the cache."""
    path = tmp_path / "nested.py"
    path.write_text(NESTED)
    environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled}
    for _ in range(2):
        done = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, check=False)
        said = ["division by zero"] if disabled == "0" else []  # NumPy warns of it alone
        assert done.stdout.splitlines() == ["2.0 0.5 [0.0, 2.0, 1.0]", *said], done.stderr
        kept = sorted(each.name.split("-")[0] for each in tmp_path.glob("__pycache__/*.nbi"))
        assert kept == (["nested.inner", "nested.outer"] if disabled == "0" else [])  # what is run, and no more


@pytest.mark.slow
@pytest.mark.skipif(not compiled.IS_COMPILED, reason="Numba is not installed")
def test_another_numba_compiles_its_own_way(tmp_path: Path) -> None:
    """parts.py uses what is private to one version: none of it is touched under another."""
    path = tmp_path / "nested.py"
    path.write_text(
        "import numba, sys\nnumba.__version__ = '0.99.0'\n"
        + NESTED
        + "print('flashstill.simulate.parts' in sys.modules)"
    )
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["2.0 0.5 [0.0, 2.0, 1.0]", "division by zero", "False"], done.stderr


def test_what_is_compiled_later_is_told_once() -> None:
    """Parts of the loop that Python calls where replicas fail took 8 to 27 s at first, without a word."""
    event = pytest.importorskip("numba.core.event")
    heard: list[str] = []

    def compile_like(function: Callable[..., Any], inside: Callable[[], None] = lambda: None) -> None:
        data = {"dispatcher": SimpleNamespace(py_func=function)}
        event.start_event("numba:compile", data)
        inside()
        event.end_event("numba:compile", data)

    loop = SimpleNamespace(__name__="advance", __module__="flashstill.simulate.loop")
    part = SimpleNamespace(__name__="preempt_latest", __module__="flashstill.simulate.slots")
    small = SimpleNamespace(__name__="knot_before", __module__="flashstill.simulate.times")
    with compiled.telling(heard.append):
        compile_like(cast("Any", small))
        compile_like(cast("Any", loop), lambda: compile_like(cast("Any", part)))
        assert heard == [compiled.COMPILING]
        for _ in range(2):
            compile_like(cast("Any", part))
    assert heard == [compiled.COMPILING, compiled.COMPILING_PARTS]
