"""Where a design serves: the batch at which a machine of it breaks even soonest, priced as any chip by the cost arm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flashstill.asic.alternative import OWNED, Alternative
from flashstill.asic.design import HARDWIRED, ChipDesign
from flashstill.asic.terms import OURS, RATE, THEIRS, Decision, Serving
from flashstill.errors import InfeasiblePlan
from flashstill.facts import Fact, Facts
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import explain
from flashstill.plan.predict import outcomes, predict
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.plan.space import Configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A machine at one batch: its deployment with every default filled in, and what the cost arm predicts for it."""

    deployment: Deployment
    batch: int
    prediction: Prediction

    @property
    def chips(self) -> int:
        """Packages of the machine."""
        assert self.deployment.chips is not None  # resolved
        return self.deployment.chips

    @property
    def tokens_per_s_per_chip(self) -> float:
        """Output tokens a second of one package."""
        return (self.prediction.output_tokens_per_s or 0.0) / self.chips

    @property
    def watts_per_chip(self) -> float:
        """Watts that a package draws while it serves."""
        assert self.prediction.watts_per_chip is not None  # known of all that fits
        return self.prediction.watts_per_chip


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A decision with the machine and batch it is made for, its joules per token by level in a decode step, notes."""

    decision: Decision
    candidate: Candidate
    joules_per_token: dict[str, float]
    notes: tuple[str, ...]


def candidates_of(facts: Facts, design: ChipDesign, scenario: Scenario, machine: Deployment) -> tuple[Candidate, ...]:
    """One machine at every batch up to what it was sized for that fits and keeps the bounds.

    facts: with the design among its machines.  Raises InfeasiblePlan with counted reasons if there is none.
    """
    batches = sorted({*(2**power for power in range(design.concurrency.bit_length())), design.concurrency})
    cases = [Case(replace(scenario, batch=batch, draft=None), machine) for batch in batches]
    found, refused = [], Counter[str]()
    for batch, outcome in zip(batches, outcomes(facts, cases, OWNED), strict=True):
        if outcome.error is not None:
            raise outcome.error
        answer, used = outcome.prediction, outcome.deployment
        broken = (
            broken_bounds(scenario, answer.ttft_s, answer.tpot_s, answer.output_tokens_per_s) if answer.fits else {}
        )
        reasons = [answer.reason] if not answer.fits else [name for name, is_broken in broken.items() if is_broken]
        refused.update(reasons[:1])
        if not reasons:
            resolved = used if isinstance(used, Deployment) else used.deployment
            found.append(Candidate(deployment=resolved, batch=batch, prediction=answer))
    if not found:
        raise InfeasiblePlan(f"no batch of {design.name} keeps the bounds", dict(refused))
    return tuple(found)


def best_point(
    facts: Facts,
    design: ChipDesign,
    scenario: Scenario,
    candidates: Sequence[Candidate],
    alternatives: Sequence[Alternative],
    waiting: Alternative | None = None,
) -> Point:
    """The candidate with the lowest break-even; of those that never do, the one whose tokens cost least.

    It is compared with the alternative that costs least over the time in which the chip would serve.  waiting: what can
    be rented between the models of a hard-wired chip.
    facts: with the design among its machines.
    """
    serving = Serving(
        tokens_per_s=np.array([each.tokens_per_s_per_chip for each in candidates]),
        watts=np.array([each.watts_per_chip for each in candidates]),
    )
    trials = [
        Decision(
            facts=priced(facts, design, other, waiting),
            design=design,
            serving=serving,
            alternative=other,
            waiting=waiting,
        )
        for other in alternatives
    ]
    trial = min(trials, key=lambda one: float(np.min(one.programme(one.facts).alternative_present_usd)))
    terms = trial.programme(trial.facts)
    dollars = np.broadcast_to(terms.recurring_usd_per_million(np.inf), len(candidates))
    best = int(np.lexsort((dollars, np.broadcast_to(terms.break_even(), len(candidates))))[0])
    return _point(trial.facts, design, scenario, candidates[best], trial.alternative, waiting)


def priced(facts: Facts, design: ChipDesign, alternative: Alternative, waiting: Alternative | None = None) -> Facts:
    """The facts with the one price by which each alternative is paid, and predicted rates without a band."""
    rents = [] if waiting is None or alternative.rented else [waiting.row]
    return facts.with_rows(
        [alternative.row, *rents, _band(OURS, None, design.name), _band(THEIRS, None, alternative.chip)]
    )


def _point(
    facts: Facts,
    design: ChipDesign,
    scenario: Scenario,
    chosen: Candidate,
    alternative: Alternative,
    waiting: Alternative | None,
) -> Point:
    theirs = _prediction(facts, scenario, alternative.configuration)
    rows = [_band(OURS, chosen.prediction, design.name), _band(THEIRS, theirs, alternative.chip)]
    decision = Decision(
        facts=facts.with_rows(rows),
        design=design,
        serving=Serving(tokens_per_s=chosen.tokens_per_s_per_chip, watts=chosen.watts_per_chip),
        alternative=alternative,
        waiting=waiting,
    )
    at_once = max(1, int(min(chosen.batch, chosen.prediction.sequences_fit or chosen.batch)))  # the others wait
    step = explain(facts, replace(scenario, batch=at_once, draft=None), chosen.deployment, OWNED)
    notes = (*design.notes, *_between_models(decision), *chosen.prediction.note.split("; "))
    return Point(
        decision=decision,
        candidate=chosen,
        joules_per_token=step.joules_per_token,
        notes=tuple(dict.fromkeys(note for note in notes if note)),
    )


def _between_models(decision: Decision) -> tuple[str, ...]:
    """What a hard-wired chip's traffic is on between two models, where the alternative is bought."""
    if decision.design.variant != HARDWIRED or decision.alternative.rented:
        return ()
    if decision.waiting is None:
        return (
            "nothing can be rented while the chips of a next model are made: bought ones stand beside it all the time",
        )
    rented = decision.waiting
    return (
        f"while the chips of a next model are made, {rented.chip} is rented for its traffic, at"
        f" ${rented.usd_per_million:.3g} per million today",
    )


def _prediction(facts: Facts, scenario: Scenario, point: Configuration) -> Prediction:
    names = ("chip", "chips", "tp", "pp", "ep", "dp", "precision", "kv_precision", "weights_in", "kv_in", "engine")
    used = Deployment(**{name: getattr(point, name) for name in names})
    asked = replace(scenario, batch=point.batch, draft=None)
    return predict(facts, [Case(scenario=asked, deployment=used)], OWNED)[0]


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
