"""Operations on chips -> seconds and joules."""

from flashstill.cost.fits import smallest_count
from flashstill.cost.step import LEVELS, StepCost, step_cost

__all__ = ["LEVELS", "StepCost", "smallest_count", "step_cost"]
