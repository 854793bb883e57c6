"""How work is split over chips, and what the split sends over links."""

from flashstill.parallel.exchange import Exchange, Sharded
from flashstill.parallel.layout import FFN_LAYOUTS, Layout, check_layout, layout_reason
from flashstill.parallel.sharding import shard
from flashstill.parallel.training import RECOMPUTE, TrainingPlan, plan_reason

__all__ = [
    "FFN_LAYOUTS",
    "RECOMPUTE",
    "Exchange",
    "Layout",
    "Sharded",
    "TrainingPlan",
    "check_layout",
    "layout_reason",
    "plan_reason",
    "shard",
]
