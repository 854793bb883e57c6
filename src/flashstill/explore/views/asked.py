"""From a state to what the engine is asked: a decode step, or serving requests, on a deployment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from flashstill.api import Deployment, Scenario
from flashstill.cost import LEVELS
from flashstill.errors import FlashstillError, InfeasiblePlan
from flashstill.explore.engine import Engine
from flashstill.explore.state import State
from flashstill.plan.case import Case

MOST_REASONS = 20
"""shown of what nothing can do"""
STEP_CONTROLS = (
    "model", "chip", "batch", "context", "chips", "precision", "kv_precision", "memory", "engine", "price", "set",
)  # fmt: skip
"""of views of one decode step"""
NEUTRAL = "far_sram"
"""the level that stays neutral, as there are eight colours: SRAM across the die takes least"""
COLOURS = {
    name.replace("_", " "): number for number, name in enumerate((name for name in LEVELS if name != NEUTRAL), start=1)
}
"""of the levels where joules go, the same in all charts"""


def step_case(engine: Engine, state: State, *, model: str | None = None, batch: int | None = None,
              context: int | None = None, **other: Any) -> Case:  # fmt: skip
    """One decode step of the state; other: fields of the deployment that differ from the state's."""
    scenario = Scenario(
        model=engine.model(model or state.model), batch=batch or state.batch, context=context or state.context
    )
    return Case(scenario, deployment_of(state, **other))


def serving_case(engine: Engine, state: State, **other: Any) -> Case:
    """Serving the state's requests; other: fields of the deployment that differ from the state's."""
    scenario = Scenario(model=engine.model(state.model), batch=state.batch, isl=state.isl, osl=state.osl)
    return Case(scenario, deployment_of(state, **other))


def deployment_of(state: State, **other: Any) -> Deployment:
    """The deployment that the state names."""
    fields = {
        "chip": state.chip, "chips": state.chips, "precision": state.precision, "kv_precision": state.kv_precision,
        "weights_in": state.memory, "kv_in": state.memory, "engine": state.engine,
    }  # fmt: skip
    return Deployment(**{**fields, **other})


def nothing(sentence: str, errors: Iterable[tuple[str, FlashstillError]]) -> FlashstillError:
    """What to raise where no part of a view has an answer; errors: what was tried, and why it failed.

    A mistake that all share is said as it is; else the reasons are counted under `sentence`.
    """
    pairs = list(errors)
    mistakes = [error for _, error in pairs if not isinstance(error, InfeasiblePlan)]
    if len(mistakes) == len(pairs):
        return mistakes[0]
    reasons = Counter(f"{tried}: {error}" for tried, error in pairs)
    return InfeasiblePlan(sentence, dict(reasons.most_common(MOST_REASONS)))


def in_words(amount: int, what: str) -> str:
    """1 chip, 8 chips."""
    return f"{amount:,} {what}{'' if amount == 1 else 's'}"
