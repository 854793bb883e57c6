#!/usr/bin/env python3
"""How fast `simulate` follows an hour of real traffic on one core, beside ai-dynamo-runtime's replay, and its memory.

The hour is that of the Azure trace of 2023, conversations: 19,366 requests on eight replicas with a paged cache. Where
its file is absent, an hour with the same totals is made up and said so. Seconds are processor time. Prints a table on
stderr and one JSON line on stdout: output_tokens_per_s, azure_hour_s, peak_bytes, trace, and more.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environments import Unavailable, environment, last_line

HERE = Path(__file__).resolve().parent
TRACE = HERE.parents[1] / "shared" / "traces" / "azure_llm_2023_conv.csv"
REQUESTS, TOKENS_IN, TOKENS_OUT, HOUR_S = 19_366, 22_361_870, 4_088_665, 3600.0
"""totals of the hour: Patel et al. 2024, Splitwise; AzurePublicDataset, AzureLLMInferenceTrace_conv"""
REPLICAS = 8
MODEL, CHIP = "llama-3.1-8b", "h100-sxm"
PEER = "ai-dynamo-runtime"


def synthetic_hour(path: Path) -> None:
    """An hour with the same totals: random arrivals, log-normal lengths scaled to the sums."""
    numbers = np.random.default_rng(0)
    times = np.sort(numbers.uniform(0.0, HOUR_S, REQUESTS))
    columns = []
    for total in (TOKENS_IN, TOKENS_OUT):
        drawn = numbers.lognormal(0.0, 1.0, REQUESTS)
        tokens = np.maximum((drawn * (total / drawn.sum())).astype(np.int64), 1)
        tokens[np.argmax(tokens)] += total - tokens.sum()
        columns.append(tokens)
    with path.open("w", encoding="utf-8", newline="") as text:
        out = csv.writer(text)
        out.writerow(("arrival_s", "input_tokens", "output_tokens"))
        out.writerows(zip((f"{each:.4f}" for each in times), *columns, strict=True))


def hour(trace: Path, runs: int) -> dict[str, float]:
    """Processor seconds of the whole hour, as a user calls it, and of its parts; the best of several runs."""
    from flashstill.facts import load
    from flashstill.plan.deployment import Deployment
    from flashstill.simulate.policy import Policy
    from flashstill.simulate.prepare import requests_of
    from flashstill.simulate.simulation import prepared, simulate
    from flashstill.simulate.traffic import Traffic

    facts, deployment, traffic, policy = load(), Deployment(chip=CHIP), Traffic(trace=trace), Policy(replicas=REPLICAS)
    answer = simulate(facts, MODEL, deployment, traffic, policy)  # compiles, or loads what was compiled
    whole, reading, events = [], [], []
    for _ in range(runs):
        begun = time.process_time()
        again = simulate(facts, MODEL, deployment, traffic, policy)
        whole.append(time.process_time() - begun)
        assert again.seconds == answer.seconds
        begun = time.process_time()
        pieces, sizes = requests_of(traffic, 0)
        held = list(pieces)
        reading.append(time.process_time() - begun)
        fleet = prepared(facts, MODEL, deployment, policy, sizes)
        begun = time.process_time()
        fleet.serve(held, False, 0)
        events.append(time.process_time() - begun)
    return {
        "azure_hour_s": round(min(whole), 4),
        "reading_s": round(min(reading), 4),
        "events_s": round(min(events), 4),
        "output_tokens_per_s": round(answer.output_tokens / min(events)),
        "requests": answer.finished,
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "preemptions": answer.preemptions,
    }


def many(requests: int) -> dict[str, float]:
    """In a process of its own: so many requests at seven tenths of the knee; processor seconds and the peak."""
    command = [sys.executable, str(HERE / "simulate_speed.py"), "--child", str(requests)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(requests: int) -> None:
    from flashstill.facts import load
    from flashstill.plan.deployment import Deployment
    from flashstill.simulate.knee import knee
    from flashstill.simulate.policy import Policy
    from flashstill.simulate.simulation import simulate
    from flashstill.simulate.traffic import Traffic

    facts, deployment, policy = load(), Deployment(chip=CHIP), Policy(replicas=REPLICAS)
    lengths: dict[str, Any] = {"isl": 512, "osl": 64, "least_ratio": 0.2}
    rate = 0.7 * knee(facts, MODEL, deployment, Traffic(rate=1.0, **lengths), policy).rate
    simulate(facts, MODEL, deployment, Traffic(rate=rate, requests=1000, **lengths), policy)
    begun = time.process_time()
    answer = simulate(facts, MODEL, deployment, Traffic(rate=rate, requests=requests, **lengths), policy)
    seconds = time.process_time() - begun
    assert answer.finished == requests
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"requests": requests, "seconds": round(seconds, 2), "peak_bytes": peak}))


def peer(trace: Path, runs: int) -> dict[str, Any]:
    """What the peer says of its replay of the same file, or why it was skipped."""
    try:
        script = HERE / "peers" / "dynamo_peer.py"
        found: dict[str, Any] = json.loads(last_line(environment(PEER), script, str(trace), str(REPLICAS), str(runs)))
    except (Unavailable, ValueError) as error:
        print(f"{PEER}: skipped, {error}", file=sys.stderr)
        return {"skipped": str(error)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=TRACE, help="arrival_s, input_tokens, output_tokens as CSV")
    parser.add_argument("--no-peers", action="store_true", help="time flashstill alone")
    parser.add_argument("--quick", action="store_true", help="one run each, and 10,000 requests for the memory")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    runs = 1 if options.quick else 5
    with tempfile.TemporaryDirectory() as folder:
        trace, told = options.trace, "azure_llm_2023_conv"
        if not trace.exists():
            trace, told = Path(folder) / "hour.csv", "synthetic, with the totals of azure_llm_2023_conv"
            synthetic_hour(trace)
            print(f"{options.trace} is absent; the hour is {told}", file=sys.stderr)
        elif trace != TRACE:
            told = trace.stem
        found: dict[str, Any] = {"trace": told, **hour(trace, runs)}
        theirs = {} if options.no_peers else {PEER: peer(trace, min(runs, 2))}
    lots = [many(count) for count in ((10_000,) if options.quick else (1_000_000, 10_000_000))]
    found |= {"peak_bytes": lots[-1]["peak_bytes"], "many": lots, "cores": os.cpu_count(), "peers": theirs}
    print(f"the hour: {found['azure_hour_s']:.2f} s, of which reading {found['reading_s']:.2f} s and events"
          f" {found['events_s']:.2f} s: {found['output_tokens_per_s']:,} output tokens/s", file=sys.stderr)  # fmt: skip
    for name, said in theirs.items():
        if "seconds" in said:
            print(
                f"{name}: {said['seconds']:.2f} s, {said['seconds'] / found['azure_hour_s']:.0f} times", file=sys.stderr
            )
    for each in lots:
        print(
            f"{each['requests']:,} requests: {each['seconds']:.1f} s, {each['peak_bytes'] / 1e6:,.0f} MB",
            file=sys.stderr,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
