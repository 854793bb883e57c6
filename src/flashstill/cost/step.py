"""Seconds and joules of one step on n chips: a roofline a operation, and an energy for every byte and multiply.

    t_op   = max( flops / (peak eff_m),  bytes / (bandwidth eff_b) ) + floor
    t_link = sent / (link eff_l) + hops t_hop,  added (no overlap is assumed)
    t      = sum over operations;  if (joules of work) / t + idle exceeds the power limit, t is stretched to meet it

    joules = MACs x pJ/MAC + sum over kinds of bytes x pJ/byte of their way + sent x pJ/byte + n x idle watts x t

The activation bytes cost what memory costs; a compiler that fuses keeps some of them on the chip, so that this is an
upper bound for them.  Every quantity may be an array.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flashstill.hardware import Chip, Memory
from flashstill.hardware.chip import PERFECT
from flashstill.parallel import all_reduce_hops, shard
from flashstill.workload import Operation, Quantity

LEVELS = ("arithmetic", "weights", "kv", "activations", "links", "idle")
BOUNDS = ("compute", "memory", "links", "overhead", "power")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One step on `chips` chips.

    joules: by LEVELS, all chips together.  shares_s: seconds by BOUNDS, which sum to `seconds`.
    wall_joules: with the host's share and the facility's overhead.
    """

    seconds: Quantity
    joules: dict[str, Quantity]
    shares_s: dict[str, Quantity]
    macs: Quantity
    chips: int
    wall_ratio: float

    @property
    def total_joules(self) -> Quantity:
        """All levels, chips only."""
        return sum(self.joules.values(), start=0.0)

    @property
    def wall_joules(self) -> Quantity:
        """At the meter of the building."""
        return self.total_joules * self.wall_ratio

    @property
    def watts_per_chip(self) -> Quantity:
        """Mean power of one chip during the step."""
        return self.total_joules / self.seconds / self.chips

    @property
    def bound(self) -> str | list[str]:
        """What takes the largest share of the time: a word, or a list of them for arrays."""
        names = np.asarray(BOUNDS)
        stacked = np.stack(np.broadcast_arrays(*(np.asarray(self.shares_s[name]) for name in BOUNDS)))
        found = names[stacked.argmax(axis=0)]
        return str(found) if found.ndim == 0 else [str(name) for name in found.ravel()]

    @property
    def pj_per_mac(self) -> dict[str, Quantity]:
        """Picojoules per multiply-accumulate: the multiply itself, and everything that moved for it (idle apart)."""
        moved = sum((self.joules[level] for level in ("weights", "kv", "activations", "links")), start=0.0)
        return {"compute": self.joules["arithmetic"] / self.macs * 1e12, "movement": moved / self.macs * 1e12}


def step_cost(
    chip: Chip,
    operations: Iterable[Operation],
    chips: int = 1,
    precision: str = "bf16",
    tier: Memory | None = None,
    perfect: bool = False,
    pue: float = 1.0,
) -> StepCost:
    """The cost of `operations` split over `chips`; `perfect` leaves out floors and efficiencies (the lower bound).

    tier: where weights and KV live (default: the chip's main memory).
    """
    memory = tier or chip.memory
    runs_in = chip.precision(precision)
    calibration = PERFECT if perfect else chip.calibration
    compute_rate = chip.flops_per_s[runs_in] * calibration.matmul_efficiency
    memory_rate = memory.bytes_per_s * calibration.memory_efficiency
    link_rate = chip.link_bytes_per_s * calibration.link_efficiency
    shares: dict[str, Quantity] = dict.fromkeys(BOUNDS, 0.0)
    joules: dict[str, Quantity] = dict.fromkeys(LEVELS, 0.0)
    macs: Quantity = 0.0
    for operation in operations:
        part = shard(operation, float(chips))
        mine, count = part.operation, operation.count
        moved = mine.weight_bytes + mine.kv_bytes + mine.activation_bytes
        compute_s, memory_s = mine.flops / compute_rate, moved / memory_rate
        longer = np.asarray(compute_s) >= memory_s
        shares["compute"] = shares["compute"] + count * np.where(longer, compute_s, 0.0)
        shares["memory"] = shares["memory"] + count * np.where(longer, 0.0, memory_s)
        shares["overhead"] = shares["overhead"] + count * calibration.operation_floor_s
        if chips > 1:
            wait_s = np.where(np.asarray(part.sent_bytes) > 0, all_reduce_hops(chips, chip.torus_axes), 0.0)
            sent_s = part.sent_bytes / link_rate if link_rate else np.inf
            shares["links"] = shares["links"] + count * (sent_s + wait_s * calibration.hop_s)
        every = float(count * chips)
        macs = macs + every * mine.flops / 2.0
        per_byte = memory.joules_per_byte_total
        joules["arithmetic"] = joules["arithmetic"] + every * mine.flops / 2.0 * chip.joules_per_mac[runs_in]
        joules["weights"] = joules["weights"] + every * mine.weight_bytes * per_byte
        joules["kv"] = joules["kv"] + every * mine.kv_bytes * per_byte
        joules["activations"] = joules["activations"] + every * mine.activation_bytes * per_byte
        joules["links"] = joules["links"] + every * part.sent_bytes * chip.link_joules_per_byte
    seconds = sum(shares.values(), start=0.0)
    dynamic = sum(joules.values(), start=0.0)
    least_s = dynamic / (chips * (chip.power_limit_w - chip.idle_w))
    shares["power"] = np.maximum(least_s - seconds, 0.0)
    seconds = seconds + shares["power"]
    joules["idle"] = chips * chip.idle_w * seconds
    return StepCost(
        seconds=seconds,
        joules=joules,
        shares_s=shares,
        macs=macs,
        chips=chips,
        wall_ratio=chip.server_power_ratio * pue,
    )
