"""Judges and other processes of their own: isolated, limited, and gone with whoever asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flashstill.distill.isolated import _elsewhere
from flashstill.distill.reasoning import gym
from flashstill.distill.reasoning.judging import Judges, Verdict, verdict_of
from flashstill.distill.reasoning.problems import Problem, save_problems
from flashstill.distill.reasoning.spec import Spec
from tests.commands import is_running

EVIL = "open({proof!r}, 'a').write('a module of the working directory ran')\nraise SystemExit(9)\n"
LIBRARY = ("difflib", "json", "dataclasses", "pathlib", "selectors", "reasoning_gym", "numpy", "click", "flashstill")

JUDGE = """
import ctypes, os, resource, signal, socket, subprocess, sys, threading, time
def judge(answer, problem):
    if answer == "flood":
        while True:
            for fd in range(3, 20):
                try:
                    os.write(fd, b"x" * 65536)
                except OSError:
                    pass
    if answer == "lines":
        for fd in range(3, 20):
            try:
                os.write(fd, b'2 {"score": 1.0}\\n')
            except OSError:
                pass
        return 0
    if answer == "daemon":
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open("@PLACE@/daemon", "w").write(str(os.getpid()))
                time.sleep(1000)
            os._exit(0)
        while not os.path.exists("@PLACE@/daemon"):
            time.sleep(0.01)
        time.sleep(1000)
    if answer == "environment":
        raise ValueError(" ".join(sorted(os.environ)) + " | " + str(os.listdir(".")))
    if answer == "limits":
        names = ("AS", "FSIZE", "NOFILE", "CORE", "NPROC", "CPU")
        raise ValueError(" ".join(str(resource.getrlimit(getattr(resource, "RLIMIT_" + n))[0]) for n in names))
    if answer == "huge":
        return 10**4000
    if answer == "surrogate":
        raise ValueError("\\ud800")
    if answer == "unprintable":
        class Odd(Exception):
            def __str__(self):
                raise RuntimeError
        raise Odd
    if answer == "hang":
        time.sleep(1000)
    return 1
