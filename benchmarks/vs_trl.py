#!/usr/bin/env python3
"""Distillation beside TRL's GKD trainer: the same teacher, student, windows, order, batch and precision.

SmolLM2-135M teaches a copy of itself with every second block; forward KL at temperature 1 on every token, exact
targets. The two are processes of their own that take turns of a few steps, so that what else the machine does slows
both alike. TRL keeps the student's weights in float32 and multiplies in bfloat16, as ours does; a second TRL with
nothing but bfloat16 runs after them, alone: a third process slows the one that takes and frees most memory. With
--precision fp32, for processors without bfloat16, both multiply in float32, and there is no second TRL. Ours trains on
cached hidden states; what it costs to make them is measured and counted in a ratio of its own. Prints a table on
stderr and one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from environments import QUIET, Unavailable, environment, last

HERE = Path(__file__).resolve().parent
TEACHER, BATCH, LENGTH, RATE, WARMUP, SEED = "smollm2-135m-instruct", 4, 256, 3e-4, 8, 0
SIDES = ("trl", "trl_bf16", "flashstill")
TURN, WARM_UP = 6, 2
"""steps of a turn, and how many of them are not counted: memory that was freed before a pause is slow to come back"""


def prepare(folder: Path, steps: int) -> dict[str, Any]:
    """Teacher, student and windows on the disk; what both sides are asked."""
    import torch
    from safetensors.torch import save_file

    from flashstill.console import Console
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.splits import Sizes, packed_splits
    from flashstill.distill.models import keep_layers, load_model, load_tokenizer, save_model
    from flashstill.distill.teachers import resolve_teacher
    from flashstill.distill.training import Offline

    teacher = resolve_teacher(TEACHER, Console())
    tokenizer, model = load_tokenizer(teacher), load_model(teacher)
    tokens = steps * BATCH * LENGTH
    sizes = Sizes(window_tokens=LENGTH, train_tokens=tokens, heldout_tokens=512, out_of_domain_tokens=512)
    packed = packed_splits("cpython-docs", "cpython-code", Reading(tokenizer=tokenizer), sizes, SEED)["train"]
    packed = dataclasses.replace(packed, starts=None)  # the other side masks no documents
    packed.save(folder / "packed.safetensors")
    order = Offline(packed, BATCH, SEED)
    windows = torch.cat([order.batch(step, lambda: model).tokens for step in range(steps)])
    save_file({"tokens": windows}, folder / "windows.safetensors")
    save_model(keep_layers(model, list(range(0, model.config.num_hidden_layers, 2))), tokenizer, folder / "student")
    return {
        "teacher": str(teacher), "student": str(folder / "student"), "packed": str(folder / "packed.safetensors"),
        "windows": str(folder / "windows.safetensors"), "signals": str(folder / "signals"), "batch": BATCH,
        "rate": RATE, "warmup": WARMUP, "steps": steps,
    }  # fmt: skip


class Side:
    """A script that trains, one step a turn."""

    def __init__(self, python: Path | str, script: str, asked: dict[str, Any]) -> None:
        command = [str(python), str(HERE / "peers" / script), json.dumps(asked)]
        self.script, self.errors = script, tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the side
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | QUIET,
        )

    def next_line(self) -> str:
        """What it says when it waits for its turn, or last of all."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("ready", '{"')):  # TRL's own lines begin otherwise
                return line
        self.errors.seek(0)
        raise Unavailable(last(self.errors.read()) or f"{self.script} ended with {self.process.wait()}")

    def step(self) -> None:
        """Its turn has come."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Whatever it was doing."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            if file is not None:
                file.close()


def side_by_side(sides: dict[str, Side], steps: int) -> dict[str, dict[str, Any]]:
    """What each found, after `steps` steps in turns; who begins changes from turn to turn."""
    try:
        said = {name: side.next_line() for name, side in sides.items()}
        order = list(sides)
        for turn in range(steps // TURN):
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                for _ in range(TURN):
                    sides[name].step()
                    said[name] = sides[name].next_line()
        return {name: json.loads(line) for name, line in said.items()}
    finally:
        for side in sides.values():
            side.end()


def step_seconds(runs: list[dict[str, Any]], clock: str = "step_s") -> list[float]:
    """Of the steps that count."""
    return [seconds for run in runs for step, seconds in enumerate(run[clock]) if step % TURN >= WARM_UP]


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Medians of one side."""
    return {
        "tokens_per_s": round(BATCH * LENGTH / statistics.median(step_seconds(runs)), 1),
        "peak_bytes": int(statistics.median(run["peak_bytes"] for run in runs)),
    }


