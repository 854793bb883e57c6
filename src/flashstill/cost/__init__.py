"""Cost model: seconds and joules of operations on chips."""

from flashstill.cost.chip_work import BOUNDS, LEVELS
from flashstill.cost.conditions import Conditions, Precisions, in_gguf, make_conditions, precisions_of, uniform
from flashstill.cost.load import Load
from flashstill.cost.phases import mixed_step
from flashstill.cost.serving import Serving, serve
from flashstill.cost.speculation import Speculation
from flashstill.cost.step import StepCost, step_cost

__all__ = [
    "BOUNDS",
    "LEVELS",
    "Conditions",
    "Load",
    "Precisions",
    "Serving",
    "Speculation",
    "StepCost",
    "in_gguf",
    "make_conditions",
    "mixed_step",
    "precisions_of",
    "serve",
    "step_cost",
    "uniform",
]
