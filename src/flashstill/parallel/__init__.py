"""How work is split over chips, and what the split sends over links; training has a module of its own."""

from flashstill.parallel.exchange import Exchange, Sharded
from flashstill.parallel.layout import FFN_LAYOUTS, Layout, check_layout, layout_reason
from flashstill.parallel.sharding import shard

__all__ = [
    "FFN_LAYOUTS",
    "Exchange",
    "Layout",
    "Sharded",
    "check_layout",
    "layout_reason",
    "shard",
]
