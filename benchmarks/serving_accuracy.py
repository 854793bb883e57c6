#!/usr/bin/env python3
"""A student behind transformers and vLLM on this machine: latencies predicted by the simulation beside measured ones.

Each engine is started on the student, measured at six loads up to saturation (closed loop, `LOADS` requests in
flight), calibrated on three of them, and simulated at the other three: p50 and p90 of the time to first token and of
the time per output token, and the knee, which is what the server puts out while requests always wait.  Beside each
error stands the engine's own noise: how far the medians of its runs lie apart.  To be run alone, in about 12 minutes:

    benchmarks/serving_accuracy.py --student DIR [--vllm-python PYTHON] [--out DIR] [--small]

--small sends fewer and shorter requests, to see that everything works.  Where --out holds the measurements of all
loads, no engine is started and they are fitted again.  Tables go to stderr; the last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import flashstill as fs
from flashstill.console import Console
from flashstill.facts import load, user_directory
from flashstill.load_test.question import LoadTest
from flashstill.load_test.written import measure_server
from flashstill.plan.deployment import Deployment
from flashstill.simulate.capacity import mix_of
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.saturated import saturated
from flashstill.simulate.simulation import prepared, simulated
from flashstill.validation.served_steps import Load, fit_steps, loads_of, percentiles, step_facts

SEQUENCES = 8
LOADS, CALIBRATED = (1, 2, 4, 8, 12, 16), (1, 4, 12)
"""requests in flight; beyond SEQUENCES they wait"""
PER_SLOT = 3
CHIP = "this-machine"
WITHIN = 0.15


def main() -> None:
    asked = arguments()
    if not (user_directory() / "this-machine.csv").is_file():
        print("this machine is measured first", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "flashstill", "measure"], check=True, stdout=subprocess.DEVNULL)
    found = {}
    for engine, python in (("transformers", None), ("vllm", asked.vllm_python)):
        if engine == "transformers" or python is not None:
            found[engine] = engine_errors(engine, python, asked)
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, required=True, help="a Hugging Face directory")
    parser.add_argument("--vllm-python", type=Path, default=None, help="the Python of an environment with vLLM")
    parser.add_argument(
        "--out", type=Path, default=None, help="keeps the measurements [default: a temporary directory]"
    )
    parser.add_argument("--isl", type=int, default=64)
    parser.add_argument("--osl", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    asked = parser.parse_args()
    asked.out = asked.out or Path(tempfile.mkdtemp(prefix="serving-accuracy-"))
    if asked.small:
        asked.osl = 8
    return asked


def engine_errors(engine: str, python: Path | None, asked: argparse.Namespace) -> dict[str, Any]:
    """Measure, calibrate, simulate: the errors of one engine."""
    settings, levels = measured(engine, python, asked)
    deployment = Deployment(chip=CHIP, engine=engine, precision=settings["precision"])
    policy = Policy(sequences=SEQUENCES, step_tokens=settings["step_tokens"])
    if engine == "transformers":  # which is told no number of sequences, but of blocks
        policy = replace(policy, sequences=None, cache_blocks=settings["blocks"])
    loads = {many: loads_of(found)[0] for many, found in levels.items()}
    facts, model = load(), str(asked.student)
    fitted = fit_steps(facts, model, deployment, policy, [loads[many] for many in CALIBRATED])
    own = facts.with_rows(step_facts(fitted, asked.out))
    rows = [
        row for many in LOADS
        for row in compared(own, model, deployment, policy, loads[many], many, spread(levels[many]))
    ]  # fmt: skip
    show(engine, fitted.steps, rows)
    steady = knee_in_closed_form(own, model, deployment, policy, loads[LOADS[-1]])
    print(f"knee without the ends of a run, in closed form: {steady:.2f} requests/s", file=sys.stderr)
    held_out = [abs(row["error"]) for row in rows if row["load"] not in CALIBRATED and row["unit"] == "ms"]
    return {
        "steps": {name: getattr(fitted.steps, name) for name in fitted.steps.__dataclass_fields__},
        "knee_requests_per_s": steady,
        "held_out_mean_error": statistics.mean(held_out),
        "held_out_largest_error": max(held_out),
        "held_out_within": sum(error <= WITHIN for error in held_out) / len(held_out),
        "knee_error": next(row["error"] for row in rows if row["figure"] == "knee"),
        "rows": rows,
    }


def measured(
    engine: str, python: Path | None, asked: argparse.Namespace
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The server's settings, and the documents of `measure --server` by load; from --out where all are there."""
    folder = asked.out / engine
    kept, summary = folder / "settings.json", folder / "summary.json"
    if kept.is_file() and summary.is_file():
        print(f"{engine}: the measurements in {folder}", file=sys.stderr)
        return json.loads(kept.read_text()), by_load(json.loads(summary.read_text()))
    length = 2 * (asked.isl + asked.osl)
    with fs.serve(asked.student, engine=engine, engine_python=python, sequences=SEQUENCES, length=length) as server:
        settings = {name: getattr(server.settings, name) for name in ("precision", "step_tokens", "blocks")}
        test = LoadTest(
            base=server.url, name=server.model, concurrency=LOADS, per_slot=1 if asked.small else PER_SLOT,
            isl=asked.isl, osl=asked.osl, runs=asked.runs, in_turn=True, warm_up=False, tokenizer=asked.student,
        )  # fmt: skip
        warm_up = replace(test, concurrency=LOADS[-1:], runs=1, warm_up=True, seed=1)
        measure_server(warm_up, Console())
        measure_server(test, Console(), folder)
    kept.write_text(json.dumps(settings))
    return settings, by_load(json.loads(summary.read_text()))


