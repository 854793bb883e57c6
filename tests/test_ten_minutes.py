"""The script that measures a GPU: it must run from end to end on a machine that has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu" / "ten_minutes.py"


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    """All but TRL, which lives in an environment of its own: that part says so."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "FLASHSTILL_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(tmp_path / "gpu.json")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=env, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found == json.loads(ran.stdout.splitlines()[-1])
    assert "--peer" in found.pop("trl")["failed"]
    assert found.pop("machine")["device"] == "cpu"
    assert {part for part, figures in found.items() if "failed" in figures} == set()
    assert found["step"]["loss"] == pytest.approx(found["fsdp2"]["loss"], rel=2e-3)  # in bfloat16 where that is fast
    assert found["step"]["weights"] == found["step_recompute"]["weights"]
    assert found["bits"]["repeated"]
    assert found["bits"]["resumed"]
    assert found["loss"]["used"]["value"] == pytest.approx(found["loss"]["plain"]["value"], rel=1e-4)
