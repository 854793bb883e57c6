"""Operations on chips -> seconds and joules."""

from flashstill.cost.fits import USABLE_SHARE, smallest_count
from flashstill.cost.passes import Speculation
from flashstill.cost.serving import Load, Serving, serve
from flashstill.cost.setting import Precisions, Setting, precisions_of, setting, uniform
from flashstill.cost.step import BOUNDS, LEVELS, Ledger, StepCost, step_cost

__all__ = [
    "BOUNDS",
    "LEVELS",
    "USABLE_SHARE",
    "Ledger",
    "Load",
    "Precisions",
    "Serving",
    "Setting",
    "Speculation",
    "StepCost",
    "precisions_of",
    "serve",
    "setting",
    "smallest_count",
    "step_cost",
    "uniform",
]
