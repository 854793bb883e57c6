"""A scenario on a deployment as one flat row: the columns of a case file, and the options of `predict`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, NamedTuple

from flashstill.plan.deployment import Deployment
from flashstill.plan.scenario import Scenario

SCENARIO_FIELDS = {
    "model": "model",
    "isl": "isl",
    "osl": "osl",
    "concurrency": "batch",
    "chunk": "chunk",
    "batching_steps": "batching_steps",
    "burst_share": "burst_share",
    "cohort": "cohort",
    "cached_ratio": "cached_ratio",
    "isl_cv": "isl_cv",
    "osl_cv": "osl_cv",
    "draft": "draft",
    "draft_tokens": "draft_tokens",
    "acceptance": "acceptance",
    "acceptance_decay": "acceptance_decay",
    "measured_acceptance": "measured_acceptance",
}
"""column -> scenario field; a row describes serving and has no bounds"""
DEPLOYMENT_FIELDS = tuple(field.name for field in fields(Deployment))
CASE_FIELDS = (*(name for name in DEPLOYMENT_FIELDS if name != "chip"), "model", "chip", *list(SCENARIO_FIELDS)[1:])
_TYPES = {field.name: str(field.type) for field in (*fields(Scenario), *fields(Deployment))}
TYPES = {name: _TYPES[SCENARIO_FIELDS.get(name, name)] for name in CASE_FIELDS}
"""the type annotation of each column, as text"""


class Case(NamedTuple):
    """A scenario and the deployment it runs on."""

    scenario: Scenario
    deployment: Deployment

    @classmethod
    def of(cls, **columns: Any) -> Case:
        """A case from columns by name."""
        asked = {SCENARIO_FIELDS[name]: value for name, value in columns.items() if name in SCENARIO_FIELDS}
        used = {name: value for name, value in columns.items() if name not in SCENARIO_FIELDS}
        return cls(Scenario(**asked), Deployment(**used))

    def but(self, **columns: Any) -> Case:
        """A copy with other values in some columns."""
        asked = {SCENARIO_FIELDS[name]: value for name, value in columns.items() if name in SCENARIO_FIELDS}
        used = {name: value for name, value in columns.items() if name not in SCENARIO_FIELDS}
        return Case(replace(self.scenario, **asked), replace(self.deployment, **used))

    def columns(self) -> dict[str, Any]:
        """Columns by name, as `of` takes them; a model passed as an object appears by its name."""
        asked = {column: getattr(self.scenario, name) for column, name in SCENARIO_FIELDS.items()}
        used = {name: getattr(self.deployment, name) for name in DEPLOYMENT_FIELDS}
        row = {**used, **asked, "model": self.scenario.model_name}
        return {name: row[name] for name in CASE_FIELDS}
