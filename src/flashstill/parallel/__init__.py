"""How work is split over chips, and the traffic this causes; training is in modules of its own."""

from flashstill.parallel.balance import busiest_rank, popular_load
from flashstill.parallel.exchange import ROUNDS, Exchange, Sharded, sent_bytes
from flashstill.parallel.layout import FFN_LAYOUTS, Layout, Shared, layout_reason, least_redundant
from flashstill.parallel.sharding import copies, experts_last, shard, to_next_stages
from flashstill.parallel.shared import at_places, remembered

__all__ = [
    "FFN_LAYOUTS",
    "ROUNDS",
    "Exchange",
    "Layout",
    "Sharded",
    "Shared",
    "at_places",
    "busiest_rank",
    "copies",
    "experts_last",
    "layout_reason",
    "least_redundant",
    "popular_load",
    "remembered",
    "sent_bytes",
    "shard",
    "to_next_stages",
]
