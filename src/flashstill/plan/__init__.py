"""Configurations priced: one explained in full here; predictions, searches and grids in modules of their own."""

from flashstill.plan.configuration import Configuration, configure
from flashstill.plan.explain import Explanation, explain

__all__ = ["Configuration", "Explanation", "configure", "explain"]
