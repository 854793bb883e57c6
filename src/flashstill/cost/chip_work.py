"""The work of one chip in a step: its seconds by what bounds them, and its dynamic joules by where they go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from flashstill.cost.conditions import Conditions
from flashstill.cost.links import link_cost
from flashstill.cost.operation_sums import TERMS, operation_sums
from flashstill.cost.operations import streaming_watts
from flashstill.parallel import Exchange, Sharded, experts_last
from flashstill.workload import Operation, Quantity

LEVELS = ("arithmetic", "near_sram", "far_sram", "weights", "kv", "activations", "links", "idle", "active")
BOUNDS = ("compute", "memory", "links", "overhead", "power")
_WORKED = tuple(name for name in BOUNDS if name in TERMS)
_SPENT = tuple(level for level in LEVELS if level in TERMS)
"""bounds and levels of operations; the others are of exchanges, and of the step as a whole"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChipWork:
    """Work of one chip: seconds by BOUNDS, and dynamic joules by LEVELS; static energy is added by `on_chips`.

    clocked_s: those of its seconds that grow as the clock of the core falls (throttle.py).
    """

    shares_s: dict[str, Quantity]
    joules: dict[str, Quantity]
    macs: Quantity
    clocked_s: Quantity

    @property
    def seconds(self) -> Quantity:
        """Total seconds; the bounds do not overlap."""
        return sum(self.shares_s.values(), start=0.0)

    def plus(self, other: ChipWork, times: Quantity = 1.0) -> ChipWork:
        """This work followed by `times` repetitions of `other`."""
        return ChipWork(
            shares_s={name: self.shares_s[name] + times * other.shares_s[name] for name in BOUNDS},
            joules={level: self.joules[level] + times * other.joules[level] for level in LEVELS},
            macs=self.macs + times * other.macs,
            clocked_s=self.clocked_s + times * other.clocked_s,
        )

    def at(self, places: npt.NDArray[np.intp], axis: int = -1) -> ChipWork:
        """The work at these places of an axis of all arrays."""

        def taken(quantity: Quantity) -> Quantity:
            if np.ndim(quantity) == 0 or np.shape(quantity)[axis] == 1:
                return quantity
            one: Quantity = np.take(quantity, places, axis=axis)
            return one

        return ChipWork(
            shares_s={name: taken(seconds) for name, seconds in self.shares_s.items()},
            joules={level: taken(joules) for level, joules in self.joules.items()},
            macs=taken(self.macs),
            clocked_s=taken(self.clocked_s),
        )

    def times(self, times: Quantity) -> ChipWork:
        """`times` repetitions of this work."""
        return NO_WORK.plus(self, times)

    def lasting(self, bound: str, seconds: Quantity) -> ChipWork:
        """This work with `seconds` of waiting added to one bound; energy unchanged."""
        return replace(self, shares_s={**self.shares_s, bound: self.shares_s[bound] + seconds})

    def taking(self, shares_s: dict[str, Quantity]) -> ChipWork:
        """This work with its seconds replaced, as when other work hides part of it; energy unchanged."""
        return replace(self, shares_s={**dict.fromkeys(BOUNDS, 0.0), **shares_s})


NO_WORK = ChipWork(shares_s=dict.fromkeys(BOUNDS, 0.0), joules=dict.fromkeys(LEVELS, 0.0), macs=0.0, clocked_s=0.0)


def chip_work(
    conditions: Conditions,
    operations: Iterable[Operation] = (),
    exchanges: Iterable[Exchange] = (),
    overhead_s: Quantity = 0.0,
    sampling_s: Quantity = 0.0,
    before: ChipWork = NO_WORK,
) -> ChipWork:
    """One chip's share of the operations, the collectives it takes part in, `overhead_s` of software, in which it
    waits, and `sampling_s` of sorting logits, which streams memory; all of it after the work `before`."""
    shares_s, joules = dict(before.shares_s), dict(before.joules)
    done = {**{name: shares_s[name] for name in _WORKED}, **{level: joules[level] for level in _SPENT}}
    sums = operation_sums(conditions, tuple(operations), {**done, "clocked": before.clocked_s, "macs": before.macs})
    shares_s.update((name, sums[name]) for name in _WORKED)
    joules.update((level, sums[level]) for level in _SPENT)
    for exchange in exchanges:
        seconds, sent_joules = _exchange_cost(conditions, exchange)
        shares_s["links"] = shares_s["links"] + exchange.count * seconds
        joules["links"] = joules["links"] + exchange.count * sent_joules
    shares_s["overhead"] = shares_s["overhead"] + overhead_s
    if not _is_zero(sampling_s):
        shares_s["memory"] = shares_s["memory"] + sampling_s
        joules["activations"] = joules["activations"] + sampling_s * streaming_watts(conditions)
    return ChipWork(shares_s=shares_s, joules=joules, macs=sums["macs"], clocked_s=sums["clocked"])


def _exchange_cost(conditions: Conditions, exchange: Exchange) -> tuple[Quantity, Quantity]:
    """Seconds of one exchange with the fastest collective the engine has, and joules of the bytes one chip sends."""
    chip, software, calibration = conditions.chip, conditions.software, conditions.calibration
    cost = link_cost(chip, calibration, exchange, software.name)
    seconds = cost.seconds * software.collective_ratio
    for engine in software.fastest_of:
        if (exchange.kind, engine.name) in calibration.collectives:
            other = link_cost(chip, calibration, exchange, engine.name)
            seconds = np.minimum(seconds, other.seconds * engine.collective_ratio)
    sent = (
        cost.inside_bytes * chip.topology.link_joules_per_byte
        + cost.beyond_bytes * chip.system.scale_out_joules_per_byte
    )
    return seconds, sent


def sharded_work(conditions: Conditions, sharded: Sharded, overhead_s: Quantity = 0.0) -> ChipWork:
    """One chip's work: experts last, since over many layouts only they need the full shape, so the sums stay small."""
    if conditions.parts is not None:
        whole: ChipWork = conditions.parts.work(conditions, sharded)
        return whole.lasting("overhead", overhead_s)
    before = NO_WORK
    if sharded.dense is not None and sharded.at is not None:
        before = sharded_work(conditions, sharded.dense).at(sharded.at)
    operations = experts_last(sharded.operations)
    return chip_work(conditions, operations, sharded.exchanges, overhead_s, before=before)


def _is_zero(quantity: Quantity) -> bool:
    return not isinstance(quantity, np.ndarray) and not quantity
