"""Seconds and bytes of a collective on switch-connected chips, on tori with and without wrap-around, across domains.

Each of n chips sends, for an array of V bytes:  all-reduce 2 V (n-1)/n, all-gather and reduce-scatter V (n-1)/n,
all-to-all v (n-1)/n of the v bytes that it holds.

    switch    ((floor + rank (n-1))^p + (sent / (link eff))^p)^(1/p), or one shot: floor + (n-1) V / (link eff)
    torus     floor + rank (n-1) + max(hops t_hop, V (n-1)/n / (links w eff)), the last term twice for an all-reduce;
              all-to-all with v cross / (w eff) in it; links, hops and cross as in hardware/topology/torus.py
    beyond the domain: a hierarchical collective of the library (an engine's own all-reduce reaches no other domain)
              adds, for each chip's share of the array,  sent / (scale-out rate eff) + ceil(log2 domains) scale-out hops
              (twice for an all-reduce), as in NCCL's model of its trees; the messages of an all-to-all go to all
              chips at once:  max(within the domain, floor + sent / (scale-out rate eff)) + one hop

A send between neighbours of a torus uses one link; a send through a switch uses all links of the chip.  Chips that are
fully connected without a switch use the links that lead to the group's other chips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from flashstill.cost.timing import blend
from flashstill.hardware import Chip
from flashstill.hardware.calibration import Calibration, Collective
from flashstill.hardware.present import either
from flashstill.parallel import ROUNDS, Exchange, sent_bytes
from flashstill.workload import Quantity, is_any

MANY, SPARSE = 256, 0.9
"""exchanges of which those that send nothing are left out, if at most this share of them sends anything"""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkCost:
    """Seconds of one exchange, and the bytes each chip sends within its fast-link domain and beyond it."""

    seconds: Quantity
    inside_bytes: Quantity
    beyond_bytes: Quantity


def link_cost(chip: Chip, calibration: Calibration, exchange: Exchange, engine: str = "") -> LinkCost:
    """The cost of one exchange. engine: name of an engine whose own collectives are used where it has them."""
    size = np.asarray(exchange.bytes, dtype=np.float64)
    group = np.asarray(exchange.group, dtype=np.float64)
    used = (group > 1) & (size > 0)
    if used.ndim and used.shape[-1] >= MANY:
        places = np.flatnonzero(used.any(axis=tuple(range(used.ndim - 1))))
        if len(places) < SPARSE * used.shape[-1]:
            return _where_used(chip, calibration, exchange, engine, used, places)
    return _cost(chip, calibration, exchange, engine, used)


def _where_used(
    chip: Chip,
    calibration: Calibration,
    exchange: Exchange,
    engine: str,
    used: npt.NDArray[np.bool_],
    places: npt.NDArray[np.intp],
) -> LinkCost:
    """The cost of the exchanges at these places of the last axis, and zeros for the others, which send nothing."""

    def taken(quantity: Quantity) -> Quantity:
        alike = np.ndim(quantity) == 0 or np.shape(quantity)[-1] == 1
        return quantity if alike else np.take(quantity, places, axis=-1)

    def put(quantity: Quantity) -> Quantity:
        every = np.zeros((*np.shape(quantity)[:-1], used.shape[-1]))
        every[..., places] = quantity
        return every

    some = replace(
        exchange, bytes=taken(exchange.bytes), group=taken(exchange.group), stride=taken(exchange.stride),
        slice_chips=taken(exchange.slice_chips),
    )  # fmt: skip
    cost = _cost(chip, calibration, some, engine, used[..., places])
    return LinkCost(seconds=put(cost.seconds), inside_bytes=put(cost.inside_bytes), beyond_bytes=put(cost.beyond_bytes))


def _cost(
    chip: Chip, calibration: Calibration, exchange: Exchange, engine: str, used: npt.NDArray[np.bool_]
) -> LinkCost:
    """The cost of an exchange; 0 where it is not used."""
    kind = exchange.kind
    size = np.asarray(exchange.bytes, dtype=np.float64)
    group = np.asarray(exchange.group, dtype=np.float64)
    stride = np.asarray(exchange.stride, dtype=np.float64)
    near = np.asarray(chip.system.near(group, stride, exchange.slice_chips))
    far = group / near
    inside = sent_bytes(kind, size, near)
    # Within a domain the array is scattered over its chips: each exchanges 1/near of it with other domains.
    beyond = sent_bytes(kind, size if kind == "all-to-all" else size / near, far)
    collective = calibration.collective(kind, engine)

    def torus() -> Quantity:
        whole: Quantity = 0.0  # the group and its strides
        if is_any(np.asarray(exchange.slice_chips) > 0):
            joined = chip.system.joined(exchange.slice_chips)
            whole = np.where(np.asarray(exchange.slice_chips) > 0, joined, near * stride)
        return _torus(chip, calibration, collective, kind, size, inside, near, stride, whole)

    seconds = either(chip.topology.axes, torus, partial(_switch, chip, collective, kind, size, inside, near))
    if is_any(far > 1):
        between = collective if kind == "all-to-all" else calibration.collective(kind)
        within = seconds
        if between is not collective:
            switched = partial(_switch, chip, between, kind, size, inside, near)
            within = either(chip.topology.axes, lambda: seconds, switched)
        floor_s = either(between.measured, lambda: between.floor_s, lambda: 0.0)
        rate = chip.system.scale_out_bytes_per_s * calibration.scale_out_efficiency
        over = either(rate, lambda: beyond / rate, lambda: np.inf)
        if kind == "all-to-all":
            across = np.maximum(np.where(near > 1, within, 0.0), floor_s + over) + calibration.scale_out_hop_s
        else:
            hops = ROUNDS[kind] * np.ceil(np.log2(np.maximum(far, 1.0)))
            across = np.where(near > 1, within, floor_s) + over + calibration.scale_out_hop_s * hops
        seconds = np.where(far > 1, across, seconds)
    return LinkCost(
        seconds=np.where(used, seconds, 0.0),
        inside_bytes=np.where(used, inside, 0.0),
        beyond_bytes=np.where(used, beyond, 0.0),
    )


def _switch(chip: Chip, collective: Collective, kind: str, size: Quantity, sent: Quantity, group: Quantity) -> Quantity:
    # A chip without links is a domain of its own and sends nothing within it.
    linked = partial(_linked, chip, collective, kind, size, sent, group)
    return either(chip.topology.link_bytes_per_s, linked, lambda: np.zeros_like(sent))


def _linked(chip: Chip, collective: Collective, kind: str, size: Quantity, sent: Quantity, group: Quantity) -> Quantity:
    rate = chip.topology.switched_bytes_per_s(group)
    floor_s = collective.floor_s + collective.rank_s * (group - 1.0)
    whole = blend(collective.blend, floor_s * np.ones_like(sent), sent / (rate * collective.efficiency))
    if kind != "all-reduce":
        return whole

    def one_shot() -> Quantity:
        first_s = collective.one_shot_floor_s + collective.one_shot_doubling_s * np.log2(group)
        return np.minimum(whole, first_s + (group - 1.0) * size / (rate * collective.one_shot_efficiency))

    return either(collective.one_shot_efficiency, one_shot, lambda: whole)


def _torus(
    chip: Chip,
    calibration: Calibration,
    collective: Collective,
    kind: str,
    size: Quantity,
    sent: Quantity,
    group: Quantity,
    stride: Quantity,
    slice_chips: Quantity,
) -> Quantity:
    link = chip.topology.one_link_bytes_per_s * collective.efficiency
    # Without a row measured for this kind of collective the floor is 0: the general rows give hop latencies only.
    floor_s = either(collective.measured, lambda: collective.floor_s + collective.rank_s * (group - 1.0), lambda: 0.0)
    if kind == "send":
        return floor_s + np.maximum(calibration.hop_s, size / link)
    links = chip.topology.group(group, stride, slice_chips)
    if kind == "all-to-all":
        transfer_s = size * links.cross / link
    else:
        transfer_s = sent / ROUNDS[kind] / (np.maximum(links.links, 1e-30) * link)
    return floor_s + ROUNDS[kind] * np.maximum(links.hops * calibration.hop_s, transfer_s)


def transfer(
    chip: Chip, calibration: Calibration, size: float, chips: int, start: tuple[int, ...], end: tuple[int, ...]
) -> tuple[float, float]:
    """Seconds until the first and the last byte of a point-to-point transfer within a torus slice arrive."""
    hops, links = chip.topology.path(chips, start, end)
    first_s = hops * calibration.hop_s
    rate = max(links, 1) * chip.topology.one_link_bytes_per_s * calibration.link_efficiency
    return first_s, max(first_s, size / rate)
