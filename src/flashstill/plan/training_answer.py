"""The question and the answer of training: a step's workload; the step on a layout that fits, and totals of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashstill.arch import Architecture
from flashstill.cost import LEVELS, Conditions
from flashstill.cost.footprint import usable_bytes
from flashstill.cost.training import PARTS, TrainingCost
from flashstill.economics import (
    HourlyPrice,
    RunTotals,
    run_totals,
    usd_per_million_tokens,
)
from flashstill.parallel.training import TrainingPlan
from flashstill.plan.train_layouts import TrainingDegrees, TrainingDeployment
from flashstill.tables import Displayed, Table, cell, flat

FIGURES = (
    ("seconds", "one step, s"),
    ("tokens_per_s", "tokens/s"),
    ("mfu", "MFU"),
    ("watts_per_chip", "watts per chip"),
    ("wall_joules_per_token", "joules per token at the wall"),
    ("usd_per_million_tokens", "dollars per million tokens"),
    ("price_basis", "price"),
)
"""figures that a notebook shows first"""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingScenario:
    """The training workload.

    length: tokens of a sequence.  batch, microbatch: sequences per step, and per pass of one replica.
    tokens: of the whole run; None to price a single step only.
    """

    model: str | Architecture
    length: int
    batch: int
    microbatch: int = 1
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingAnswer(Displayed):
    """A training step on a layout that fits, and totals of a run of such steps.

    evaluated: layouts and recomputations tried.  reasons: number that cannot be built or do not fit, by reason.
    """

    scenario: TrainingScenario
    asked: TrainingDeployment
    model: Architecture
    conditions: Conditions
    degrees: TrainingDegrees
    plan: TrainingPlan
    cost: TrainingCost
    price: HourlyPrice
    evaluated: int
    reasons: dict[str, int]

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.scenario.batch * self.scenario.length

    @property
    def paid(self) -> HourlyPrice:
        """The price at the power of the step."""
        return self.price.at(float(self.cost.step.watts_per_chip))

    @property
    def run(self) -> RunTotals | None:
        """Totals of the whole run, if its tokens are given."""
        if self.scenario.tokens is None:
            return None
        seconds, joules = float(self.cost.seconds), float(self.cost.step.wall_joules)
        return run_totals(self.paid, self.degrees.chips, self.scenario.tokens, self.step_tokens, seconds, joules)

    def as_dict(self) -> dict[str, Any]:
        """The document of `predict --phase train --json`. Seconds, bytes, joules, dollars; rates as named."""
        cost, step, tokens = self.cost, self.cost.step, float(self.step_tokens)
        levels = {level: float(step.joules[level]) / tokens for level in LEVELS}
        usable = usable_bytes(self.conditions, self.conditions.chip.memory)
        return {
            "phase": "train",
            "fits": True,
            "model": self.model.name,
            "parameters": self.model.parameters,
            "chip": self.conditions.chip.name,
            "chips": self.degrees.chips,
            "layout": self.degrees._asdict(),
            "recompute": self.plan.recompute,
            "framework": self.conditions.software.name,
            "precision": self.asked.precision,
            "runs_in": self.conditions.chip.precision(self.conditions.precisions.linear),
            "batch": self.scenario.batch,
            "length": self.scenario.length,
            "microbatch": self.scenario.microbatch,
            "microbatches": float(self.plan.microbatches),
            "seconds": float(cost.seconds),
            "seconds_by": {part: float(cost.parts_s[part]) for part in PARTS},
            "tokens_per_s": float(cost.tokens_per_s) * self.degrees.chips,
            "tokens_per_s_per_chip": float(cost.tokens_per_s),
            "mfu": float(cost.mfu),
            "model_flops_per_s_per_chip": float(cost.model_flops_per_s),
            "hardware_flops_per_s_per_chip": float(cost.hardware_flops_per_s),
            "state_bytes": float(cost.state_bytes),
            "activation_bytes": float(cost.activation_bytes),
            "usable_bytes": usable,
            "joules_per_token": {**levels, "total": sum(levels.values())},
            "wall_joules_per_token": float(step.wall_joules) / tokens,
            "watts_per_chip": float(step.watts_per_chip),
            "usd_per_million_tokens": usd_per_million_tokens(
                self.paid, float(cost.seconds), float(self.degrees.chips), tokens
            ),
            "usd_per_chip_hour": self.paid.usd_per_hour,
            "price_basis": self.paid.basis,
            "run": None if self.run is None else self.run.as_dict(),
            "evaluated": self.evaluated,
            "reasons": self.reasons,
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row: nested names are joined, as in run_days; counted reasons are left out."""
        tree = self.as_dict()
        layout = tree.pop("layout")
        del tree["reasons"]
        return [flat({**tree, **layout})]

    def _table(self) -> Table:
        tree = self.as_dict()
        layout = " ".join(f"{name}{count}" for name, count in tree["layout"].items() if count > 1)
        title = f"training {tree['model']} on {tree['chips']} x {tree['chip']} ({layout or 'one chip'})"
        rows = [(told, cell(tree[name])) for name, told in FIGURES]
        rows += [(f"{part}, s", cell(seconds)) for part, seconds in tree["seconds_by"].items() if seconds]
        rows += [(f"run: {name}", cell(total)) for name, total in (tree["run"] or {}).items()]
        return Table(("", ""), rows, title)
