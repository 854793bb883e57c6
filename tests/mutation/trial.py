"""One fault and the tests that reach its line, in a process forked after everything heavy is imported."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tests.mutation.places import ROOT, SOURCE, Fault
from tests.mutation.swap import swap

HEAVY = ("numpy", "scipy.optimize", "scipy.stats", "pydantic", "click", "rich.table", "jinja2")
MORE_HEAVY = ("hypothesis", "torch", "transformers")
MOST_BYTES = 6 * 2**30
"""of what a process with a fault may take, as a fault may ask for any amount"""
_QUIET = ["-q", "--no-header", "--tb=line", "--disable-plugin-autoload"]
"""no plugin whose package is imported already: pytest would say that it comes too late to rewrite its assertions"""


def import_heavy() -> None:
    """What every process would import for itself otherwise; nothing of flashstill, of which each has its own."""
    os.environ.update(HYPOTHESIS_PROFILE="ci", OMP_NUM_THREADS="1")
    for name in (*HEAVY, *MORE_HEAVY):
        importlib.import_module(name)
    if any(name.partition(".")[0] == "flashstill" for name in sys.modules):
        raise SystemExit("flashstill is imported already, so that no fault would be seen")


def warm_up(tests: Sequence[str]) -> None:
    """Import these test files, and with them the package; from now on a fault is swapped in where it can be."""
    folder = Path(tempfile.mkdtemp(prefix="flashstill-mutation-"))
    with contextlib.redirect_stdout(io.StringIO()):
        code = run_pytest(["--collect-only", *tests], folder)
    shutil.rmtree(folder, ignore_errors=True)
    if code:
        raise SystemExit("the tests cannot be collected")
    home = Path(str(sys.modules["flashstill"].__file__)).parent
    if home != SOURCE:
        raise SystemExit(f"the tests import the package from {home}, where no fault would be seen")


def noticed(fault: Fault, tests: Sequence[str], seconds: float, anew: bool = False) -> bool:
    """Whether one of the tests fails, does not end, or cannot even be collected.

    anew: whether package and tests are imported with the fault, which takes longer and holds for any fault.
    """

    def work(folder: Path) -> int:
        if anew or not swap(fault):
            for name in [name for name in sys.modules if name.partition(".")[0] in ("flashstill", "tests")]:
                del sys.modules[name]
            plant(fault)
        return run_pytest(["-x", *tests], folder)

    return forked(work, seconds) != 0


def plant(fault: Fault) -> None:
    """From now on the fault's file is imported with the fault."""
    path, original = str(ROOT / fault.file), SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, fullname: str) -> CodeType | None:
        if self.get_filename(fullname) == path:
            return compile(fault.source, path, "exec", dont_inherit=True)
        return original(self, fullname)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign, assignment]


def run_pytest(arguments: Sequence[str], folder: Path, *plugins: Any) -> int:
    """pytest's exit code; what tests make goes to a folder of its own."""
    return int(
        pytest.main(
            [*_QUIET, "-p", "no:cacheprovider", "--basetemp", str(folder / "pytest"), *arguments], list(plugins)
        )
    )


def forked(work: Callable[[Path], int], seconds: float, quiet: bool = True) -> int:
    """The exit code of `work` in a child of this process; 124 where it took longer, and its children are ended."""
    folder = Path(tempfile.mkdtemp(prefix="flashstill-mutation-"))
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
            os.chdir(ROOT)
            if quiet:
                for stream in (1, 2):
                    os.dup2(os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
            code = work(folder)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    try:
        return _wait(child, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(child: int, seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 124


class Durations:
    """A plugin of pytest that keeps how long each test took."""

    def __init__(self, known: Path) -> None:
        self.seconds: dict[str, float] = json.loads(known.read_text(encoding="utf-8")) if known.exists() else {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.seconds), encoding="utf-8")
