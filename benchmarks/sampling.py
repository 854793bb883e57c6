#!/usr/bin/env python3
"""Sampling beside transformers.generate: the same small model, prompts, batch, temperature and distribution.

Attempts: a teacher of the deep-think study tries each of 64 problems 64 times, 256 attempts at work at a time; generate
is given the prompts repeated, as its num_return_sequences does. Attempts begin alike, and ours works out what they
share once. And three loads of prompts that share nothing, from random weights: rows of one length (64 new tokens); rows
that end with a stop id, about halfway; the latter from four times as many prompts as the batch holds, where ours fills
the places of rows that have ended. Each run is a process of its own, in turns. Tokens behind the end of a row count for
neither side; both give the log-probability of every token. Prints a table on stderr and one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from environments import Unavailable

HERE = Path(__file__).resolve().parent
BATCH, PROMPT = 256, 16
LOADS = {
    "attempts": (64 * 64, 32, True),
    "whole": (BATCH, 64, False),
    "ending": (BATCH, 64, True),
    "queue": (4 * BATCH, 64, True),
}
"""rows, new tokens at most, and whether a stop id ends them"""
TEACHING_STEPS = 400
SIDES = ("transformers", "flashstill")


def ran(side: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What a side prints as its last line."""
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [sys.executable, str(HERE / "peers" / "sampling_side.py"), side, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or [f"{side} ended with {done.returncode}"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def taught(place: Path) -> Path:
    """A teacher of the study in `place`, with its test problems; it learns for a fraction of the study's steps."""
    from flashstill.progress import Silent
    from flashstill.recipes.studies import read_study, recipe_file
    from flashstill.recipes.thinking import ThinkingStudy
    from flashstill.studies.deep_think.work import Work

    recipe = read_study(recipe_file("deep-think"))
    assert isinstance(recipe, ThinkingStudy)
    print("a teacher learns first, which takes minutes", file=sys.stderr, flush=True)
    short = replace(recipe, teach=replace(recipe.teach, steps=TEACHING_STEPS))
    with Work(short, 0, place, Silent()) as work:
        _ = work.teacher
    return place


def compare(rounds: int, threads: int, dtype: str, seed_directory: Path) -> dict[str, Any]:
    """All loads, side by side; the best run of each side, since other work on the machine only ever takes time."""
    asked = {"batch": BATCH, "prompt": PROMPT, "loads": LOADS, "threads": threads, "dtype": dtype,
             "seed_directory": str(seed_directory)}  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        for side in SIDES:
            runs[side].append(ran(side, asked))
    speeds = {load: {side: max(run[load]["tokens_per_s"] for run in runs[side]) for side in SIDES} for load in LOADS}
    middle = {
        load: {side: statistics.median(run[load]["tokens_per_s"] for run in runs[side]) for side in SIDES}
        for load in LOADS
    }
    ratios = {load: round(found["flashstill"] / found["transformers"], 2) for load, found in speeds.items()}
    first = runs["flashstill"][0]
    return {
        "tokens_per_s_ratio": ratios["whole"],
        "tokens_per_s_ratio_attempts": ratios["attempts"],
        "tokens_per_s_ratio_ending": ratios["ending"],
        "tokens_per_s_ratio_queue": ratios["queue"],
        "tokens_per_s": speeds,
        "tokens_per_s_median": middle,
        "mean_log_p": {side: {load: runs[side][0][load]["mean_log_p"] for load in LOADS} for side in SIDES},
        "mean_length": {side: {load: runs[side][0][load]["mean_length"] for load in LOADS} for side in SIDES},
        "parameters": {load: first[load]["parameters"] for load in LOADS},
        "dtype": dtype, "threads": threads, "rounds": rounds, "batch": BATCH,
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'tokens/s':<14}{'transformers':>14}{'flashstill':>12}{'ratio':>8}{'mean length':>13}{'mean log p':>22}"]
    for load, speeds in found["tokens_per_s"].items():
        theirs, ours = (speeds[side] for side in SIDES)
        log_p = " / ".join(f"{found['mean_log_p'][side][load]:.4f}" for side in SIDES)
        length = found["mean_length"]["flashstill"][load]
        lines.append(f"{load:<14}{theirs:>14,.0f}{ours:>12,.0f}{ours / theirs:>8.2f}{length:>13.1f}{log_p:>22}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--seed-directory", type=Path, help="of a deep-think run: its teacher and problems; one is made without"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.seed_directory or taught(Path(temporary))
        try:
            found = compare(arguments.rounds, arguments.threads, arguments.dtype, place)
        except Unavailable as error:
            sys.exit(f"sampling: {error}")
    print(table(found), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
