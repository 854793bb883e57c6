#!/usr/bin/env python3
"""Distillation beside TRL's GKD trainer: the same teacher, student, windows, order, batch and precision.

SmolLM2-135M teaches a copy of itself with every second block; forward KL at temperature 1 on every token, exact
targets. Runs alternate, each in a process of its own. TRL keeps the student's weights in float32 and multiplies in
bfloat16, as ours does; a second TRL run with nothing but bfloat16 is shown beside it. Ours trains on cached hidden
states; what it costs to make them is measured and counted in a ratio of its own. Prints a table on stderr and one JSON
line on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from environments import Unavailable, environment

HERE = Path(__file__).resolve().parent
TRL = ["torch==2.13.0", "trl==1.16.0", "transformers==5.23.0"]
TEACHER, BATCH, LENGTH, RATE, WARMUP, SEED = "smollm2-135m-instruct", 4, 256, 3e-4, 8, 0


def prepare(folder: Path, steps: int) -> dict[str, Any]:
    """Teacher, student and windows on the disk; what both sides are asked."""
    import torch
    from safetensors.torch import save_file

    from flashstill.console import Console
    from flashstill.distill.models import keep_layers, load_model, load_tokenizer, save_model
    from flashstill.distill.splits import packed_splits
    from flashstill.distill.teachers import resolve_teacher
    from flashstill.distill.training import Offline

    teacher = resolve_teacher(TEACHER, Console())
    tokenizer, model = load_tokenizer(teacher), load_model(teacher)
    tokens = steps * BATCH * LENGTH
    packed = packed_splits("cpython-docs", "cpython-code", tokenizer, LENGTH, tokens, 512, 512, SEED)["train"]
    packed.save(folder / "packed.safetensors")
    order = Offline(packed, BATCH, SEED)
    windows = torch.cat([order.batch(step, lambda: model).tokens for step in range(steps)])
    save_file({"tokens": windows}, folder / "windows.safetensors")
    save_model(keep_layers(model, list(range(0, model.config.num_hidden_layers, 2))), tokenizer, folder / "student")
    return {
        "teacher": str(teacher), "student": str(folder / "student"), "packed": str(folder / "packed.safetensors"),
        "windows": str(folder / "windows.safetensors"), "signals": str(folder / "signals"), "batch": BATCH,
        "rate": RATE, "warmup": WARMUP, "steps": steps, "threads": len(os.sched_getaffinity(0)),
    }  # fmt: skip


def ran(python: Path | str, script: str, asked: dict[str, Any]) -> dict[str, Any]:
    """What a side prints as its last line."""
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    command = [python, HERE / "peers" / script, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or [f"{script} ended with {done.returncode}"])[-1])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def speed(run: dict[str, Any]) -> float:
    """Tokens a second of the median step; the first two warm up."""
    return BATCH * LENGTH / float(statistics.median(run["step_s"][2:]))


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over the runs of one side."""
    return {
        "tokens_per_s": round(statistics.median(speed(run) for run in runs), 1),
        "peak_bytes": int(statistics.median(run["peak_bytes"] for run in runs)),
    }


def gaps(curve: list[float], other: list[float]) -> list[float]:
    """How far two loss curves are apart, step by step."""
    return [abs(a - b) / b for a, b in zip(curve, other, strict=True)]


def compare(rounds: int, steps: int) -> dict[str, Any]:
    """All runs, side by side."""
    python = environment("trl", TRL)
    sides: dict[str, list[dict[str, Any]]] = {"trl": [], "trl_bf16": [], "flashstill": []}
    with tempfile.TemporaryDirectory() as name:
        asked = prepare(Path(name), steps)
        build = ran(sys.executable, "flashstill_side.py", {**asked, "job": "build"})
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
            sides["trl"].append(ran(python, "trl_peer.py", {**asked, "weights": "mixed"}))
            sides["flashstill"].append(ran(sys.executable, "flashstill_side.py", {**asked, "job": "train"}))
            sides["trl_bf16"].append(ran(python, "trl_peer.py", {**asked, "weights": "bf16"}))
    found = {side: summary(runs) for side, runs in sides.items()}
    pairs = list(zip(sides["flashstill"], sides["trl"], strict=True))
    ours, theirs = found["flashstill"], found["trl"]
    once = 1 / (1 / ours["tokens_per_s"] + 1 / build["tokens_per_s"])  # signals made for this one pass only
    curves = {side: runs[0]["loss"] for side, runs in sides.items()}
    gap = gaps(curves["flashstill"], curves["trl"])
    return {
        "tokens_per_s_ratio": round(statistics.median(speed(a) / speed(b) for a, b in pairs), 3),
        "peak_memory_ratio": round(ours["peak_bytes"] / theirs["peak_bytes"], 3),
        "tokens_per_s_ratio_signals_included": round(once / theirs["tokens_per_s"], 3),
        "tokens_per_s_ratio_to_pure_bf16": round(ours["tokens_per_s"] / found["trl_bf16"]["tokens_per_s"], 3),
        "peak_memory_ratio_to_pure_bf16": round(ours["peak_bytes"] / found["trl_bf16"]["peak_bytes"], 3),
        "loss_gap_mean": round(statistics.mean(gap), 4),
        "loss_gap_of_trl_in_two_precisions": round(statistics.mean(gaps(curves["trl_bf16"], curves["trl"])), 4),
        "loss": curves,
        "signals_tokens_per_s": round(build["tokens_per_s"], 1), "signal_bytes": build["bytes"],
        "rounds": rounds, "steps": steps, **found,
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'side':<12}{'tokens/s':>10}{'peak GiB':>10}"]
    for side in ("trl", "trl_bf16", "flashstill"):
        lines.append(f"{side:<12}{found[side]['tokens_per_s']:>10.0f}{found[side]['peak_bytes'] / 2**30:>10.2f}")
    lines.append(f"signals built at {found['signals_tokens_per_s']:.0f} tokens/s")
    ends = {side: losses[-1] for side, losses in found["loss"].items()}
    lines.append(f"last loss: {ends}; curves differ by {found['loss_gap_mean']:.1%} on average,")
    lines.append(f"TRL's own in two precisions by {found['loss_gap_of_trl_in_two_precisions']:.1%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    arguments = parser.parse_args()
    try:
        found = compare(arguments.rounds, arguments.steps)
    except Unavailable as error:
        sys.exit(f"vs_trl: {error}")
    print(table(found), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
