#!/usr/bin/env python3
"""How fast `capacity` builds and solves plans on one core.

Plans of 5 products, 4 chip kinds and 3 runs: a day, a year by the hour at once (280,000 variables), the same in windows
of a week, and both with gangs. Processor seconds, as other work on the machine does not count in them. Prints a table
on stderr and one JSON line on stdout: for each plan variables, build_s, solve_s, gap, status.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import numpy as np

KINDS, PRODUCTS, RUNS = 4, 5, 3
DAY, WEEK, YEAR = 24, 168, 8760


def pin() -> None:
    """Keep this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def plan(hours: int, gangs: bool, seed: int = 0) -> dict[str, Any]:
    """A fleet at 60 % of what it could serve at the peak, with runs that take a fifth of all chip-hours."""
    draw = np.random.default_rng(seed)
    kinds = [f"kind{number}" for number in range(KINDS)]
    rates = [{kind: float(draw.uniform(500, 3000)) for kind in kinds} for _ in range(PRODUCTS)]
    counts = [int(count) for count in draw.integers(1000, 10_000, KINDS)]
    most = sum(count * np.mean([rate[kind] for rate in rates]) for count, kind in zip(counts, kinds, strict=True))
    shares = draw.dirichlet(np.full(PRODUCTS, 3.0))
    chips = [
        {"name": kind, "count": count, "usd_per_hour": 2.0 + number, "paid": "always" if number % 2 else "used"}
        for number, (kind, count) in enumerate(zip(kinds, counts, strict=True))
    ]
    products = [
        {
            "name": f"product{number}", "model": "llama-3.1-70b", "input_tokens": 1000, "output_tokens": 500,
            "peak_requests_per_s": float(shares[number] * most * 0.6 / 500), "shape": "day",
            "peak_hour": float(8 + 3 * number), "tokens_per_s_per_chip": rates[number], "growth_per_year": 1.2,
        }
        for number in range(PRODUCTS)
    ]  # fmt: skip
    runs = []
    for number in range(RUNS):
        work = sum(counts) * hours * 0.2 / RUNS
        usable = {kind: float(work * (1 + 0.3 * at)) for at, kind in enumerate(kinds) if (at + number) % 2 == 0}
        run: dict[str, Any] = {"name": f"run{number}", "chip_hours": usable, "deadline": hours * (0.6 + 0.2 * number)}
        if gangs:
            run |= {"gang": {kind: [500, 3000] for kind in usable}, "restart_hours": 0.5}
        runs.append(run)
    return {"horizon_hours": float(hours), "chips": chips, "products": products, "runs": runs}


def timed(hours: int, gangs: bool, rolling_hours: float | None) -> dict[str, Any]:
    """One plan: its size, and processor seconds to build and to solve it, reading and prices included."""
    from flashstill.capacity.problem import problem_of
    from flashstill.capacity.programme import programme_of
    from flashstill.capacity.reader import plan_of
    from flashstill.capacity.solve import Limits, solve
    from flashstill.facts import load

    facts, tree = load(), plan(hours, gangs)
    started = time.process_time()
    problem = problem_of(facts, plan_of(tree))
    programme = programme_of(problem)
    built = time.process_time()
    answer = solve(problem, Limits(rolling_hours=rolling_hours))
    return {
        "hours": hours, "gangs": gangs, "rolling_hours": rolling_hours, "variables": programme.columns.count,
        "build_s": built - started, "solve_s": time.process_time() - built, "gap": answer.gap, "status": answer.status,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="days and weeks alone")
    quick = parser.parse_args().quick
    pin()
    timed(DAY, False, None)  # imports and the solver's first call
    cases = [(DAY, False, None), (DAY, True, None), (WEEK, False, None), (WEEK, False, float(DAY))]
    cases += [] if quick else [(YEAR, False, None), (YEAR, False, float(WEEK)), (YEAR, True, None)]
    rows = []
    print("hours  gangs  windows  variables  build, s  solve, s  gap", file=sys.stderr)
    for hours, gangs, rolling in cases:
        rows.append(row := timed(hours, gangs, rolling))
        gap = "none" if row["gap"] is None else f"{row['gap']:.2%}"
        print(
            f"{hours:5}  {'yes' if gangs else 'no':>5}  {rolling or 0:7g}  {row['variables']:9,}  {row['build_s']:8.3f}"
            f"  {row['solve_s']:8.3f}  {gap} {row['status']}",
            file=sys.stderr,
        )
    print(json.dumps({"plans": rows}))


if __name__ == "__main__":
    main()
