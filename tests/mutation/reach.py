"""Which tests reach which line, by one run of the fast suite under coverage with a context for each test."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

from tests.mutation.places import ROOT, Fault
from tests.mutation.trial import Durations, forked, run_pytest

SETTINGS = """[run]
branch = true
source = src/flashstill
data_file = {data}
"""
FIRST_FILES = 3
IMPORTED = ""
"""the context of what runs while modules are imported"""


class Reach:
    """Tests by line. Lines that run at import alone are reached by every test that comes by their file."""

    def __init__(self, folder: Path) -> None:
        from coverage import CoverageData

        self.data = CoverageData(str(folder / "reach.coverage"))
        self.data.read()
        self.seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text(encoding="utf-8"))
        self.files: dict[str, dict[int, set[str]]] = {}

    def tests(self, fault: Fault, most_s: float) -> list[str]:
        """Tests that reach a fault's line, the quickest first, as many as take `most_s` together."""
        lines = self._lines(fault.file)
        reaching = lines.get(fault.line) or set().union(*lines.values())
        chosen: list[str] = []
        together_s = 0.0
        for test in sorted(reaching, key=lambda test: (self.seconds.get(test, 0.0), test)):
            together_s += self.seconds.get(test, 0.0)
            if chosen and together_s > most_s:
                break
            chosen.append(test)
        return chosen

    def rounds(self, fault: Fault, most_s: float) -> list[list[str]]:
        """The tests of the few files that reach the line most often, which notice most faults, and then the others."""
        tests = self.tests(fault, most_s)
        files = [name for name, _ in Counter(test.partition("::")[0] for test in tests).most_common(FIRST_FILES)]
        first = [test for test in tests if test.partition("::")[0] in files]
        return [part for part in (first, [test for test in tests if test not in set(first)]) if part]

    def _lines(self, file: str) -> dict[int, set[str]]:
        if file not in self.files:
            lines: dict[int, set[str]] = defaultdict(set)
            for line, contexts in self.data.contexts_by_lineno(str(ROOT / file)).items():
                lines[line] |= {context.rpartition("|")[0] for context in contexts if context != IMPORTED}
            self.files[file] = lines
        return self.files[file]


def make_reach(folder: Path, arguments: list[str]) -> None:
    """Run the tests and add what they reach; SystemExit where one fails without any fault."""
    folder.mkdir(parents=True, exist_ok=True)
    times, settings, data = folder / "seconds.json", folder / "coverage.ini", (folder / "reach.coverage").resolve()
    settings.write_text(SETTINGS.format(data=data), encoding="utf-8")

    def work(own: Path) -> int:
        durations = Durations(times)
        measured = [
            "-p",
            "pytest_cov",
            "--cov",
            f"--cov-config={settings.resolve()}",
            "--cov-context=test",
            "--cov-report=",
        ]
        code = run_pytest(["-m", "not slow", *measured, *arguments], own, durations)
        durations.write(times)
        return code

    if forked(work, 3600.0, quiet=False):
        raise SystemExit("a test fails without any fault; mend it first")
