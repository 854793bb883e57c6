"""Where a design serves: the layout and batch at which it breaks even soonest, priced as any chip by the cost arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flashstill.asic.alternative import OWNED, Alternative
from flashstill.asic.design import ChipDesign
from flashstill.asic.terms import OURS, RATE, THEIRS, Decision, Serving
from flashstill.facts import Fact, Facts
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import explain
from flashstill.plan.predict import predict
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A decision with the chip's configuration, its joules per token by level in a decode step, and the notes."""

    decision: Decision
    configuration: Configuration
    joules_per_token: dict[str, float]
    notes: tuple[str, ...]


def front_of(facts: Facts, design: ChipDesign, scenario: Scenario) -> tuple[Configuration, ...]:
    """Layouts and batches of one machine that keep the bounds; InfeasiblePlan with counted reasons if none does."""
    space = SearchSpace(
        chips=(design.name,),
        max_chips=design.chips,
        precisions=(design.precision,),
        kv_precisions=(design.kv_precision,),
    )
    return search(facts, scenario, space, OWNED).front


def best_point(
    facts: Facts,
    design: ChipDesign,
    scenario: Scenario,
    front: Sequence[Configuration],
    alternatives: Sequence[Alternative],
) -> Point:
    """The point of the front with the lowest break-even; of those that never do, the one that saves most.

    It is compared with the alternative that costs least over the time in which the chip would serve.
    facts: with the design among its machines.
    """
    rates = np.array([point.tokens_per_s_per_chip for point in front])
    watts = np.array([point.watts_per_chip for point in front])
    trials = [
        Decision(
            facts=priced(facts, design, alternative),
            design=design,
            serving=Serving(tokens_per_s=rates, watts=watts),
            alternative=alternative,
        )
        for alternative in alternatives
    ]
    trial = min(trials, key=lambda one: float(np.min(one.programme(one.facts).alternative_present_usd)))
    terms = trial.programme(trial.facts)
    volumes, worth = terms.break_even(), np.asarray(terms.saved_usd)
    best = int(np.lexsort((-worth, np.broadcast_to(volumes, worth.shape)))[0])
    return _point(trial.facts, design, scenario, front[best], trial.alternative)


def priced(facts: Facts, design: ChipDesign, alternative: Alternative) -> Facts:
    """The facts with the one price by which the alternative is paid, and predicted rates without a band."""
    return facts.with_rows([alternative.row, _band(OURS, None, design.name), _band(THEIRS, None, alternative.chip)])


def _point(
    facts: Facts, design: ChipDesign, scenario: Scenario, chosen: Configuration, alternative: Alternative
) -> Point:
    ours, theirs = (_prediction(facts, scenario, point) for point in (chosen, alternative.configuration))
    rows = [_band(OURS, ours, design.name), _band(THEIRS, theirs, alternative.chip)]
    decision = Decision(
        facts=facts.with_rows(rows),
        design=design,
        serving=Serving(tokens_per_s=chosen.tokens_per_s_per_chip, watts=chosen.watts_per_chip),
        alternative=alternative,
    )
    step = explain(facts, replace(scenario, batch=chosen.batch, draft=None), _deployment(chosen), OWNED)
    return Point(
        decision=decision,
        configuration=chosen,
        joules_per_token=step.joules_per_token,
        notes=tuple(filter(None, (*design.notes, *ours.note.split("; ")))),
    )


def _deployment(point: Configuration) -> Deployment:
    names = ("chip", "chips", "tp", "pp", "ep", "dp", "precision", "kv_precision", "weights_in", "kv_in", "engine")
    return Deployment(**{name: getattr(point, name) for name in names})


def _prediction(facts: Facts, scenario: Scenario, point: Configuration) -> Prediction:
    asked = replace(scenario, batch=point.batch, draft=None)
    return predict(facts, [Case(scenario=asked, deployment=_deployment(point))], OWNED)[0]


def _band(owner: str, prediction: Prediction | None, chip: str) -> Fact:
    """The 80 % band of a predicted rate as a row: its ends are taken as the ends of the range."""
    low = high = 1.0
    basis = "no band is known"
    if prediction is not None and prediction.output_tokens_per_s and prediction.output_tokens_per_s_low is not None:
        assert prediction.output_tokens_per_s_high is not None  # both ends or none
        low = min(prediction.output_tokens_per_s_low / prediction.output_tokens_per_s, 1.0)
        high = max(prediction.output_tokens_per_s_high / prediction.output_tokens_per_s, 1.0)
        basis = f"80 % band of the prediction for {chip}: {prediction.band_basis}"
    return Fact(
        name=owner, quantity=RATE, value=1.0, low=low, high=high, unit="1", per="chip", condition="", kind="estimate",
        source=basis, as_of="", note="",
    )  # fmt: skip
