"""The script that measures a GPU's kernels: what it makes of a meter, of failing points, and of its own tiny shapes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_watts_come_from_the_counter_between_two_of_its_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import board

    class Clock:
        """On which a look takes ten microseconds, and work two milliseconds."""

        now_s = 1000.0

        def perf_counter(self) -> float:
            self.now_s += 1e-5
            return self.now_s

        def work(self) -> None:
            self.now_s += 2e-3

    class Counter:
        def read(self) -> list[int]:  # 300 W, told in steps of 20 ms, as a driver does
            return [int(clock.now_s / 0.02) * 6000]

    clock = Clock()
    monkeypatch.setattr(board, "time", clock)
    monkeypatch.setattr(board, "nvml", Counter)
    drawn = board.Board().watch(clock.work, board.LEAD_S + 0.3)
    assert drawn is not None
    assert drawn.watts == pytest.approx(300.0, rel=0.1)
    assert drawn.window_s < 0.3
    assert drawn.updates > 3


def test_without_a_meter_there_are_no_watts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import board

    monkeypatch.setattr(board, "nvml", lambda: None)
    assert board.Board().watch(lambda: time.sleep(0.001), 0.01) is None


def test_a_failing_point_is_a_row_and_the_next_one_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import result_rows
    import torch

    results = result_rows.Results(tmp_path, torch.device("cpu"))

    def fails() -> None:
        raise RuntimeError("no such\nkernel")

    assert not results.attempt("gemm", "m=1", fails)
    assert results.attempt("gemm", "m=2", lambda: results.add("gemm", ("m",), {"m": 2}))
    assert [row["message"] for row in _rows(tmp_path / "failures.csv")] == ["no such kernel"]
    assert [row["m"] for row in _rows(tmp_path / "gemm.csv")] == ["2"]
    with pytest.raises(ValueError, match="no columns"):
        results.add("gemm", ("m",), {"n": 2})


def test_a_rehearsal_on_a_gpu_does_not_pass_for_a_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import result_rows
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    told = [result_rows.Results(tmp_path, torch.device("cuda"), tiny).told_name() for tiny in (False, True)]
    assert told == ["NVIDIA H200", "NVIDIA H200 (rehearsal)"]


@pytest.mark.slow
def test_the_whole_script_on_tiny_shapes(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(FOLDER / "kernels.py"),
        "--tiny",
        "--cpu",
        "--out",
        str(tmp_path),
        "--seconds",
        "300",
    ]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1] / "src"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    for table in ("gemm", "memory", "context_attention", "generation_attention", "moe", "decode"):
        assert told["rows"][table] == len(_rows(tmp_path / f"{table}.csv"))
        assert all(
            float(row["low"]) <= float(row["latency"]) <= float(row["high"]) for row in _rows(tmp_path / f"{table}.csv")
        )
    checked = {
        row["quantity"]: float(row["value"]) for row in _rows(tmp_path / "board.csv") if "error" in row["quantity"]
    }
    assert checked["error of smollm2-135m in a graph"] < 0.03  # the fixed cache gives the growing one's logits
    assert checked["error of grouped experts"] < 0.02
