#!/usr/bin/env python3
"""How fast `plan` prices configurations on one core, and what the peers need for one.

A configuration counts when it got time, energy, dollars and fit. Prints a table on stderr and one JSON line on
stdout: configurations_per_s, search_s, import_s, evaluated, priced, peers. Each peer lives in an environment of its
own, made on the first run; one that cannot be installed is skipped with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environments import Unavailable, environment, last_line

HERE = Path(__file__).resolve().parent
PEERS = {
    "aiconfigurator": ("aiconfigurator_peer.py", "aiconfigurator==0.12.0"),
    "genz-llm": ("genz_peer.py", "genz-llm==0.0.16"),
    "llm-analysis": ("llm_analysis_peer.py", "llm-analysis==0.2.2"),
}
MODEL = "qwen3-235b-a22b"
CHIPS = ("h100-sxm", "h200", "b200", "tpu-v5p", "tpu-v6e", "tpu-v7")
MAX_CHIPS = 256
PROMPT, ANSWER = 1024, 256


def pin() -> int | None:
    """Keep this process and those it starts on one core; None where the system cannot."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def import_seconds(runs: int) -> float:
    """Median seconds from start to exit of a fresh interpreter that imports the planner."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import flashstill.plan.search"], check=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def searches(runs: int, quick: bool) -> dict[str, float]:
    """One search over chip kind, count, tp x ep x pp x dp, batch, precision and placement, several times over."""
    from flashstill.facts import load
    from flashstill.plan.scenario import Scenario
    from flashstill.plan.search import search
    from flashstill.plan.space import SearchSpace

    facts = load()
    scenario = Scenario(model=MODEL, isl=PROMPT, osl=ANSWER)
    space = SearchSpace(
        chips=CHIPS[:2] if quick else CHIPS, max_chips=16 if quick else MAX_CHIPS, precisions=("published", "fp8"),
        batches=tuple(sorted({round(2 ** (step / 3)) for step in range(60)})),
    )  # fmt: skip
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        found = search(facts, scenario, space)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    return {
        "configurations_per_s": round(found.priced / median), "search_s": round(median, 4),
        "slowest_search_s": round(max(seconds), 4), "evaluated": found.evaluated, "priced": found.priced,
        "feasible": found.feasible, "front": len(found.front),
    }  # fmt: skip


def environments() -> dict[str, Path | str]:
    """The interpreter of each peer, or the reason why it cannot be had."""
    found: dict[str, Path | str] = {}
    for name in PEERS:
        try:
            found[name] = environment(name)
        except Unavailable as error:
            found[name] = str(error)
    return found


def peers(interpreters: dict[str, Path | str], configurations: int) -> dict[str, dict[str, Any]]:
    """What each peer says of itself: seconds per configuration, import seconds, model and machine; or why skipped."""
    said: dict[str, dict[str, Any]] = {}
    for name, python in interpreters.items():
        script, requirement = PEERS[name]
        try:
            if isinstance(python, str):
                raise Unavailable(python)
            said[name] = json.loads(last_line(python, HERE / "peers" / script, str(configurations)))
            said[name]["requirement"] = requirement
        except (Unavailable, ValueError) as error:
            print(f"{name}: skipped, {error}", file=sys.stderr)
            said[name] = {"skipped": str(error)}
    return said


def table(ours: dict[str, float], theirs: dict[str, dict[str, Any]]) -> str:
    """The comparison for people: one row a tool."""
    own = 1 / ours["configurations_per_s"]
    rows = [("flashstill", own, ours["import_s"], f"{MODEL}, {ours['priced']:,} configurations")]
    rows += [
        (name, peer["seconds_per_configuration"], peer["import_s"], f"{peer['model']}, {peer['machine']}")
        for name, peer in theirs.items()
        if "skipped" not in peer
    ]
    lines = [f"{'tool':<16}{'a configuration':>18}{'times ours':>14}{'import':>10}  of what"]
    for name, each, imported, what in rows:
        lines.append(f"{name:<16}{each * 1e6:>15,.2f} us{each / own:>13,.0f}x{imported:>8.2f} s  {what}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-peers", action="store_true", help="time flashstill alone")
    parser.add_argument("--quick", action="store_true", help="a small search, two configurations a peer: a smoke test")
    options = parser.parse_args()
    interpreters = {} if options.no_peers else environments()
    core = pin()
    theirs = peers(interpreters, 2 if options.quick else 12)
    ours = {"import_s": round(import_seconds(3 if options.quick else 9), 4)}
    ours |= searches(2 if options.quick else 9, options.quick)
    print(table(ours, theirs), file=sys.stderr)
    print(json.dumps(ours | {"one_core": core is not None, "peers": theirs}))


if __name__ == "__main__":
    main()
