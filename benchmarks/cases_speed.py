#!/usr/bin/env python3
"""How long `predict --cases` needs for 100,000 rows on one core, and `flashstill.predict` for one case alone.

The rows are drawn with a seed: several models, chips, layouts, lengths, loads, precisions and engines, and a column of
the user's own. Seconds are processor time of the command as a whole process, start included.

A case alone is a call of `flashstill.predict` in a process that has answered one before. `alone_ms`: of another load of
a model, chip and layout that were asked about before; no load comes twice. `first_ms`: of the first case of a model and
chip, where another model on another chip was asked about before, so that imports and tables of facts are not counted.

Prints tables on stderr and one JSON line on stdout: rows, rows_answered, rows_fitting, seconds, ms_per_row,
peak_memory_bytes, alone_ms and first_ms by model, alone_ratio (the median of alone_ms over ms_per_row).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import flashstill

MODELS = (
    "qwen3-32b", "qwen3-30b-a3b", "llama-3.1-8b", "llama-3.1-70b", "gpt-oss-120b", "deepseek-v3", "gemma-3-27b",
)  # fmt: skip
CHIPS = ("a100-80g", "h100-sxm", "h200", "b200", "mi300x", "tpu-v5p", "tpu-v6e")
ALONE: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": {"chip": "h100-sxm"},
    "llama-3.1-70b": {"chip": "h100-sxm", "tp": 4},
    "gpt-oss-120b": {"chip": "h200-sxm", "tp": 2},
    "qwen3-30b-a3b": {"chip": "h100-sxm", "tp": 1},
    "deepseek-v3": {"chip": "h200-sxm", "tp": 8},
    "qwen3-next-80b-a3b": {"chip": "h200-sxm", "tp": 2},
    "nemotron-3-nano-30b-a3b": {"chip": "h200-sxm", "tp": 4},
}
FIRST = """
import sys, time
import flashstill
flashstill.predict(model="qwen3-0.6b", chip="a100-80g")
started = time.process_time()
flashstill.predict(model=sys.argv[1], chip=sys.argv[2], tp=int(sys.argv[3]))
print(time.process_time() - started)
"""
"""a program that times the first case of a model"""
COLUMNS = "model,chip,tp,dp,isl,osl,concurrency,precision,engine,label"


def rows(count: int, seed: int) -> str:
    """The text of a file of cases; no two rows are likely to be alike."""
    draw = random.Random(seed)
    lines = [COLUMNS]
    for number in range(count):
        cells = (
            draw.choice(MODELS), draw.choice(CHIPS), draw.choice((1, 2, 4, 8)), draw.choice(("", 1, 2)),
            draw.randint(1, 8000), draw.randint(2, 2000), draw.randint(1, 512), draw.choice(("", "bf16", "fp8")),
            draw.choice(("", "sglang", "none")), f"row {number}",
        )  # fmt: skip
        lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"


def answered(source: Path, out: Path) -> dict[str, float]:
    """The command's own counts, and the processor time and memory that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "flashstill", "predict", "--cases", str(source), "--out", str(out), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = json.loads(done.stdout)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "rows": counts["cases"], "rows_answered": counts["answered"], "rows_fitting": counts["fitting"],
        "seconds": round(seconds, 2), "ms_per_row": round(seconds / counts["cases"] * 1e3, 4),
        "peak_memory_bytes": after.ru_maxrss * 1024,
    }  # fmt: skip


def alone(model: str, count: int, rounds: int, draw: random.Random) -> float:
    """Milliseconds of one case of a known model: the least of the medians of several rounds of different loads."""
    asked = {"model": model, **ALONE[model]}
    flashstill.predict(**asked)
    medians = []
    for _ in range(rounds):
        seconds = []
        for _ in range(count):
            load: dict[str, Any] = {
                "batch": draw.randint(1, 200),
                "isl": draw.randint(50, 6000),
                "osl": draw.randint(10, 1500),
            }
            started = time.process_time()
            flashstill.predict(**asked, **load)
            seconds.append(time.process_time() - started)
        medians.append(statistics.median(seconds))
    return round(min(medians) * 1e3, 3)


def first(model: str, processes: int) -> float:
    """Milliseconds of the first case of a model: the least of several processes."""
    asked = [model, str(ALONE[model]["chip"]), str(ALONE[model].get("tp", 1))]
    command = [sys.executable, "-c", FIRST, *asked]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(processes)]
    return round(min(float(done.stdout) for done in runs) * 1e3, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=7, help="of 40 cases alone a model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "cases.csv", Path(folder) / "answers.csv"
        source.write_text(rows(options.rows, options.seed), encoding="utf-8")
        found = answered(source, out)
    print(f"{'rows':>10}{'answered':>10}{'fitting':>10}{'seconds':>10}{'ms a row':>10}{'memory':>10}", file=sys.stderr)
    print(
        f"{found['rows']:>10,}{found['rows_answered']:>10,}{found['rows_fitting']:>10,}{found['seconds']:>10.1f}"
        f"{found['ms_per_row']:>10.3f}{found['peak_memory_bytes'] / 1e6:>7.0f} MB",
        file=sys.stderr,
    )
    draw = random.Random(options.seed)
    alone_ms = {model: alone(model, 40, options.rounds, draw) for model in ALONE}
    first_ms = {model: first(model, 3) for model in ALONE}
    ratio = statistics.median(alone_ms.values()) / found["ms_per_row"]
    print(f"\n{'one case alone':<26}{'ms':>8}{'rows':>8}{'first, ms':>12}", file=sys.stderr)
    for model, spent in alone_ms.items():
        print(f"{model:<26}{spent:>8.2f}{spent / found['ms_per_row']:>7.0f}x{first_ms[model]:>12.1f}", file=sys.stderr)
    print(json.dumps({**found, "alone_ms": alone_ms, "first_ms": first_ms, "alone_ratio": round(ratio, 1)}))


if __name__ == "__main__":
    main()
