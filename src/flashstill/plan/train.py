"""Time, energy and dollars of training: one optimizer step on a layout, and a run of many steps.

step   cost/training.py on the given layout, or on the fastest that fits if degrees are left open
run    tokens / (batch x length) steps, summed in economics/training.py
MFU    FLOPs of the model by definition (attention over all pairs) / (time x chips x peak of the precision)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import LEVELS, Conditions, make_conditions, uniform
from flashstill.cost.footprint import usable_bytes
from flashstill.cost.training import PARTS, TrainingCost, train_step
from flashstill.economics import (
    RENTED,
    HourlyPrice,
    RunTotals,
    hourly_price,
    run_totals,
    usd_per_million_tokens,
)
from flashstill.errors import BadInput, InfeasiblePlan, check_counts, unknown
from flashstill.facts import Facts
from flashstill.hardware import Software, chip_from_facts, software_of
from flashstill.hardware.software import ALONE
from flashstill.parallel.training import RECOMPUTE, TrainingPlan
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.train_layouts import TrainingDegrees, TrainingDeployment, plan_of, training_layouts
from flashstill.tables import cell, flat, html_table
from flashstill.units import show

FRAMEWORKS = ("nemo", "megatron", "maxtext", ALONE)
PRECISIONS = ("bf16", "fp8")
_DEFAULT_FRAMEWORK = {"gpu": "nemo", "tpu": "maxtext"}
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
class TrainingAnswer:
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

    def _repr_html_(self) -> str:
        tree = self.as_dict()
        layout = " ".join(f"{name}{count}" for name, count in tree["layout"].items() if count > 1)
        title = f"training {tree['model']} on {tree['chips']} x {tree['chip']} ({layout or 'one chip'})"
        rows = [(told, cell(tree[name])) for name, told in FIGURES]
        rows += [(f"{part}, s", cell(seconds)) for part, seconds in tree["seconds_by"].items() if seconds]
        rows += [(f"run: {name}", cell(total)) for name, total in (tree["run"] or {}).items()]
        return html_table(("", ""), rows, title)


def predict_training(
    facts: Facts, scenario: TrainingScenario, asked: TrainingDeployment, price: str = RENTED
) -> TrainingAnswer:
    """Price a training step on the layout given, or on the fastest that fits if degrees are left open.

    Raises BadInput for invalid input, MissingFact for unknown names, InfeasiblePlan if no layout can be built or fits.
    """
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    _check(scenario, asked, model)
    chip = chip_from_facts(facts, asked.chip)
    if chip.wired:
        raise BadInput(f"{chip.name} has {chip.wired.model} in its wiring, where no weight can be trained")
    conditions = make_conditions(
        chip,
        uniform(asked.precision, "bf16"),
        software=_software(facts, asked.framework or _DEFAULT_FRAMEWORK.get(chip.chip_class, ALONE)),
        skew=facts.value("routing", "skew_exponent"),
    )
    size = (scenario.batch, scenario.length, scenario.microbatch)
    layouts, refused = training_layouts(model, chip, asked, *size)
    if not layouts:
        raise InfeasiblePlan(f"no layout of {model.name} that was asked for can be built", dict(refused))
    modes = [asked.recompute] if asked.recompute else list(RECOMPUTE)
    degrees, mode = _fastest(model, conditions, asked, layouts, modes, size, refused)
    plan = plan_of(degrees, asked, *size, mode)
    return TrainingAnswer(
        scenario=scenario,
        asked=asked,
        model=model,
        conditions=conditions,
        degrees=degrees,
        plan=plan,
        cost=train_step(model, conditions, plan, pue=facts.value("facility", "pue_ratio")),
        price=hourly_price(facts, chip.name, price),
        evaluated=len(layouts) * len(modes),
        reasons=dict(refused),
    )


def _software(facts: Facts, framework: str) -> Software:
    """Overheads of a framework; "none" hides as much of the collectives as any framework, so it is never slower."""
    software = software_of(facts, framework)
    if framework != ALONE:
        return software
    least = min(software_of(facts, name).collective_ratio for name in FRAMEWORKS)
    return replace(software, collective_ratio=least)


def _check(scenario: TrainingScenario, asked: TrainingDeployment, model: Architecture) -> None:
    check_counts({name: getattr(scenario, name) for name in ("length", "batch", "microbatch", "tokens")})
    if scenario.length > model.context:
        raise BadInput(
            f"sequences of {scenario.length} tokens are beyond the {model.context} tokens that {model.name} was made"
            " for; shorten them, or give the config.json of a model with a longer context"
        )
    if asked.precision not in PRECISIONS:
        raise BadInput(unknown("precision of training", asked.precision, PRECISIONS))
    if asked.framework is not None and asked.framework not in FRAMEWORKS:
        raise BadInput(unknown("training framework", asked.framework, FRAMEWORKS))
    if asked.recompute is not None and asked.recompute not in RECOMPUTE:
        raise BadInput(unknown("recomputation", asked.recompute, RECOMPUTE))


def _fastest(
    model: Architecture,
    conditions: Conditions,
    asked: TrainingDeployment,
    layouts: list[TrainingDegrees],
    modes: list[str],
    size: tuple[int, int, int],
    refused: Counter[str],
) -> tuple[TrainingDegrees, str]:
    """Layout and recomputation of the shortest step that fits; those that do not fit are counted in `refused`."""
    best: tuple[float, TrainingDegrees, str] | None = None
    least_bytes = np.inf
    for mode in modes:
        plan = plan_of(layouts, asked, *size, mode)
        cost = train_step(model, conditions, plan)
        seconds, fits = (np.broadcast_to(np.asarray(values), len(layouts)) for values in (cost.seconds, cost.fits))
        refused[NOT_FITTING] += int(np.count_nonzero(~fits))
        least_bytes = min(least_bytes, float(np.min(cost.state_bytes + cost.activation_bytes)))
        at = int(np.argmin(np.where(fits, seconds, np.inf)))
        if fits[at] and (best is None or seconds[at] < best[0]):
            best = float(seconds[at]), layouts[at], mode
    if not refused[NOT_FITTING]:
        del refused[NOT_FITTING]
    if best is None:
        usable = float(usable_bytes(conditions, conditions.chip.memory))
        raise InfeasiblePlan(
            f"training {model.name} on {layouts[0].chips} x {conditions.chip.name} needs at least"
            f" {show(least_bytes, 'B')} a chip, of which {show(usable, 'B')} can be used; take more chips or"
            " shorter sequences",
            dict(refused),
        )
    return best[1], best[2]
