"""Loggers by name: every step once, also of a run that was resumed, and nothing that a logger does stops the training.

Packages that only note what they are told stand in for the real ones, of which the last tests read what they wrote.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flashstill.errors import BadInput
from flashstill.extras import is_installed
from flashstill.loggers import check_loggers, logs_of, process
from flashstill.loggers.writer import LONGEST_S
from flashstill.progress import Silent
from flashstill.recipes.logs import LOGGERS, with_log
from tests.recorded_progress import RecordedProgress

NOTES = """
import json, os, signal, time
def note(folder, what):
    with open(os.path.join(str(folder), "noted.jsonl"), "a") as stream:
        stream.write(json.dumps(what) + "\\n")
FAULT = os.environ.get("FAULT", "")
def maybe(when):
    if FAULT == when:
        raise OSError(28, "No space left on device")
    if FAULT == "hang" and when == "init":
        for _ in range(6000):
            if os.path.exists(os.environ["GO"]):
                return
            time.sleep(0.02)
class Run:
    def __init__(self, folder):
        self.folder = folder
    def log(self, metrics, step):
        maybe(f"step {step}")
        if FAULT == f"hang at step {step}":
            note(self.folder, {"alarm_s": signal.alarm(1)})  # sooner, so that the test need not wait for it
            time.sleep(600.0)
        note(self.folder, {"step": step, **metrics})
    def finish(self):
        note(self.folder, {"finished": True})
class Settings:
    def __init__(self, **named): pass
def init(**named):
    maybe("init")
    folder = named.get("dir") or os.environ["TRACKIO_DIR"]
    kept = ("name", "id", "mode", "resume", "config")
    note(folder, {"init": {name: named[name] for name in kept if name in named}})
    return Run(folder)
"""
EVENTS = {
    "compat/proto/event_pb2.py": "class Event:\n    def __init__(self, **named): self.__dict__.update(named)\n",
    "compat/proto/summary_pb2.py": (
        "class Summary:\n    class Value:\n        def __init__(self, **named): self.__dict__.update(named)\n"
        "    def __init__(self, value): self.value = value\n"
    ),
    "summary/writer/event_file_writer.py": NOTES
    + """
class EventFileWriter:
    def __init__(self, folder):
        maybe("init")
        self.run = Run(folder)
    def add_event(self, event):
        self.run.log({value.tag: value.simple_value for value in event.summary.value}, event.step)
    def close(self): self.run.finish()
