"""The benchmarks run and say what they promise; how fast they are is not a test's business on a shared machine."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_plan_speed_prints_its_figures_as_the_last_line() -> None:
    command = [sys.executable, str(BENCHMARKS / "plan_speed.py"), "--quick", "--no-peers"]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["configurations_per_s"] > 0
    assert said["search_s"] > 0
    assert said["import_s"] > 0
    assert said["evaluated"] >= said["priced"] >= said["feasible"] >= said["front"] > 0