def by_load(found: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """A document with several levels as one for each."""
    return {level["concurrency"]: {**found, "levels": [level]} for level in found["levels"]}


def spread(found: dict[str, Any]) -> dict[str, float]:
    """Half the distance of the extreme runs over the median, of each latency's median and of the output."""
    (level,) = found["levels"]
    noise = {}
    for name in ("ttft_median_s", "tpot_median_s", "output_tokens_per_s"):
        values = [run[name] for run in level["runs"] if name in run]
        noise[name] = (max(values) - min(values)) / 2.0 / statistics.median(values) if values else float("nan")
    return noise


def compared(
    facts: Any, model: str, deployment: Deployment, policy: Policy, measured: Load, many: int, noise: dict[str, float]
) -> list[dict[str, Any]]:
    """Predicted and measured figures of a load."""
    pieces, sizes = requests_of(measured.traffic, 0)
    fleet = prepared(facts, model, deployment, policy, sizes)
    rows = []
    for (name, percentile), value in percentiles(fleet, measured).items():
        real = measured.measured[name, percentile]
        rows.append(
            {"load": many, "figure": f"{name.removesuffix('_s')} p{percentile}", "unit": "ms", "measured": real * 1e3,
             "predicted": value * 1e3, "error": value / real - 1.0, "noise": noise[f"{name[:-2]}_median_s"]}
        )  # fmt: skip
    rate = simulated(fleet, measured.traffic, pieces).output_tokens_per_s
    figure = "knee" if many == LOADS[-1] else "output"
    rows.append(
        {"load": many, "figure": figure, "unit": "tokens/s", "measured": measured.output_tokens_per_s,
         "predicted": rate, "error": rate / measured.output_tokens_per_s - 1.0, "noise": noise["output_tokens_per_s"]}
    )  # fmt: skip
    return rows


def knee_in_closed_form(facts: Any, model: str, deployment: Deployment, policy: Policy, load: Load) -> float:
    """Requests per second of a server whose line never empties, for requests of the load's lengths."""
    pieces, sizes = requests_of(load.traffic, 0)
    fleet, requests = prepared(facts, model, deployment, policy, sizes), next(pieces)
    return saturated(fleet.tables, fleet.limits, mix_of(requests.prompt, requests.output, requests.cached)).rate


def show(engine: str, steps: Any, rows: list[dict[str, Any]]) -> None:
    print(f"\n{engine}: {steps}", file=sys.stderr)
    print(
        f"{'in flight':>9}  {'figure':<9} {'measured':>9} {'predicted':>9}  {'error':>7}  {'noise':>6}", file=sys.stderr
    )
    for row in rows:
        used = " (calibrated)" if row["load"] in CALIBRATED else ""
        print(
            f"{row['load']:>9}  {row['figure']:<9} {row['measured']:>9.1f} {row['predicted']:>9.1f}"
            f"  {row['error']:>+7.1%}  {row['noise']:>6.1%}{used}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
