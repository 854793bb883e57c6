"""Commands that end early: one sentence, no traceback, and no promise that is not kept."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flashstill.cli import main
from flashstill.cli.interrupts import RESUMED, Stopped, exit_code, sentence
from flashstill.errors import DiskTrouble
from flashstill.files import home_directory, make_directory
from flashstill.outputs import written_out
from tests.commands import listening
from tests.marks import slow

WAITS = """
import time
from flashstill.cli.interrupts import watch
watch()
try:
    print("begun", flush=True)
    time.sleep(60)
finally:
    print("clearing away", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_prediction_promises_nothing(tmp_path: Path, number: int, code: int) -> None:
    source = tmp_path / "cases"
    os.mkfifo(source)
    command = [sys.executable, "-m", "flashstill", "predict", "--cases", str(source), "--out", str(tmp_path / "o.csv")]
    with listening(command) as process, source.open("w"):  # which waits until the command reads
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in said
    assert "before it was done" in said
    assert "kept" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["cases"]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_at_once_without_a_traceback(numbers: tuple[int, int]) -> None:
    with listening([sys.executable, "-c", WAITS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for expected, number in zip(("begun\n", "clearing away\n"), numbers, strict=True):
            assert process.stdout.readline() == expected
            process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + numbers[1]
    assert said == ""


SWALLOWS = """
import os, signal, time
from flashstill.cli.interrupts import Stopped, watch
watch()
class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        for _ in range(1000): pass
Dying()
try:
    time.sleep(60)
except Stopped:
    print("stopped", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize(("name", "heard"), [("SIGINT", "interrupted"), *slow(("SIGTERM", "stopped"))])
def test_a_signal_is_heard_that_comes_while_a_destructor_runs(name: str, heard: str) -> None:
    """Python drops what is raised in a destructor: the run would go on to its end, with a traceback on its way."""
    with listening([sys.executable, "-c", SWALLOWS.format(name=name)], stdout=subprocess.PIPE) as process:
        heard_of, said = process.communicate(timeout=120)
    assert (heard_of.strip(), said) == (heard, "")


def test_only_what_resumes_says_that_anything_is_kept() -> None:
    for command in ("predict", "plan", "explain", "measure", ""):
        assert "kept" not in sentence(command, KeyboardInterrupt())
    for command in RESUMED:
        assert "run the same command again" in sentence(command, KeyboardInterrupt())
    assert "SIGTERM" in sentence("run", Stopped())
    assert "kept" not in sentence("evaluate", KeyboardInterrupt(), ["evaluate", "m"])
    assert "run the same command again" in sentence("evaluate", KeyboardInterrupt(), ["evaluate", "m", "--out=r.jsonl"])
    assert (exit_code(KeyboardInterrupt()), exit_code(Stopped())) == (130, 143)


@pytest.mark.parametrize(
    ("interrupt", "arguments", "code", "told"),
    [
        (KeyboardInterrupt, ("models",), 130, "interrupted before it was done"),
        (Stopped, ("models", "--json"), 143, "stopped by SIGTERM before it was done"),
    ],
)
def test_the_sentence_of_an_interrupted_command(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupt: type[BaseException],
    arguments: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    def interrupted() -> None:
        raise interrupt

    monkeypatch.setattr("flashstill.arch.known_models", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert (stop.value.code, captured.out) == (code, "")
    assert captured.err.strip() == f"flashstill: {told}"


@pytest.mark.parametrize("arguments", ["models", *slow("--help", "chips --json")])
def test_a_reader_that_has_seen_enough(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "flashstill", *arguments.split()]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shell", "code", "told"),
    [
        ("chips >&-", 0, ""),
        ("chips 2>&- >/dev/null", 0, ""),
        ("predict --cases - --out /dev/null <&-", 2, "has no header|is empty|no column"),
        ("chips >/dev/full", 2, "cannot write the output: no space left on device"),
        ("explain --model qwen3-8b --chip h100-sxm --batch 1 --json >/dev/full", 2, "cannot write the output"),
        ('chips >/dev/null; cd gone && rmdir ../gone && "$PYTHON" -m flashstill chips', 2, "working directory is gone"),
        ("chips --facts '' >/dev/null", 2, "holds no .csv file of facts"),
    ],
)
def test_surroundings_that_are_not_whole(tmp_path: Path, shell: str, code: int, told: str) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$PYTHON" -m flashstill {shell}'],
        cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert re.search(told, done.stderr)
    assert done.stderr.count("\n") == (1 if told else 0), done.stderr


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASHSTILL_HOME", "~nobody-of-that-name/x")
    with pytest.raises(DiskTrouble, match="let HOME or FLASHSTILL_HOME name a directory"):
        home_directory()


def test_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "disk" / "runs")
    with pytest.raises(DiskTrouble, match=r"it is a link to .*disk/runs, which is not there; make it"):
        make_directory(link)
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    assert make_directory(link) == link


def test_a_reader_of_a_fifo_that_leaves_is_said(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(DiskTrouble, match="whoever read it has left"), written_out(fifo) as stream:
        os.close(reading)
        stream.write("x")
