"""Time, energy and dollars of training: one optimizer step on a layout, and a run of many steps.

step   cost/training.py on the given layout, or on the fastest that fits if degrees are left open
run    tokens / (batch x length) steps, summed in economics/training.py
MFU    FLOPs of the model by definition (attention over all pairs) / (time x chips x peak of the precision)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions, make_conditions, uniform
from flashstill.cost.footprint import usable_bytes
from flashstill.cost.training import train_step
from flashstill.economics import (
    RENTED,
    hourly_price,
)
from flashstill.errors import BadInput, InfeasiblePlan, check_counts, unknown
from flashstill.facts import Facts
from flashstill.hardware import Software, chip_from_facts, software_of
from flashstill.hardware.software import ALONE
from flashstill.parallel.training import RECOMPUTE
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.train_layouts import TrainingDegrees, TrainingDeployment, plan_of, training_layouts
from flashstill.plan.training_answer import TrainingAnswer, TrainingScenario
from flashstill.units import show

FRAMEWORKS = ("nemo", "megatron", "maxtext", "pytorch", ALONE)
PRECISIONS = ("bf16", "fp8")
_DEFAULT_FRAMEWORK = {"gpu": "nemo", "tpu": "maxtext"}


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
