"""The answer to a capacity plan: who gets which chips when, what binds, and what cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flashstill.capacity.curves import Values
from flashstill.capacity.gangs import Gangs
from flashstill.capacity.problem import Problem
from flashstill.capacity.relaxed import Relaxed
from flashstill.tables import Displayed, Table, cell

DIGITS = 9
"""significant digits of numbers in lists"""


@dataclass(frozen=True, kw_only=True, slots=True)
class CapacityAnswer(Displayed):
    """An allocation of chips by kind and step.

    status: optimal (within 0.01 % of the bound), feasible (gangs of whole sizes, within `gap`), or infeasible: not all
    that was asked for, with `violations`.  cost, bound: dollars (hours with the objective "training"); no plan costs
    less than the bound (None beside violations).  finishes: hour of each run, or None.  seconds: to build and solve.
    """

    problem: Problem
    status: str
    method: str
    relaxed: Relaxed
    finishes: tuple[float | None, ...]
    gangs: Gangs | None
    missing: Values
    cost: float
    bound: float | None
    gap: float | None
    duals: dict[str, Any] | None
    violations: tuple[dict[str, Any], ...]
    seconds: float
    notes: tuple[str, ...]
    frontier: tuple[dict[str, Any], ...] | None = None

    @property
    def feasible(self) -> bool:
        """Whether all demand and all deadlines are kept."""
        return self.status != "infeasible"

    @property
    def reasons(self) -> dict[str, int]:
        """What cannot be kept, counted by product or run."""
        counted: dict[str, int] = {}
        for one in self.violations:
            name = f"demand of {one['product']}" if one["kind"] == "demand" else f"deadline of {one['run']}"
            counted[name] = counted.get(name, 0) + 1
        return counted

    def allocation(self) -> dict[str, Any]:
        """Chips by kind and step: available, each product, each run, idle; and tokens owed and served by product."""
        problem, found = self.problem, self.relaxed
        plan, idle = problem.plan, found.idle(problem)
        return {
            "step_hours": problem.step_hours,
            "hours": _listed(problem.starts),
            "kinds": {
                kind.name: {
                    "available": _listed(problem.available[k]),
                    "products": {each.name: _listed(found.serving[k, p]) for p, each in enumerate(plan.products)
                                 if problem.rate[k, p].any()},
                    "runs": {run.name: _listed(found.trained[k, r]) for r, run in enumerate(plan.trainings)
                             if problem.speed[k, r] > 0.0},
                    "idle": _listed(idle[k]),
                }
                for k, kind in enumerate(plan.chips)
            },
            "products": {
                each.name: {
                    "owed_tokens_per_s": _listed(problem.demand[p]),
                    "served_tokens_per_s": _listed(problem.demand[p] - found.unserved[p]),
                }
                for p, each in enumerate(plan.products)
            },
        }  # fmt: skip

    def chip_hours(self) -> list[dict[str, Any]]:
        """Chip-hours of each kind by who has them, over the whole horizon."""
        problem, found, rows = self.problem, self.relaxed, []
        hours = problem.step_hours * problem.weight
        for k, kind in enumerate(problem.plan.chips):
            names = [
                *(each.name for each in problem.plan.products),
                *(run.name for run in problem.plan.trainings),
                "idle",
            ]
            chips = [*found.serving[k], *found.trained[k], found.idle(problem)[k]]
            total = float(problem.available[k] @ hours)
            for name, series in zip(names, chips, strict=True):
                used = float(series @ hours)
                if used > 0.0:
                    rows.append({"chip": kind.name, "for": name, "chip_hours": used, "ratio": used / total})
        return rows

    def training_finishes(self) -> list[dict[str, Any]]:
        """Each run: its deadline, when it finishes (None: not in the plan), and its gang."""
        found = []
        for place, (run, hour) in enumerate(zip(self.problem.plan.trainings, self.finishes, strict=True)):
            chips = self.relaxed.trained[:, place]
            most = chips.sum(axis=0)
            found.append(
                {
                    "run": run.name,
                    "deadline": run.deadline,
                    "finishes": hour,
                    "spare_hours": None if hour is None else run.deadline - hour,
                    "teacher": run.teacher or None,
                    "most_chips": float(most.max(initial=0.0)),
                    "restarts": self._restarts(place),
                    "missing_chip_hours": float(self.missing[place]),
                }
            )
        return found

    def _restarts(self, run: int) -> int:
        """How often the gang began, moved or changed its size."""
        if self.gangs is None or not self.problem.gangs[run]:
            return 0
        sizes = self.gangs.sizes[:, run]
        before = np.concatenate([np.zeros_like(sizes[:, :1]), sizes[:, :-1]], axis=1)
        return int(((sizes > 0.0) & (np.abs(sizes - before) > 1e-6 * np.maximum(sizes, 1.0))).any(axis=0).sum())

    def as_dict(self) -> dict[str, Any]:
        """The document of `capacity --json`."""
        unit = "hours" if self.problem.plan.objective == "training" else "usd"
        return {
            "status": self.status,
            "seconds": self.seconds,
            "objective": self.problem.plan.objective,
            "method": self.method,
            f"cost_{unit}": self.cost,
            f"bound_{unit}": self.bound,
            "gap": self.gap,
            "fits": self.feasible,
            "allocation": self.allocation(),
            "chip_hours": self.chip_hours(),
            "training_finishes": self.training_finishes(),
            "duals": self.duals,
            "violations": list(self.violations),
            "frontier": None if self.frontier is None else list(self.frontier),
            "notes": list(self.notes),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row for each kind, step and who has the chips."""
        tree, rows = self.allocation(), []
        for kind, table in tree["kinds"].items():
            series = {**table["products"], **table["runs"], "idle": table["idle"]}
            for name, chips in series.items():
                rows += [
                    {"chip": kind, "for": name, "hour": hour, "chips": count}
                    for hour, count in zip(tree["hours"], chips, strict=True)
                ]
        return rows

    def _table(self) -> Table:
        rows = [[cell(value) for value in row.values()] for row in self.chip_hours()]
        return Table(("chip", "for", "chip-hours", "share"), rows, f"capacity: {self.status}")


def _listed(values: Values) -> list[float]:
    """A list of numbers without the last bits of rounding."""
    return [float(f"{value:.{DIGITS}g}") for value in values]
