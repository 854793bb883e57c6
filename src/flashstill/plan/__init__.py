"""Pricing of scenarios on deployments. Exports `explain`; predictions, searches and grids are in submodules."""

from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import Explanation, explain
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario

__all__ = ["Deployment", "Explanation", "Resolved", "Scenario", "explain", "resolve"]
