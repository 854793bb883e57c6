""" "Training finishes by" against "users served": the same fleet with a share of all demand.

For each share of the requests, all runs finish as early as they can (the objective "training") with that demand served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flashstill.capacity.problem import Problem
from flashstill.capacity.solve import Limits, solve

Told = Callable[[str], None]


def frontier_of(problem: Problem, shares: Sequence[float], limits: Limits, told: Told) -> tuple[dict[str, Any], ...]:
    """One point for each share: when each run finishes, and the last of them; None where it does not."""
    points = []
    for number, share in enumerate(sorted(shares)):
        told(f"frontier: point {number + 1} of {len(shares)}, {share:.0%} of the demand")
        scaled = replace(
            problem,
            plan=replace(problem.plan, objective="training"),
            demand=share * problem.demand,
            requests=share * problem.requests,
            window=problem.open,
        )
        found = solve(scaled, limits, told, with_duals=False)
        unserved = float(found.relaxed.unserved.sum())
        owed = float(problem.demand.sum())
        points.append(
            {
                "served_ratio": share if owed <= 0.0 else share - unserved / owed,
                "peak_requests_per_s": float(scaled.requests.sum(axis=0).max(initial=0.0)),
                "finishes": {run.name: hour for run, hour in zip(problem.plan.trainings, found.finishes, strict=True)},
                "all_finish": None if None in found.finishes else float(np.max([*found.finishes, 0.0])),
            }
        )
    return tuple(points)