def times_as_fast(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], clock: str = "step_s") -> float:
    """The median over the steps of how much longer the other side took for the same one."""
    pairs = zip(step_seconds(ours, clock), step_seconds(theirs, clock), strict=True)
    return round(statistics.median(their_s / our_s for our_s, their_s in pairs), 3)


def gaps(curve: list[float], other: list[float]) -> list[float]:
    """How far two loss curves are apart, step by step."""
    return [abs(a - b) / b for a, b in zip(curve, other, strict=True)]


def compare(rounds: int, steps: int, precision: str, threads: int) -> dict[str, Any]:
    """All rounds."""
    python, in_bf16 = environment("trl"), precision == "bf16"
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES if in_bf16 or side != "trl_bf16"}
    with tempfile.TemporaryDirectory() as name:
        asked = {**prepare(Path(name), steps), "precision": precision, "threads": threads}
        signals = Side(sys.executable, "flashstill_side.py", {**asked, "job": "build"})  # which takes no steps
        build = side_by_side({"signals": signals}, 0)["signals"]
        for turn in range(rounds):
            print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
            pair = {
                "trl": Side(python, "trl_peer.py", {**asked, "weights": "mixed" if in_bf16 else "fp32"}),
                "flashstill": Side(sys.executable, "flashstill_side.py", {**asked, "job": "train"}),
            }
            found = side_by_side(pair, steps)
            if in_bf16:
                found |= side_by_side({"trl_bf16": Side(python, "trl_peer.py", {**asked, "weights": "bf16"})}, steps)
            for side, run in found.items():
                runs[side].append(run)
    sums = {side: summary(each) for side, each in runs.items()}
    ours, theirs = sums["flashstill"], sums["trl"]
    once = 1 / (1 / ours["tokens_per_s"] + 1 / build["tokens_per_s"])  # signals made for this one pass only
    curves = {side: each[0]["loss"] for side, each in runs.items()}
    gap = gaps(curves["flashstill"], curves["trl"])
    ratios = {
        "tokens_per_s_ratio": times_as_fast(runs["flashstill"], runs["trl"]),
        "processor_seconds_ratio": times_as_fast(runs["flashstill"], runs["trl"], "processor_s"),
        "peak_memory_ratio": round(ours["peak_bytes"] / theirs["peak_bytes"], 3),
        "tokens_per_s_ratio_signals_included": round(once / theirs["tokens_per_s"], 3),
    }
    if in_bf16:
        ratios |= {
            "tokens_per_s_ratio_to_pure_bf16": round(ours["tokens_per_s"] / sums["trl_bf16"]["tokens_per_s"], 3),
            "peak_memory_ratio_to_pure_bf16": round(ours["peak_bytes"] / sums["trl_bf16"]["peak_bytes"], 3),
            "loss_gap_of_trl_in_two_precisions": round(statistics.mean(gaps(curves["trl_bf16"], curves["trl"])), 4),
        }
    return {
        **ratios, "loss_gap_mean": round(statistics.mean(gap), 4), "loss": curves, "precision": precision,
        "signals_tokens_per_s": round(build["tokens_per_s"], 1), "signal_bytes": build["bytes"],
        "rounds": rounds, "steps": steps, **sums,
        "step_s": {side: [run["step_s"] for run in each] for side, each in runs.items()},
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'side':<12}{'tokens/s':>10}{'peak GiB':>10}"]
    for side in found["loss"]:
        lines.append(f"{side:<12}{found[side]['tokens_per_s']:>10.0f}{found[side]['peak_bytes'] / 2**30:>10.2f}")
    lines.append(f"signals built at {found['signals_tokens_per_s']:.0f} tokens/s")
    ends = {side: losses[-1] for side, losses in found["loss"].items()}
    lines.append(f"last loss: {ends}; curves differ by {found['loss_gap_mean']:.2%} on average")
    if "loss_gap_of_trl_in_two_precisions" in found:
        lines.append(f"TRL's own in two precisions by {found['loss_gap_of_trl_in_two_precisions']:.1%}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), default="bf16", help="of matrix products of both sides"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or arguments.steps < TURN or arguments.steps % TURN:
        parser.error(f"a round has whole turns of {TURN} steps: {arguments.steps} steps in {arguments.rounds} rounds")
    try:
        found = compare(arguments.rounds, arguments.steps, arguments.precision, arguments.threads)
    except Unavailable as error:
        sys.exit(f"vs_trl: {error}")
    print(table(found), file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
