"""A long simulation says how long it will take before it has taken long, and a Ctrl-C ends it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flashstill.cli import patience
from flashstill.cli.patience import Patience, requests_expected
from flashstill.console import Console, duration
from flashstill.progress import Advance
from flashstill.simulate.traffic import Traffic
from tests.commands import listening


class Heard(Console):
    """Keeps what is said, and what is advanced."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.advanced: list[float] = []
        self.total = 0.0

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0.0) -> Iterator[Advance]:
        self.total = total
        yield lambda amount, note="": self.advanced.append(amount)


def told(monkeypatch: pytest.MonkeyPatch, total: float | None, calls: list[tuple[float, int]]) -> Heard:
    """What is said where so many requests have come at these times."""
    clock = iter([at for at, _ in calls])
    monkeypatch.setattr(patience, "monotonic", lambda: next(clock))
    heard = Heard()
    with Patience(total, heard) as said:
        for _, arrived in calls:
            said(arrived)
    return heard


def test_an_estimate_comes_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first call on, which waits for the compilation: 200 a second, and 720,000 are left."""
    calls = [(100.0, 600), (101.0, 800), (103.0, 1200), (104.0, 1500), (105.0, 2000)]
    heard = told(monkeypatch, 721_200.0, calls)
    assert heard.lines == ["721,200 requests take about 60 minutes at 200 a second; Ctrl-C ends it"]
    assert heard.total == 720_000.0
    assert heard.advanced == [300, 500]


def test_short_runs_say_nothing_and_endless_ones_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, 1000.0, [(0.0, 10), (0.5, 500), (1.9, 1000)]).lines == []
    short = told(monkeypatch, 1000.0, [(0.0, 0), (3.0, 500), (4.0, 900)])
    assert (short.lines, short.advanced) == ([], [400])
    stuck = told(monkeypatch, 1000.0, [(0.0, 0), (3.0, 0), (4.0, 9)])
    assert stuck.lines == ["1,000 requests take about 7 minutes at 2 a second; Ctrl-C ends it"]
    unknown = told(monkeypatch, None, [(0.0, 0), (3.0, 3000), (9.0, 9000), (18.0, 36000)])
    assert unknown.lines == [
        "simulation: 3,000 requests so far, 1,000 a second; Ctrl-C ends it",
        "simulation: 36,000 requests so far, 2,000 a second; Ctrl-C ends it",
    ]


def test_how_many_there_will_be(tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text("window_start_s,rate\n0,2\n100,3\n")
    assert requests_expected(Traffic(rate=1.0, requests=10**9)) == 1e9
    assert requests_expected(Traffic(concurrency=3, requests=7)) == 7
    assert requests_expected(Traffic(agents=3, turns=4, fan_out=2)) == 24
    assert requests_expected(Traffic(daily=day, rate_scale=2.0)) == 1000
    assert requests_expected(Traffic(trace=day)) is None


def test_durations() -> None:
    assert [duration(each) for each in (3.2, 119.0, 120.0, 7199.0, 7200.0, 172_800.0, float("inf"))] == [
        "3 s", "119 s", "2 minutes", "120 minutes", "2 hours", "2 days", "inf days",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("load", ["--rate", "--concurrency"])
def test_a_long_run_says_so_and_hears_ctrl_c(tmp_path: Path, load: str) -> None:
    """A billion requests: an estimate first, little memory, and after a Ctrl-C the code of shells and no file."""
    out = tmp_path / "page.html"
    asked = ["--model", "qwen3-8b", "--chip", "h100-sxm", load, "64", "--requests", "1e9", "--out", str(out)]
    command = [sys.executable, "-m", "flashstill", "simulate", *asked]
    running = listening(command, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert running.stderr is not None
    first = running.stderr.readline()
    peak_kb = Path(f"/proc/{running.pid}/status").read_text().partition("VmHWM:")[2].split()[0]
    running.send_signal(signal.SIGINT)
    _, rest = running.communicate(timeout=60.0)
    # Hours on a fast machine, days on a slow one; by the clock of the tests above it is exact.
    assert re.fullmatch(
        r"1,000,000,000 requests take about \d+ (hours|days) at [\d,]+ a second; Ctrl-C ends it\n", first
    )
    assert int(peak_kb) < 400_000
    assert running.returncode == 130
    assert "interrupted before it was done" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())
