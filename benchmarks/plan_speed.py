#!/usr/bin/env python3
"""How fast `plan` prices configurations on one core, and what the peers need for one.

A configuration counts when it got time, energy, dollars and fit. Prints a table on stderr and one JSON line on
stdout: configurations_per_s, search_s, import_s, evaluated, priced, peers. Seconds are processor seconds, the least of
several. Each peer lives in an environment of its own, made on the first run; one that cannot be installed is skipped
with the reason. --beside DIR: another tree's `src`, measured in turns with this one, whose answers must be the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from environments import Unavailable, environment, last_line
from plan_rounds import MODEL

HERE = Path(__file__).resolve().parent
PEERS = {
    "aiconfigurator": ("aiconfigurator_peer.py", "aiconfigurator==0.12.0"),
    "genz-llm": ("genz_peer.py", "genz-llm==0.0.16"),
    "llm-analysis": ("llm_analysis_peer.py", "llm-analysis==0.2.2"),
}
ROUNDS = 3
"""turns of each tree"""


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


def rounds(sources: list[Path], runs: int, quick: bool) -> list[dict[str, Any]]:
    """What each tree took and answered, in turns: the seconds of all rounds, the answers of the last."""
    said: list[dict[str, Any]] = [{} for _ in sources]
    for _ in range(1 if quick else ROUNDS):
        for place, source in enumerate(sources):
            command = [sys.executable, str(HERE / "plan_rounds.py"), str(runs), *(["--quick"] if quick else [])]
            environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
            ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            one = json.loads(ran.stdout.splitlines()[-1])
            for name in ("pricing_s", "search_s"):
                one[name] += said[place].get(name, [])
            said[place] = one
    return said


def figures(one: dict[str, Any]) -> dict[str, float]:
    """The figures of one tree."""
    pricing_s, search_s = min(one["pricing_s"]), min(one["search_s"])
    return {
        "configurations_per_s": round(one["configurations"] / pricing_s), "pricing_s": round(pricing_s, 4),
        "search_s": round(search_s, 4), "slowest_search_s": round(max(one["search_s"]), 4),
        "evaluated_per_s": round(one["evaluated"] / search_s), "configurations": one["configurations"],
        "evaluated": one["evaluated"], "priced": one["priced"], "feasible": one["feasible"],
        "front": len(one["front"]),
    }  # fmt: skip


def differences(one: Any, other: Any, place: str = "") -> list[str]:
    """Where two answers differ: numbers by more than a billionth of themselves, anything else at all."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for name in one for found in differences(one[name], other[name], f"{place}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [found for at, each in enumerate(one) for found in differences(each, other[at], f"{place}[{at}]")]
    numbers = isinstance(one, float | int) and isinstance(other, float | int)
    same = math.isclose(one, other, rel_tol=1e-9) if numbers else one == other
    return [] if same else [f"{place[1:]}: {one!r} and {other!r}"]


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """The other tree's figures, how many times faster this one is, and the first differences of their answers."""
    mine, other = figures(ours), figures(theirs)
    first, second = (
        {name: one[name] for name in ("evaluated", "feasible", "infeasible", "front")} for one in (ours, theirs)
    )
    return {
        "beside": other,
        "times_pricing": round(other["pricing_s"] / mine["pricing_s"], 2),
        "times_search": round(other["search_s"] / mine["search_s"], 2),
        "differences": differences(first, second)[:10],
    }


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
    rows = [("flashstill", own, ours["import_s"], f"{MODEL}, {ours['configurations']:,} configurations")]
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
    parser.add_argument("--beside", type=Path, help="the src directory of another tree, measured in turns")
    parser.add_argument("--quick", action="store_true", help="a small search, two configurations a peer: a smoke test")
    options = parser.parse_args()
    interpreters = {} if options.no_peers else environments()
    core = pin()
    theirs = peers(interpreters, 2 if options.quick else 12)
    ours: dict[str, Any] = {"import_s": round(import_seconds(3 if options.quick else 9), 4)}
    trees = [HERE.parent / "src", *([options.beside] if options.beside else [])]
    said = rounds(trees, 2 if options.quick else 5, options.quick)
    ours |= figures(said[0])
    print(table(ours, theirs), file=sys.stderr)
    besides = compared(*said) if options.beside else {}
    print(json.dumps(ours | besides | {"one_core": core is not None, "peers": theirs}))


if __name__ == "__main__":
    main()