""",
}
ABOUT = {"name": "half", "group": "out", "config": {"name": "half", "train": {"tokens": 8}}}


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of the three names, on the path of the loggers' processes and of this one."""
    folder = tmp_path / "packages"
    for name, text in EVENTS.items():
        path = folder / "tensorboard" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in ("trackio", "wandb"):
        (folder / f"{name}.py").write_text(NOTES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(folder))
    for name in ("TRACKIO_DIR", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for a logger to end on any machine."""
    monkeypatch.setattr(process, "PATIENCE_S", 300.0)


def rows(first: int, last: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": 1.0 / step, "validation_loss": 2.0} for step in range(first, last + 1)]


def noted(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "noted.jsonl").read_text().splitlines()]


def steps(folder: Path) -> list[int]:
    return [each["step"] for each in noted(folder) if "step" in each]


@pytest.mark.usefixtures("stand_ins")
def test_every_step_once_in_one_run(tmp_path: Path) -> None:
    """A run that is killed after a checkpoint gives the metrics again, from the first step on; nothing is logged twice,
    and the run keeps its id. A logger that is named only then gets all of it."""
    progress = RecordedProgress()
    with logs_of(["tensorboard", "wandb"], tmp_path, ABOUT, progress) as logs:
        for step in range(1, 6):
            logs.add(rows(step, step))
    with logs_of(LOGGERS, tmp_path, ABOUT, progress) as logs:
        logs.add(rows(1, 3))
        for step in range(4, 9):
            logs.add(rows(step, step))
    assert progress.lines == []
    for name in LOGGERS:
        assert steps(tmp_path / name) == list(range(1, 9))
        assert {each["validation_loss"] for each in noted(tmp_path / name) if "step" in each} == {2.0}
        assert noted(tmp_path / name)[-1] == {"finished": True}
    first, second = (each["init"] for each in noted(tmp_path / "wandb") if "init" in each)
    assert first == second
    assert first["id"] == json.loads((tmp_path / "wandb" / "run.json").read_text())["id"]
    assert (first["mode"], first["resume"], first["config"]) == ("offline", "allow", ABOUT["config"])
    assert noted(tmp_path / "trackio")[0]["init"]["name"].startswith("half-")


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("fault", ["init", pytest.param("step 3", marks=pytest.mark.slow)])
def test_a_logger_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Is told once, with its own words."""
    monkeypatch.setenv("FAULT", fault)
    progress = RecordedProgress()
    with logs_of(["wandb"], tmp_path, ABOUT, progress) as logs:
        for step in range(1, 200):
            logs.add(rows(step, step))
    assert len(progress.lines) == 1
    assert progress.lines[0].startswith("wandb no longer logs (OSError: [Errno 28] No space left on device)")


@pytest.mark.slow
@pytest.mark.usefixtures("stand_ins")
def test_a_logger_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given up when it leaves too much unread, or left to end by itself."""
    go = tmp_path / "go"
    monkeypatch.setenv("FAULT", "hang")
    monkeypatch.setenv("GO", str(go))
    monkeypatch.setattr(process, "PATIENCE_S", 0.2)
    progress = RecordedProgress()
    with logs_of(["trackio"], tmp_path, ABOUT, progress) as logs:
        logs.add(rows(1, 5))
    assert progress.lines == ["trackio is still at work; its process ends by itself"]
    go.touch()
    process._LEFT.pop().wait(timeout=120.0)
    go.unlink()
    monkeypatch.setattr(process, "MOST_BYTES", 1000)
    with logs_of(["wandb"], tmp_path, ABOUT, progress) as logs:
        logs.add(rows(1, 5000))
        logs.add(rows(5001, 5002))
    assert len(progress.lines) == 2
    assert progress.lines[1].startswith("wandb no longer logs (it does not read the metrics)")


@pytest.mark.usefixtures("stand_ins")
def test_a_logger_that_hangs_at_a_step_ends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the lock that the logger of a resumed run waits for, and training is there no longer to end it."""
    monkeypatch.setenv("FAULT", "hang at step 2")
    command = [sys.executable, "-m", "flashstill.loggers.writer", "wandb", str(tmp_path)]
    lines = "".join(json.dumps(line) + "\n" for line in (ABOUT, *rows(1, 2))).encode()
    with subprocess.Popen(command, stdin=subprocess.PIPE) as writer:
        assert writer.stdin is not None
        writer.stdin.write(lines)
        writer.stdin.flush()
        assert writer.wait(120.0) == -signal.SIGALRM
    assert steps(tmp_path) == [1]
    (alarm_s,) = (each["alarm_s"] for each in noted(tmp_path) if "alarm_s" in each)
    assert 0 < alarm_s <= LONGEST_S


def test_a_logger_without_a_place(tmp_path: Path) -> None:
    (tmp_path / "wandb").write_text("a file in its place")
    progress = RecordedProgress()
    with logs_of(["wandb"], tmp_path, ABOUT, progress) as logs:
        logs.add(rows(1, 5))
    assert len(progress.lines) == 1
    assert "training goes on" in progress.lines[0]


def test_only_the_first_process_logs(tmp_path: Path) -> None:
    with logs_of(LOGGERS, tmp_path, ABOUT, Silent(), is_main=False) as logs:
        logs.add(rows(1, 5))
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is one sentence before any work."""
    monkeypatch.setattr("flashstill.extras.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"log names wandb: this needs the package 'wandb', which is not installed; pip"):
        check_loggers(["wandb"])
    check_loggers([])


def test_a_directory_of_the_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb leaves a directory wandb/ where it runs, from which `python -m flashstill` would import."""
    (tmp_path / "weights_and_biases_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not is_installed("weights_and_biases_of_nobody")
    assert is_installed("json")


@pytest.mark.usefixtures("stand_ins")
def test_nothing_comes_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's that is called as the standard library's does not end the logger."""
    place = tmp_path / "user"
    place.mkdir()
    (place / "secrets.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(place)
    progress = RecordedProgress()
    with logs_of(["wandb"], tmp_path / "logs", ABOUT, progress) as logs:
        logs.add(rows(1, 2))
    assert progress.lines == []
    assert steps(tmp_path / "logs" / "wandb") == [1, 2]


def test_names(tmp_path: Path) -> None:
    from flashstill.recipes import read_distillation, read_recipe
    from flashstill.recipes.studies import FOLDER, read_study

    path = tmp_path / "distill.toml"
    path.write_text('name = "a"\nlog = ["wandb"]\n[[teachers]]\nmodel = "x"\n[student]\nkeep_layers = 3\n')
    recipe = read_distillation(path)
    assert recipe.log == ("wandb",)
    assert with_log(recipe, ["trackio", "trackio"]).log == ("trackio",)
    with pytest.raises(BadInput, match=r"tensorbord.*tensorboard"):
        with_log(recipe, ["tensorbord"])
    with pytest.raises(BadInput, match="a study has its own page"):
        with_log(read_study(FOLDER / "rounding.toml"), ["wandb"])
    path.write_text('name = "f"\nteacher = "x"\nlog = ["trackio"]\n[[students]]\nname = "a"\nkeep_layers = 3\n')
    family = read_recipe(path)
    assert family.distillation(family.students[0]).log == ("trackio",)


def test_metrics_hand_over_what_they_resume_from(tmp_path: Path) -> None:
    from flashstill.distill.training.metrics import Metrics

    given: list[float] = []
    metrics = Metrics(tmp_path, rows(1, 3), True, lambda some: given.extend(row["step"] for row in some))
    metrics.add(rows(4, 4)[0])
    metrics.flush()
    assert given == [1, 2, 3, 4]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


class TestRealPackages:
    """Where they are installed."""

    def run(self, name: str, folder: Path) -> None:
        pytest.importorskip(name)
        progress = RecordedProgress()
        with logs_of([name], folder, ABOUT, progress) as logs:
            logs.add(rows(1, 5))
        with logs_of([name], folder, ABOUT, progress) as logs:
            logs.add(rows(1, 8))
        assert progress.lines == [], (folder / name / "log.txt").read_text()

    @pytest.mark.slow
    def test_tensorboard(self, tmp_path: Path) -> None:
        self.run("tensorboard", tmp_path)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(tmp_path / "tensorboard"))
        read.Reload()
        assert read.Tags()["scalars"] == ["loss", "validation_loss"]
        found = [(each.step, each.value) for each in read.Scalars("loss")]
        assert [step for step, _ in found] == list(range(1, 9))
        assert [value for _, value in found] == pytest.approx([1.0 / step for step, _ in found])

    @pytest.mark.slow
    def test_trackio(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
        self.run("trackio", tmp_path)
        from trackio.sqlite_storage import SQLiteStorage

        (run,) = SQLiteStorage.get_runs("flashstill")
        logs = SQLiteStorage.get_logs("flashstill", run)
        assert [each["step"] for each in logs] == list(range(1, 9))

    @pytest.mark.slow
    def test_wandb(self, tmp_path: Path) -> None:
        self.run("wandb", tmp_path)
        ids = {path.name.rpartition("-")[2] for path in (tmp_path / "wandb" / "wandb").glob("offline-run-*")}
        assert ids == {json.loads((tmp_path / "wandb" / "run.json").read_text())["id"]}
