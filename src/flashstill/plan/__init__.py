"""Scenarios on deployments, priced: explain is here; predictions, searches and grids are in modules of their own."""

from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import Explanation, explain
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario

__all__ = ["Deployment", "Explanation", "Resolved", "Scenario", "explain", "resolve"]