"""


def nothing(amount: float, note: str = "") -> None:
    """No progress is shown."""


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., list[Verdict]]:
    """The verdicts of the judge above on some answers, by one process."""
    (tmp_path / "judge.py").write_text(JUDGE.replace("@PLACE@", str(tmp_path)))
    save_problems(tmp_path / "p.jsonl", [Problem(prompt="one", answer="1")])
    spec = Spec(source=f"{tmp_path / 'judge.py'}:judge", data=str(tmp_path / "p.jsonl"))

    def asked(*answers: str, seconds: float = 60.0) -> list[Verdict]:
        with Judges(spec, tmp_path / "p.jsonl", processes=1, seconds=seconds) as judges:
            return judges([(0, answer) for answer in answers], nothing)

    return asked


def gone(process: int) -> bool:
    """Whether it ends; waits for it a while, for the system may be busy."""
    for _ in range(1200):
        if not is_running(process):
            return True
        time.sleep(0.05)
    return False


class TestJudges:
    @pytest.mark.slow
    def test_a_flood_is_no_verdict(self, ask: Callable[..., list[Verdict]]) -> None:
        assert [verdict.outcome for verdict in ask("flood", "1")] == ["nonsense", "right"]

    @pytest.mark.slow
    def test_verdicts_on_questions_to_come_are_not_believed(self, ask: Callable[..., list[Verdict]]) -> None:
        assert [verdict.outcome for verdict in ask("lines", "1")] == ["nonsense", "right"]

    @pytest.mark.slow
    def test_odd_verdicts(self, ask: Callable[..., list[Verdict]]) -> None:
        found = ask("huge", "surrogate", "unprintable", "1")
        assert [verdict.outcome for verdict in found] == ["nonsense", "raised", "raised", "right"]
        assert found[1].why == "ValueError: \\ud800"
        assert found[2].why == "Odd"
        assert verdict_of(b"[" * 100_000).outcome == "nonsense"

    def test_hardly_any_environment_and_an_empty_directory(
        self, ask: Callable[..., list[Verdict]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SECRET_TOKEN", "1234")
        names, files = ask("environment")[0].why.removeprefix("ValueError: ").split(" | ")
        assert set(names.split()) <= {
            "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH",
            "TMPDIR", "TZ",
        }  # fmt: skip
        assert files == "[]"

    def test_limits(self, ask: Callable[..., list[Verdict]]) -> None:
        memory, file, files, core, processes, seconds = map(int, ask("limits")[0].why.split()[1:])
        assert (memory, file, files, core) == (3 * 2**30, 64 * 2**20, 256, 0)
        assert processes > 128
        assert 2 * 60 < seconds < 3 * 60, "twice what a verdict may take, and what loading took"

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
    def test_what_a_judge_starts_ends_with_it(self, ask: Callable[..., list[Verdict]], tmp_path: Path) -> None:
        daemon = tmp_path / "daemon"
        for seconds in (2.0, 60.0):  # a busy machine may need longer to start it
            assert ask("daemon", seconds=seconds)[0].outcome == "late"
            if daemon.exists() and daemon.read_text():
                break
        assert gone(int(daemon.read_text()))

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
    def test_it_dies_with_whoever_asked(self, ask: Callable[..., list[Verdict]], tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from flashstill.distill.reasoning.judging import Judges\n"
            "from flashstill.distill.reasoning.spec import Spec\n"
            f"place = Path({str(tmp_path)!r})\n"
            "spec = Spec(source=f'{place / \"judge.py\"}:judge', data=str(place / 'p.jsonl'))\n"
            "with Judges(spec, place / 'p.jsonl', processes=1, seconds=500) as judges:\n"
            "    judges([(0, 'daemon')], print)\n"
        )
        (tmp_path / "temporary").mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}
        )
        try:
            while not (tmp_path / "daemon").exists() or not (tmp_path / "daemon").read_text():
                assert process.poll() is None
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert gone(int((tmp_path / "daemon").read_text()))
        for _ in range(1200):
            if not list((tmp_path / "temporary").iterdir()):
                break
            time.sleep(0.05)
        assert not list((tmp_path / "temporary").iterdir()), "its directory goes as well"


class TestWorkingDirectory:
    """Modules of the directory in which a run is started are never executed."""

    @pytest.fixture
    def proof(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The file that an executed module would leave; the working directory is full of such modules."""
        here, proof = tmp_path / "here", tmp_path / "executed"
        here.mkdir()
        for name in LIBRARY:
            (here / f"{name}.py").write_text(EVIL.format(proof=str(proof)))
        monkeypatch.chdir(here)
        return proof

    def test_a_judge(self, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(Path.cwd()))  # as `python -m` does
        save_problems(Path("p.jsonl"), [Problem(prompt="one", answer="1")])
        spec = Spec(source="p.jsonl", matcher="numeric")  # a relative path is still the user's
        with Judges(spec, Path("p.jsonl"), processes=1, seconds=120.0) as judges:
            assert judges([(0, "1.0")], nothing)[0].outcome == "right"
        assert not proof.exists()

    @pytest.mark.slow
    def test_a_generator_of_problems(self, proof: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import reasoning_gym  # noqa: F401 - before the working directory is where modules are found

        monkeypatch.syspath_prepend(str(Path.cwd()))
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        monkeypatch.setattr(gym, "WORTH_A_PROCESS", 2)
        spec = Spec(source="gym:countdown", options={"min_numbers": 3, "max_numbers": 3})
        assert gym.drawn(spec, 0, 4) == list(gym.drawn_here(spec, 0, 4))
        assert not proof.exists()

    @pytest.mark.slow
    def test_the_program_itself(self, proof: Path) -> None:
        Path("flashstill.py").unlink()  # a package of that name is what `python -m flashstill` asks for
        done = subprocess.run(
            [sys.executable, "-m", "flashstill", "models", "--json"], capture_output=True, text=True, check=False
        )
        assert json.loads(done.stdout)
        assert not proof.exists()

    def test_other_places_come_after_the_library(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        path = ["", ".", str(tmp_path / "here"), str(tmp_path / "other"), str(tmp_path / "missing")]
        assert _elsewhere(path) == [str(tmp_path / "other")]
