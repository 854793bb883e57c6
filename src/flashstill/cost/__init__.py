"""Operations on chips -> seconds and joules."""

from flashstill.cost.conditions import Conditions, Precisions, make_conditions, precisions_of, uniform
from flashstill.cost.footprint import USABLE_SHARE, smallest_count
from flashstill.cost.phases import Speculation, mixed_step
from flashstill.cost.serving import Load, Serving, serve
from flashstill.cost.step import BOUNDS, LEVELS, StepCost, step_cost

__all__ = [
    "BOUNDS",
    "LEVELS",
    "USABLE_SHARE",
    "Conditions",
    "Load",
    "Precisions",
    "Serving",
    "Speculation",
    "StepCost",
    "make_conditions",
    "mixed_step",
    "precisions_of",
    "serve",
    "smallest_count",
    "step_cost",
    "uniform",
]
