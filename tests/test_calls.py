"""Values of another kind than a public function takes are refused in one sentence, and odd files in bounded time."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.calls import check_kind
from flashstill.cli import main
from flashstill.errors import BadInput
from tests.commands import refuse

ON: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm"}
FLEET: dict[str, Any] = {
    "model": "llama-3.1-8b", "chips": "h100-sxm", "trace": "docs/burst.csv", "slo": "ttft_p95<5",
}  # fmt: skip
WRONG: Any = (
    (fs.plan_fleet, FLEET, "precision", None, "precision is None, not a text or a list"),
    (fs.plan_fleet, FLEET, "precision", [1], r"precision\[0\] is 1, not a text"),
    (fs.plan_fleet, FLEET, "kv_precision", 8, "kv_precision is 8, not a text"),
    (fs.plan_fleet, FLEET, "max_chips", 1.5, r"max_chips is 1\.5, not a whole number"),
    (fs.plan_fleet, FLEET, "speed", None, "speed is None, not a number"),
    (fs.plan_fleet, FLEET, "window_s", "1h", "window_s is '1h', not a number"),
    (fs.plan_fleet, FLEET, "disaggregated", 1, "disaggregated is 1, not True or False"),
    (fs.plan_fleet, FLEET, "told", None, "told is None, not a function"),
    (fs.plan_fleet, FLEET, "trace", [], r"trace is \[\], not a text or a path"),
    (fs.plan_fleet, FLEET, "step_tokens", 1.5, r"step_tokens is 1\.5, not a whole number"),
    (fs.plan_fleet, FLEET, "hash_block", "16", "hash_block is '16', not a whole number"),
    (fs.simulate, {**ON, "rate": 1.0}, "seed", None, "seed is None, not a whole number"),
    (fs.simulate, {**ON, "rate": 1.0}, "daily", 3, "daily is 3, not a text or a path"),
    (fs.simulate, {**ON, "rate": 1.0}, "isl", 10**400, "isl is a number of about 401 digits, and no number here has"),
    (fs.simulate, {**ON, "rate": 1.0}, "replicas_by_hour", 2, "replicas_by_hour is 2, not the path of a CSV file"),
    (fs.knee, ON, "percentile", "p95", "percentile is 'p95', not a number"),
    (fs.simulate_sweep, {**ON, "rate": 1.0}, "seeds", 1.5, r"seeds is 1\.5, not a whole number"),
    (fs.simulate_sweep, {**ON, "rate": 1.0}, "facts", None, "facts is None, not a text or a path or a list"),
    (fs.draft_worth, {**ON, "draft": "llama-3.2-1b"}, "draft_tokens", [], "draft_tokens is empty"),
    (fs.asic, {"model": "llama-3.1-8b", "volume": 1e12}, "model", None, "model is None, not a name"),
)


@pytest.mark.parametrize(("function", "asked", "name", "value", "why"), WRONG)
def test_a_value_of_another_kind_is_a_sentence(function: Any, asked: Any, name: str, value: Any, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        function(**{**asked, name: value})


def test_numbers_of_numpy_and_whole_floats_are_numbers() -> None:
    good: Any = (
        (np.int64(3), "int"), (np.array(3), "int"), (3.0, "int"), (np.float32(2.5), "float"), (7, "float"),
        (np.arange(3), "int | Sequence[int]"), (range(3), "Sequence[int]"), (None, "int | None"),
        ([np.bool_(True), False], "Sequence[bool]"), (np.array([True]), "Sequence[bool]"),
        ([np.array(3)], "Sequence[int]"),
        (np.bool_(True), "bool"), (Path("x"), "str | Path"), (3, "str | Architecture"),
    )  # fmt: skip
    for value, kind in good:
        check_kind("n", value, kind)
    bad: Any = ((True, "int"), (np.nan, "int"), ({}, "str | Sequence[str]"), (b"x", "str | Path"))
    for value, kind in bad:
        with pytest.raises(BadInput, match=r"^n is "):
            check_kind("n", value, kind)


def test_truths_of_numpy_are_no_numbers() -> None:
    entries: Any = ([1, np.bool_(True)], (np.int64(2), True), np.array([True, False]))
    for value, place in zip(entries, (1, 1, 0), strict=True):
        with pytest.raises(BadInput, match=rf"^n\[{place}\] is True, not a whole number$"):
            check_kind("n", value, "Sequence[int]")
    with pytest.raises(BadInput, match=r"^n\[1\] is 2, not True or False$"):
        check_kind("n", [np.bool_(True), 2], "Sequence[bool]")


def test_replicas_by_hour_can_be_swept_over_rates() -> None:
    """A list of them had no hash, and workers keep what they prepared by it."""
    rows = fs.simulate_sweep(**ON, rate=[1.0, 2.0], requests=20, isl=64, osl=4, workers=1, replicas_by_hour=[2, 1])
    assert [row["finished"] for row in rows] == [20, 20]


SIMULATED: list[Any] = ["simulate", "--model", "llama-3.1-8b", "--chip", "h100-sxm"]
NO_FILES: dict[str, Any] = {
    "facts": lambda path: (["predict", "--facts", path.parent, "--model", "llama-3.1-8b", "--chip", "h100-sxm"]),
    "measured": lambda path: (["validate", "--measured", path]),
    "lengths": lambda path: ([*SIMULATED, "--rate", "1", "--lengths", path]),
    "daily": lambda path: ([*SIMULATED, "--daily", path]),
    "trace": lambda path: ([*SIMULATED, "--trace", path]),
    "of cases": lambda path: ([*SIMULATED, "--rate", "1", "--cases", path]),
}


@pytest.mark.parametrize("kind", ["pipe", "endless", "socket"])
@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_ends_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    path = tmp_path / "rows.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(tmp_path)  # a socket's name has at most some hundred bytes
            try:
                made.bind("rows.csv")
            finally:
                os.chdir(here)
    assert "rows.csv is not a regular file; give one" in refuse(capsys, *NO_FILES[name](path))


def test_a_pipe_of_cases_that_nobody_writes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flashstill.plan.case_stream.WAIT_S", 0.1)
    os.mkfifo(tmp_path / "cases")
    said = refuse(capsys, "predict", "--cases", tmp_path / "cases", "--out", tmp_path / "out.csv")
    assert "nobody has written to the pipe" in said
    reading, writing = os.pipe()  # as a shell's <(command)
    os.write(writing, b"model,chip\nllama-3.1-8b,h100-sxm\n")
    os.close(writing)
    main(["predict", "--cases", f"/dev/fd/{reading}", "--out", str(tmp_path / "out.csv")])
    os.close(reading)
    assert "1 of 1 cases answered" in capsys.readouterr().out


def test_a_pipe_of_cases_that_may_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once, and not as a pipe that nobody writes to."""

    def refuse_to_open(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    os.mkfifo(tmp_path / "cases")
    monkeypatch.setattr(Path, "open", refuse_to_open)
    said = refuse(capsys, "predict", "--cases", tmp_path / "cases", "--out", tmp_path / "out.csv")
    assert "cannot be read: Permission denied" in said


def test_a_measurement_is_not_kept_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "question.json").write_text("{}")
    os.mkfifo(tmp_path / "requests.jsonl")
    asked = ("measure", "--server", "http://127.0.0.1:9", "--concurrency", "1", "--out", tmp_path)
    assert "requests.jsonl is not a regular file" in refuse(capsys, *asked)
