"""Resolved deployments with a prefill pool as the pools of the cost model, and notes on what each pool does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flashstill.cost.disaggregated import Pools
from flashstill.parallel import Layout
from flashstill.plan.layouts import layout_of
from flashstill.plan.resolve import Resolved
from flashstill.units import show

NEARLY_ALL = 0.95
"""busy share of the prefill pool from which on it is said to limit the throughput"""


def pools_of(group: Sequence[Resolved], decode: Layout) -> Pools:
    """The pools of deployments that all have a prefill pool, as arrays. decode: the layouts of their decode pools."""
    degrees = [each.prefill for each in group if each.prefill is not None]
    instances = np.array([each.prefill_instances for each in group], dtype=np.float64)
    return Pools(prefill=layout_of(np.array(degrees, dtype=np.float64).T), instances=instances, decode=decode)


def pool_notes(resolved: Resolved, figures: Mapping[str, float]) -> list[str]:
    """Notes on what each pool does, and which of them limits the throughput."""
    assert resolved.prefill is not None
    busy, instances = figures["prefill_busy_share"], resolved.prefill_instances
    transfer = show(figures["kv_transfer_s"], "s")
    notes = [
        f"{instances} x {resolved.prefill.chips} chips prefill, {busy:.0%} of the time; {resolved.degrees.chips} chips"
        f" decode {figures['batch']:,.1f} requests at a time; the cache of a request travels {transfer}"
    ]
    if busy > NEARLY_ALL:
        notes.append("the prefill pool limits the throughput: more prefill_instances raise it")
    if figures["batch"] >= figures["sequences_fit"] * (1.0 - 1e-9):
        notes.append("the decode pool's memory is full: the others wait for their place in it")
    return notes
