"""How work is split over chips, and what the split sends over links."""

from flashstill.parallel.tensor import Shard, all_reduce_bytes, all_reduce_hops, shard

__all__ = ["Shard", "all_reduce_bytes", "all_reduce_hops", "shard"]
