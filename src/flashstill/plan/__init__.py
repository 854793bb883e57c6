"""Configurations priced: one explained in full, or a grid of them as CostRecords."""

from flashstill.plan.configuration import Configuration, configure
from flashstill.plan.explain import Explanation, explain
from flashstill.plan.grid import price_grid

__all__ = ["Configuration", "Explanation", "configure", "explain", "price_grid"]
