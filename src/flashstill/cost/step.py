"""Seconds and joules of one step: kernels, collectives and software overhead, with energy split by level.

    t = max(sum of kernel times + layer overhead x blocks + collectives + step overhead, launches of the host)
    if joules / t exceeds the power limit, the chip throttles: throttle.py

    joules = MACs x pJ/MAC                                 arithmetic
           + MACs x operand pJ/MAC                         near SRAM and registers that feed the multipliers
           + bytes of activations that fit on the chip     far SRAM
           + bytes of weights, cache and larger activations x pJ/byte of their memory path
           + sent bytes x pJ/byte
           + chips x (idle + waiting watts) x t
           + chips x (active - waiting watts) x busy seconds

A chip is busy while it computes or streams memory.  While it waits for kernel launches, links or the host, most of its
clocks are gated, and of its active power it draws only the waiting share.  Throttling lowers the clock: the cycles of
a step stay the same, and so the added seconds count as waiting, but each takes less energy.

Host power and facility overhead (PUE) multiply this (`wall_joules`).  Every quantity may be an array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.cost.chip_work import BOUNDS, ChipWork, sharded_work
from flashstill.cost.conditions import Conditions
from flashstill.cost.throttle import CORE_LEVELS, throttled
from flashstill.parallel import Sharded
from flashstill.workload import Quantity

TIMED_LEVELS = ("idle",)
"""Energy levels proportional to a step's duration on every chip, working or waiting: power of idle and waiting chips"""
STATIC_LEVELS = ("idle", "active")
"""Energy levels of power that does not depend on what is computed: `active` is that of the clocks of a busy chip"""
BUSY_BOUNDS = ("compute", "memory")
"""the seconds in which a chip draws its whole active power"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """Cost of one step on `chips` chips.

    joules: by LEVELS, summed over all chips.  shares_s: seconds by BOUNDS; they sum to `seconds`.
    wall_ratio: wall energy over chip energy: host share times facility overhead (PUE).
    """

    seconds: Quantity
    joules: dict[str, Quantity]
    shares_s: dict[str, Quantity]
    macs: Quantity
    chips: Quantity
    wall_ratio: float

    def plus(self, other: StepCost, times: Quantity = 1.0) -> StepCost:
        """The cost of this step followed by `times` steps of cost `other`, on the same chips."""
        return replace(
            self,
            seconds=self.seconds + times * other.seconds,
            joules={level: self.joules[level] + times * other.joules[level] for level in self.joules},
            shares_s={name: self.shares_s[name] + times * other.shares_s[name] for name in self.shares_s},
            macs=self.macs + times * other.macs,
        )

    def times(self, times: Quantity) -> StepCost:
        """The cost of `times` such steps in sequence."""
        return self.plus(self, times - 1.0)

    def partly_empty(self, share: Quantity) -> StepCost:
        """The cost of this step when only `share` of the chips work and the others idle until it ends."""
        joules = {level: value if level in TIMED_LEVELS else value * share for level, value in self.joules.items()}
        return replace(self, joules=joules, macs=self.macs * share)

    def where(self, other_is_used: npt.NDArray[np.bool_], other: StepCost) -> StepCost:
        """This step, and `other` where the mask is true; masks and costs broadcast."""

        def one(mine: Quantity, theirs: Quantity) -> Quantity:
            return np.where(other_is_used, theirs, mine)

        return replace(
            self,
            seconds=one(self.seconds, other.seconds),
            joules={level: one(self.joules[level], other.joules[level]) for level in self.joules},
            shares_s={name: one(self.shares_s[name], other.shares_s[name]) for name in self.shares_s},
            macs=one(self.macs, other.macs),
        )

    def each(self, change: Callable[[Quantity], Quantity]) -> StepCost:
        """This step with every number that may be an array changed: rows taken, axes removed."""
        return replace(
            self,
            seconds=change(self.seconds),
            joules={level: change(value) for level, value in self.joules.items()},
            shares_s={name: change(value) for name, value in self.shares_s.items()},
            macs=change(self.macs),
            chips=change(self.chips),
        )

    @property
    def total_joules(self) -> Quantity:
        """Joules of all chips, all levels; host and facility excluded."""
        return sum(self.joules.values(), start=0.0)

    @property
    def timed_joules(self) -> Quantity:
        """Energy in joules that is proportional to the step's duration."""
        return sum((self.joules[level] for level in TIMED_LEVELS), start=0.0)

    @property
    def work_joules(self) -> Quantity:
        """Energy in joules that is independent of the step's duration: dynamic energy, and the clocks of busy chips."""
        return self.total_joules - self.timed_joules

    @property
    def dynamic_joules(self) -> Quantity:
        """Energy in joules of arithmetic and data movement; static power excluded."""
        return self.total_joules - sum((self.joules[level] for level in STATIC_LEVELS), start=0.0)

    @property
    def wall_joules(self) -> Quantity:
        """Joules at the wall: chips, host and facility."""
        return self.total_joules * self.wall_ratio

    @property
    def watts_per_chip(self) -> Quantity:
        """Mean power of one chip during the step."""
        return self.total_joules / self.seconds / self.chips

    @property
    def bound(self) -> str | list[str]:
        """The bound with the largest share of the time: a name, or a list of names for arrays."""
        names = np.asarray(BOUNDS)
        stacked = np.array(np.broadcast_arrays(*(self.shares_s[name] for name in BOUNDS)))
        largest = names[stacked.argmax(axis=0)]
        return str(largest) if largest.ndim == 0 else [str(name) for name in largest.ravel()]

    @property
    def pj_per_mac(self) -> dict[str, Quantity]:
        """Picojoules per multiply-accumulate: arithmetic, and data movement; static power excluded."""
        moved = self.dynamic_joules - self.joules["arithmetic"]
        return {"compute": self.joules["arithmetic"] / self.macs * 1e12, "movement": moved / self.macs * 1e12}


