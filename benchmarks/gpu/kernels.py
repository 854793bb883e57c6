#!/usr/bin/env python3
"""What a GPU's kernels and small models take, in seconds and joules: run it on the machine, bring the folder back.

    python benchmarks/gpu/kernels.py --out FOLDER --seconds 150 [--smollm DIR] [--parts gemm,decode]
    python benchmarks/gpu/kernels.py --out FOLDER --tiny        # small shapes on any CPU, to try the script itself

    power       watts idle, with a context, spinning on one block; the energy counter's steps; limits, clocks
    memory      bandwidth of copies and sums, 1 MB to 4 GB
    gemm        layers of real models in bf16 and fp8, 1 to 8192 rows
    attention   prompts and one new token, by torch's backends
    moe         experts of one layer by grouped products
    decode      SmolLM2-135M and a tiny mixture of experts: steps by batch and context, prompts
    names       the kernels that torch launched, by its profiler

One CSV a kind, a row on disk after each point.  What fails is a row of failures.csv, and the rest goes on.  Each part
has its share of the seconds, the most informative points first, and what a part leaves goes to those after it.  Rows
have the columns of the tables of anchors/: milliseconds in `latency`, `low`, `high`, `sustained`; joules of one call.
No setting of the board is changed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from board import Board
from result_rows import Budget, Poisoned, Results
from stopwatch import Stopwatch

SHARES = {"power": 9.0, "memory": 9.0, "gemm": 42.0, "attention": 20.0, "moe": 13.0, "decode": 52.0, "names": 3.0}
"""seconds of 150; a part gets its share of what is left"""
Part = Callable[[Results, Stopwatch, Budget], None]


def part(name: str, smollm: Path | None) -> Part:
    """The work of a part, imported when its turn comes, so that one that cannot be imported stops no other."""
    if name == "power":
        import parts_power

        return parts_power.measure
    if name in ("memory", "gemm"):
        import parts_products

        return parts_products.memory if name == "memory" else parts_products.gemms
    if name == "attention":
        import parts_attention

        return parts_attention.measure
    if name == "moe":
        import parts_experts

        return parts_experts.measure
    if name == "names":
        import parts_names

        return parts_names.measure
    import parts_decode

    return lambda results, watch, budget: parts_decode.measure(results, watch, budget, smollm)


def run(arguments: argparse.Namespace, began: float) -> None:
    """All parts that were asked for, each within its share."""
    names: list[str] = arguments.parts
    device = torch.device("cuda" if torch.cuda.is_available() and not arguments.cpu else "cpu")
    board = Board()
    results = Results(arguments.out, device, arguments.tiny)
    if "power" in names and board.measures and device.type == "cuda" and not arguments.tiny:
        import parts_power

        results.attempt("board", "before", lambda: parts_power.before_context(results, board, 1.2))
    torch.manual_seed(0)
    watch = Stopwatch(device, board, arguments.tiny)
    print(f"{results.told_name()}, torch {torch.__version__}, joules: {board.measures}", file=sys.stderr, flush=True)
    for place, name in enumerate(names):
        left = arguments.seconds - (time.perf_counter() - began)
        share = left * SHARES[name] / sum(SHARES[later] for later in names[place:])
        started, budget = time.perf_counter(), Budget(share)
        try:
            # bound now, as the loop goes on before nothing: attempt calls it at once
            results.attempt(name, "the part", lambda: part(name, arguments.smollm)(results, watch, budget))  # noqa: B023
        except Poisoned as error:
            print(f"{name}: {error}; the parts after it run in a new process", file=sys.stderr, flush=True)
            _go_on(arguments, names[place + 1 :], left - (time.perf_counter() - started))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        took = time.perf_counter() - started
        print(f"{name:<10}{took:6.1f} of {share:5.1f} s  {results.written}", file=sys.stderr, flush=True)
    told = {
        "device": results.told_name(), "torch": torch.__version__, "seconds": round(time.perf_counter() - began, 1),
        "rows": results.written, "failed": results.failed,
    }  # fmt: skip
    print(json.dumps(told))


def _go_on(arguments: argparse.Namespace, names: list[str], seconds: float) -> None:
    """This process is over; a new one does the rest."""
    if not names or seconds < 5:
        sys.exit("the device does not answer, and nothing is left to do")
    command = [sys.executable, __file__, "--out", str(arguments.out), "--seconds", str(seconds), "--parts"]
    command += [",".join(names), *(["--tiny"] if arguments.tiny else []), *(["--cpu"] if arguments.cpu else [])]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *(["--smollm", str(arguments.smollm)] if arguments.smollm else [])])


def main() -> None:
    """Read the arguments and go."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables; rows are appended")
    parser.add_argument("--seconds", type=float, default=150.0, help="for everything, from the script's start")
    parser.add_argument("--parts", default=",".join(SHARES), help="some of " + ", ".join(SHARES))
    parser.add_argument("--smollm", type=Path, help="directory with the weights of SmolLM2-135M")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    arguments = parser.parse_args()
    arguments.parts = [name for name in arguments.parts.split(",") if name]
    unknown = [name for name in arguments.parts if name not in SHARES]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(SHARES)}")
    gc.disable()  # a collection would fall into what is timed; each part collects at its end
    run(arguments, began)


if __name__ == "__main__":
    main()
