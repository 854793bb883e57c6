#!/usr/bin/env python3
"""How long `predict --cases` needs for 100,000 rows on one core.

The rows are drawn with a seed: several models, chips, layouts, lengths, loads, precisions and engines, and a column of
the user's own. Prints a table on stderr and one JSON line on stdout: rows, rows_answered, rows_fitting, seconds,
ms_per_row, peak_memory_bytes. Seconds are processor time of the command as a whole process, start included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = (
    "qwen3-32b", "qwen3-30b-a3b", "llama-3.1-8b", "llama-3.1-70b", "gpt-oss-120b", "deepseek-v3", "gemma-3-27b",
)  # fmt: skip
CHIPS = ("a100-80g", "h100-sxm", "h200", "b200", "mi300x", "tpu-v5p", "tpu-v6e")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
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
    print(json.dumps(found))


if __name__ == "__main__":
    main()