def on_chips(conditions: Conditions, work: ChipWork, chips: Quantity, pue: float = 1.0) -> StepCost:
    """Cost of a step in which each of `chips` chips does this work; throttled where it would exceed the power limit."""
    chip = conditions.chip
    shares = dict(work.shares_s)
    seconds = sum(shares.values(), start=0.0)
    clocks = (chip.static_w - chip.waiting_w) * sum((shares[name] for name in BUSY_BOUNDS), start=0.0)
    spent = {**work.joules, "active": clocks}
    core = sum((spent[level] for level in CORE_LEVELS), start=0.0)
    others = sum((spent[level] for level in spent if level not in CORE_LEVELS), start=0.0)
    shares["power"], core_ratio = throttled(chip, seconds, work.clocked_s, core, others)
    seconds = seconds + shares["power"]
    joules = {level: chips * value for level, value in spent.items()}
    if np.ndim(core_ratio) or core_ratio != 1.0:
        joules |= {level: joules[level] * core_ratio for level in CORE_LEVELS}
    joules["idle"] = chips * chip.waiting_w * seconds
    return StepCost(
        seconds=seconds,
        joules=joules,
        shares_s=shares,
        macs=chips * work.macs,
        chips=chips,
        wall_ratio=chip.system.server_power_ratio * pue,
    )


def step_cost(
    conditions: Conditions,
    sharded: Sharded,
    chips: Quantity = 1.0,
    overhead_s: Quantity = 0.0,
    pue: float = 1.0,
    host_s: Quantity = 0.0,
) -> StepCost:
    """The cost of one step in which every chip does `sharded`. overhead_s: seconds of software overhead.

    host_s: seconds in which the host launches all kernels, while the chip runs those that it has.
    """
    work = sharded_work(conditions, sharded, overhead_s)
    if isinstance(host_s, np.ndarray) or host_s:
        work = work.lasting("overhead", np.maximum(host_s - np.asarray(work.seconds), 0.0))
    return on_chips(conditions, work, chips, pue)
