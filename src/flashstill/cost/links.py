"""Seconds and bytes of a collective: switched chips, tori with and without wrap-around, and two tiers.

One chip of n sends, of an array of V bytes:  all-reduce 2 V (n-1)/n, all-gather and reduce-scatter V (n-1)/n,
all-to-all v (n-1)/n of the v bytes that it holds.

    switch    ((floor + rank (n-1))^p + (sent / (link eff))^p)^(1/p), or one shot: floor + (n-1) V / (link eff)
    torus     k axes carry k shares: sent / (share of the links eff) and hops of the longest way, whichever is longer;
              an axis without wrap-around has half the bandwidth and twice the way (Austin et al. 2025, chapter 3)
    beyond the domain: each chip's share of the array also crosses the scale-out network, one node after the other

An all-to-all on a torus also pays for the way: a chip's bytes cross N_i/4 links of axis i on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.cost.kernels import blend
from flashstill.hardware import Chip
from flashstill.hardware.calibration import Calibration, Collective
from flashstill.parallel import Exchange
from flashstill.workload import Quantity

SCALE_OUT_HOP_S = 5e-6
_PASSES = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0, "send": 1.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkCost:
    """Seconds of one exchange, and the bytes that one chip sends inside and beyond the domain."""

    seconds: Quantity
    inside_bytes: Quantity
    beyond_bytes: Quantity


def sent_bytes(kind: str, size: Quantity, group: Quantity) -> Quantity:
    """Bytes that one chip sends; nothing for a group of one."""
    if kind == "send":
        return size
    return _PASSES[kind] * size * (group - 1.0) / group


def link_cost(chip: Chip, calibration: Calibration, exchange: Exchange, engine: str = "") -> LinkCost:
    """The cost of one exchange of a group of chips; some engines bring collectives of their own."""
    size = np.asarray(exchange.bytes, dtype=np.float64)
    group = np.asarray(exchange.group, dtype=np.float64)
    near = np.minimum(group, float(max(chip.domain, 1)))
    far = group / near
    inside = sent_bytes(exchange.kind, size, near)
    # After the sum inside, each chip of a domain carries 1/near of the array to the other domains.
    beyond = sent_bytes(exchange.kind, size / near, far)
    if exchange.kind == "all-to-all":
        beyond = size * (far - 1.0) / far
    if chip.torus_axes:
        seconds = _torus(chip, calibration, exchange.kind, inside, near)
    else:
        seconds = _switch(chip, calibration.collective(exchange.kind, engine), exchange.kind, size, inside, near)
    if np.any(far > 1):
        rate = chip.scale_out_bytes_per_s * calibration.link_efficiency
        over = beyond / rate if rate else np.inf
        waits = SCALE_OUT_HOP_S * np.ceil(np.log2(np.maximum(far, 1.0))) * (calibration.hop_s > 0)
        seconds = seconds + np.where(far > 1, over + waits * _PASSES[exchange.kind], 0.0)
    used = (group > 1) & (size > 0)
    return LinkCost(
        seconds=np.where(used, seconds, 0.0),
        inside_bytes=np.where(used, inside, 0.0),
        beyond_bytes=np.where(used, beyond, 0.0),
    )


def _switch(chip: Chip, collective: Collective, kind: str, size: Quantity, sent: Quantity, group: Quantity) -> Quantity:
    rate = chip.link_bytes_per_s or 1e-30
    floor_s = collective.floor_s + collective.rank_s * (group - 1.0)
    whole = blend(collective.blend, floor_s * np.ones_like(sent), sent / (rate * collective.efficiency))
    if kind != "all-reduce" or not collective.one_shot_efficiency:
        return whole
    first_s = collective.one_shot_floor_s + collective.one_shot_doubling_s * np.log2(group)
    return np.minimum(whole, first_s + (group - 1.0) * size / (rate * collective.one_shot_efficiency))


def torus_edges(chips: Quantity, axes: int) -> Quantity:
    """Edge of the most cubic slice of a torus, as a real number: chips^(1/axes)."""
    return np.asarray(chips, dtype=np.float64) ** (1.0 / axes)


def _torus(chip: Chip, calibration: Calibration, kind: str, sent: Quantity, group: Quantity) -> Quantity:
    axes = chip.torus_axes
    edge = torus_edges(group, axes)
    closed = edge + 1e-9 >= chip.wrap_edge
    # Half of the links of an axis are idle in a slice whose axis does not close.
    rate = chip.link_bytes_per_s * calibration.link_efficiency * np.where(closed, 1.0, 0.5)
    crossings = np.where(closed, edge / 2.0, edge - 1.0)
    hops = axes * crossings * _PASSES[kind]
    way = np.maximum(edge / 4.0 / np.where(closed, 1.0, 0.75), 1.0) if kind == "all-to-all" else 1.0
    return np.maximum(sent * way / rate, hops * calibration.hop_s)
