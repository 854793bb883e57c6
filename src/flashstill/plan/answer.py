"""A prediction together with its question: the return value of the Python interface."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from flashstill.errors import FlashstillError, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.acceptance import record_beside
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.predict import Outcome, outcomes
from flashstill.plan.prediction import PREDICTION_FIELDS, Prediction
from flashstill.plan.scenario import Scenario, broken_bounds, check_bounds
from flashstill.tables import Displayed, Table, cell

FIGURES = (
    ("ttft_s", "time to first token, s"),
    ("tpot_s", "time per output token, s"),
    ("output_tokens_per_s", "output tokens/s"),
    ("joules_per_output_token", "joules per output token, chips only"),
    ("watts_per_chip", "watts per chip"),
    ("usd_per_million_output_tokens", "dollars per million output tokens"),
    ("bound", "bound by"),
    ("price_basis", "price"),
    ("note", "notes"),
)
PREDICTED = (
    "model", "chip", "chips", "tp", "pp", "batch", "isl", "osl", "tpot_s", "ttft_s", "output_tokens_per_s",
    "joules_per_output_token", "usd_per_million_output_tokens", "bound", "reason",
)  # fmt: skip
"""columns of a sweep of answers that a notebook displays"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer(Displayed, Prediction):
    """A prediction with its scenario and its deployment, with all defaults filled in."""

    scenario: Scenario
    deployment: Deployment

    @property
    def broken_bounds(self) -> tuple[str, ...]:
        """The scenario's bounds that the prediction violates."""
        broken = broken_bounds(self.scenario, self.ttft_s, self.tpot_s, self.output_tokens_per_s)
        return tuple(reason for reason, is_broken in broken.items() if is_broken)

    def as_dict(self) -> dict[str, Any]:
        """The question's fields and the predicted figures, by name."""
        return {"question": question_of(self.scenario, self.deployment), **self.figures()}

    def figures(self) -> dict[str, Any]:
        """The predicted figures as `predict --json` prints them."""
        return {name: getattr(self, name) for name in PREDICTION_FIELDS}

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row: the question's fields, the predicted figures, and whether all bounds are kept."""
        question = question_of(self.scenario, self.deployment)
        return [{**question, **self.figures(), "within_bounds": not self.broken_bounds}]

    def columns(self) -> dict[str, Any]:
        """The question's fields, by the names of the options of `predict`."""
        return Case(self.scenario, self.deployment).columns()

    def _table(self) -> Table:
        used, asked = self.deployment, self.scenario
        title = f"{asked.model_name} on {used.chips} x {used.chip}, {asked.isl} tokens in, {asked.osl} out, "
        rows = [(label, cell(getattr(self, name))) for name, label in FIGURES if getattr(self, name) not in (None, "")]
        return Table(("", ""), rows, f"{title}batch {asked.batch}")


class NotFitting(InfeasiblePlan):
    """The deployment's memory does not hold a single request. answer: the figures that are known anyway."""

    def __init__(self, answer: Answer) -> None:
        used = answer.deployment
        where = f"{answer.scenario.model_name} on {used.chips} x {used.chip}"
        super().__init__(f"{where}: {answer.reason}", {answer.reason: 1})
        self.answer = answer


def question_of(scenario: Scenario, deployment: Deployment) -> dict[str, Any]:
    """Fields of scenario and deployment in one dict; a model passed as an object appears by its name."""
    asked = {name: value for name, value in _plain(scenario).items() if name != "context" or value is not None}
    return {"model": scenario.model_name, **asdict(deployment), **asked}


def _plain(scenario: Scenario) -> dict[str, Any]:
    return {name: getattr(scenario, name) for name in Scenario.__dataclass_fields__ if name != "model"}


def answers(facts: Facts, cases: list[Case], price: str) -> list[Answer | FlashstillError]:
    """One answer per case, or the error that explains why there is none."""
    for scenario in {id(case.scenario): case.scenario for case in cases}.values():
        check_bounds(scenario)
    return [_answer(case, outcome) for case, outcome in zip(cases, outcomes(facts, cases, price), strict=True)]


def _answer(case: Case, outcome: Outcome) -> Answer | FlashstillError:
    prediction = outcome.prediction
    if outcome.error is not None:
        return outcome.error
    used = outcome.deployment if isinstance(outcome.deployment, Deployment) else outcome.deployment.deployment
    answer = Answer(scenario=_told(case.scenario), deployment=used, **prediction.as_dict())
    return answer if answer.fits else NotFitting(answer)


def _told(scenario: Scenario) -> Scenario:
    """The scenario with the records that were found beside its draft: its own rate did not count."""
    if scenario.draft is None or scenario.measured_acceptance is not None:
        return scenario
    found = record_beside(scenario.draft)
    return scenario if found is None else replace(scenario, measured_acceptance=str(found))
