#!/usr/bin/env python3
"""What a question costs from the shell: processor time of `predict`, `explain` and others as whole processes.

Each command runs several times, with modules that are compiled already; the median of user and system time counts,
which other work on the machine disturbs less than the clock on the wall. The target for predict and explain is 0.35 s.
Prints a table on stderr, one JSON line on stdout: for each command `seconds` and `modules` (how many it imports), and
for comparison those of an empty program and of importing NumPy alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile

CASE = ("--model", "qwen3-32b", "--chip", "h100-sxm")
COMMANDS = {
    "python": ("-c", "pass"),
    "import numpy": ("-c", "import numpy"),
    "predict": ("-m", "flashstill", "predict", *CASE, "--tp", "2"),
    "explain": ("-m", "flashstill", "explain", *CASE, "--batch", "8"),
    "chips": ("-m", "flashstill", "chips"),
    "models": ("-m", "flashstill", "models"),
    "--help": ("-m", "flashstill", "--help"),
}


def seconds(arguments: tuple[str, ...], environment: dict[str, str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def modules(arguments: tuple[str, ...], environment: dict[str, str]) -> int:
    """How many modules a run imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return sum(line.startswith("import time:") for line in done.stderr.splitlines()) - 1


def measured(runs: int) -> dict[str, dict[str, float]]:
    """Median seconds and number of modules by command."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = folder
        for name, arguments in COMMANDS.items():
            loaded = modules(arguments, environment)  # compiles, too
            median = statistics.median(seconds(arguments, environment) for _ in range(runs))
            found[name] = {"seconds": round(median, 4), "modules": loaded}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    found = measured(parser.parse_args().runs)
    print(f"{'command':<16}{'processor time':>16}{'modules':>10}", file=sys.stderr)
    for name, each in found.items():
        print(f"{name:<16}{each['seconds']:>14.3f} s{each['modules']:>10.0f}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
