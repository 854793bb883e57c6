"""Deployments priced: one explained in full here; predictions, searches and grids in modules of their own."""

from flashstill.plan.deployment import Deployment, deploy
from flashstill.plan.explain import Explanation, explain

__all__ = ["Deployment", "Explanation", "deploy", "explain"]
