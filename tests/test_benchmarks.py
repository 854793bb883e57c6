"""The benchmarks run and say what they promise; how fast they are is not a test's business on a shared machine."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

STEPPER = """
import json, sys, time
sys.path.insert(0, {peers!r})
from turns import report, wait

asked = json.loads(sys.argv[1])
for step in range(asked["steps"]):
    wait()
    with open(asked["diary"], "a") as diary:
        diary.write(asked["name"])
    print({{"loss": step}}, flush=True)  # what a trainer says on the way
    if step == asked.get("fails_at"):
        sys.exit("it broke")
report(name=asked["name"])
"""


@pytest.mark.slow
def test_asic_speed_prints_its_figures_as_the_last_line() -> None:
    command = [sys.executable, str(BENCHMARKS / "asic_speed.py"), "--draws", "2000"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["draws"] == 2000
    assert said["seconds"] == pytest.approx(said["draws_s"] + said["sobol_s"])
    assert said["rows"] > 40
    assert 0.7 < said["sum_of_first"] < 1.2


@pytest.mark.slow
def test_plan_speed_prints_its_figures_as_the_last_line() -> None:
    command = [sys.executable, str(BENCHMARKS / "plan_speed.py"), "--quick", "--no-peers"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["configurations_per_s"] > 0
    assert said["search_s"] > 0
    assert said["import_s"] > 0
    assert said["evaluated"] >= said["priced"] >= said["feasible"] >= said["front"] > 0


@pytest.mark.slow
def test_simulate_speed_prints_its_figures_as_the_last_line(tmp_path: Path) -> None:
    """Without the trace, of an hour that has its totals and is said to be made up."""
    absent = ["--trace", str(tmp_path / "absent.csv")]
    command = [sys.executable, str(BENCHMARKS / "simulate_speed.py"), "--quick", "--no-peers", *absent]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert (said["requests"], said["input_tokens"], said["output_tokens"]) == (19_366, 22_361_870, 4_088_665)
    assert said["trace"].startswith("synthetic")
    assert said["output_tokens_per_s"] > 0
    assert said["azure_hour_s"] > 0
    assert said["peak_bytes"] > 0


@pytest.mark.slow
def test_capacity_speed_prints_its_figures_as_the_last_line() -> None:
    command = [sys.executable, str(BENCHMARKS / "capacity_speed.py"), "--quick"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert [row["hours"] for row in said["plans"]] == [24, 24, 168, 168]
    assert all(row["status"] in ("optimal", "feasible") and row["gap"] < 0.03 for row in said["plans"])


@pytest.fixture
def vs_trl(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("vs_trl")


class TestTurns:
    """Sides of vs_trl, here scripts that write down when they were at work."""

    def sides(self, vs_trl: Any, folder: Path, **more: Any) -> dict[str, Any]:
        script = folder / "stepper.py"
        script.write_text(STEPPER.format(peers=str(BENCHMARKS / "peers")))
        asked = {"steps": 2 * vs_trl.TURN, "diary": str(folder / "diary"), **more}
        return {name: vs_trl.Side(sys.executable, str(script), {**asked, "name": name}) for name in "ab"}

    def test_sides_take_turns(self, vs_trl: Any, tmp_path: Path) -> None:
        found = vs_trl.side_by_side(self.sides(vs_trl, tmp_path), 2 * vs_trl.TURN)
        assert [found[name]["name"] for name in "ab"] == ["a", "b"]
        assert all(found[name]["peak_bytes"] > 0 for name in "ab")
        turn = vs_trl.TURN
        assert (tmp_path / "diary").read_text() == "a" * turn + "b" * 2 * turn + "a" * turn

    def test_a_side_that_breaks_says_why(self, vs_trl: Any, tmp_path: Path) -> None:
        sides = self.sides(vs_trl, tmp_path, fails_at=1)
        with pytest.raises(vs_trl.Unavailable, match="it broke"):
            vs_trl.side_by_side(sides, vs_trl.TURN)
        assert all(side.process.poll() is not None for side in sides.values())

    def test_steps_after_a_pause_are_not_counted(self, vs_trl: Any) -> None:
        slow, turn = 100.0, [100.0] * vs_trl.WARM_UP + [2.0] * (vs_trl.TURN - vs_trl.WARM_UP)
        ours = [{"step_s": [1.0 if each != slow else slow for each in turn * 2], "peak_bytes": 1}]
        theirs = [{"step_s": turn * 2, "peak_bytes": 2}]
        assert vs_trl.times_as_fast(ours, theirs) == 2.0
        assert vs_trl.summary(theirs) == {"tokens_per_s": vs_trl.BATCH * vs_trl.LENGTH / 2.0, "peak_bytes": 2}

    def test_a_round_of_half_a_turn(self) -> None:
        command = [sys.executable, str(BENCHMARKS / "vs_trl.py"), "--steps", "7"]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran.returncode == 2
        assert "whole turns of 6 steps" in ran.stderr


@pytest.mark.slow
def test_cases_speed_prints_its_figures_as_the_last_line() -> None:
    command = [sys.executable, str(BENCHMARKS / "cases_speed.py"), "--rows", "50", "--rounds", "1"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["rows"] == said["rows_answered"] == 50
    assert said["rows"] >= said["rows_fitting"] > 0
    assert said["seconds"] > 0
    assert said["peak_memory_bytes"] > 0
    assert said["alone_ms"].keys() == said["first_ms"].keys()
    assert min(said["first_ms"].values()) > 0
    alone = sorted(said["alone_ms"].values())
    assert said["alone_ratio"] == pytest.approx(alone[len(alone) // 2] / said["ms_per_row"], abs=0.06)


@pytest.mark.slow
def test_start_prints_its_figures_as_the_last_line() -> None:
    ran = subprocess.run(
        [sys.executable, str(BENCHMARKS / "start.py"), "--runs", "1"], check=True, capture_output=True, text=True
    )
    said = json.loads(ran.stdout.splitlines()[-1])
    for command in ("predict", "explain"):
        assert said[command]["seconds"] > 0
        assert said[command]["modules"] > said["import numpy"]["modules"] > said["python"]["modules"]
