"""How work is split over chips, and what the split sends over links."""

from flashstill.parallel.layout import Layout, check_layout, layout_reason
from flashstill.parallel.sharding import Exchange, Sharded, shard

__all__ = ["Exchange", "Layout", "Sharded", "check_layout", "layout_reason", "shard"]
