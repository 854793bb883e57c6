"""A million draws of a decision about a chip, with Sobol indices: processor time of one core; and scipy's estimator.

    .venv/bin/python benchmarks/asic_speed.py            # half a minute
    .venv/bin/python benchmarks/asic_speed.py --draws 100000

The decision is a hard-wired chip for an 8B model against an H100 that is rented; all its fact rows are drawn.
`draws_s`: break-even, dollars per token on both sides, design cost and present value of every draw.
`sobol_s`: first and total indices and the tornado of every row.
`scipy_s`: scipy.stats.sobol_indices of a sum of as many inputs, from as many evaluations.
The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from flashstill.arch import load_architecture
from flashstill.asic.alternative import RENTED, options, within
from flashstill.asic.designing import design_chip, with_design
from flashstill.asic.point import best_point, candidates_of
from flashstill.asic.rows import deployment_of
from flashstill.asic.terms import Decision
from flashstill.asic.verdict import drivers_of, verdict
from flashstill.facts import load
from flashstill.plan.scenario import Scenario

VOLUME, SOBOL_DRAWS = 2e13, 2048


def decision() -> Decision:
    """The decision that is drawn."""
    facts, model = load(), load_architecture("llama-3.1-8b")
    scenario = Scenario(model=model)
    design = design_chip(facts, model, variant="hardwired", node="n5", name="own")
    facts = with_design(facts, design)
    found = candidates_of(facts, design, scenario, deployment_of(design))
    others = within(options(facts, scenario, ("h100-sxm",), (RENTED,)))
    return best_point(facts, design, scenario, found, others).decision


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of the best of three, and the result."""
    best, result = float("inf"), None
    for _ in range(3):
        started = time.process_time()
        result = work()
        best = min(best, time.process_time() - started)
    return best, result


def by_scipy(rows: int) -> Any:
    """scipy's indices of a sum of `rows` uniform inputs."""
    from scipy.stats import sobol_indices, uniform

    return sobol_indices(func=lambda x: x.sum(axis=0), n=SOBOL_DRAWS, dists=[uniform()] * rows, rng=0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=1_000_000)
    draws = parser.parse_args().draws
    asked = decision()
    draws_s, found = timed(lambda: verdict(asked, VOLUME, draws))
    sobol_s, rows = timed(lambda: drivers_of(asked, VOLUME))
    scipy_s, _ = timed(lambda: by_scipy(len(rows)))
    print(
        f"{draws:,} draws of {len(rows)} rows: {draws_s:.2f} s; Sobol indices {sobol_s:.2f} s; scipy's {scipy_s:.2f} s"
    )
    print(f"break-even {found.break_even}; first: {rows[0]['name']} {rows[0]['quantity']} {rows[0]['total']:.2f}")
    said = {
        "draws": draws,
        "rows": len(rows),
        "draws_s": draws_s,
        "sobol_s": sobol_s,
        "sobol_evaluations": SOBOL_DRAWS * (len(rows) + 2),
        "seconds": draws_s + sobol_s,
        "scipy_s": scipy_s,
        "sum_of_first": float(np.sum([row["first"] for row in rows])),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
