"""Seconds and joules of one step: the kernels of every operation, the collectives, the software, and where joules go.

    t = sum over operations of their kernels + layer overhead x blocks + collectives + step overhead
    if (joules of work) / t + static watts exceeds the power limit, the clock gives: t is stretched until it is met

    joules = MACs x pJ/MAC                                 arithmetic
           + MACs x operand pJ/MAC                         near SRAM and registers that feed the multipliers
           + activation bytes that fit on the chip         far SRAM
           + weights, cache, larger activations x pJ/byte of their way
           + sent bytes x pJ/byte + chips x (idle + active watts) x t

Host and building come on top as a ratio (wall_joules).  Every quantity may be an array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flashstill.cost import kernels
from flashstill.cost.conditions import Conditions
from flashstill.cost.links import link_cost
from flashstill.parallel import Sharded
from flashstill.workload import Attention, Experts, Matmul, Operation, Quantity

LEVELS = ("arithmetic", "near_sram", "far_sram", "weights", "kv", "activations", "links", "idle", "active")
TIMED_LEVELS = ("idle", "active")
"""joules that every chip spends for the time that a step takes, whether it works or waits: what it draws when it idles,
and clocks and leakage of a chip that is not at rest"""
_NO_TIME: Quantity = 0.0
BOUNDS = ("compute", "memory", "links", "overhead", "power")
ON_CHIP_SHARE = 0.5
"""of a cache that a kernel's activations can count on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """One step on `chips` chips.

    joules: by LEVELS, all chips together.  shares_s: seconds by BOUNDS, which sum to `seconds`.
    wall_ratio: with the host's share and the facility's overhead.
    """

    seconds: Quantity
    joules: dict[str, Quantity]
    shares_s: dict[str, Quantity]
    macs: Quantity
    chips: Quantity
    wall_ratio: float

    @property
    def total_joules(self) -> Quantity:
        """All levels, chips only."""
        return sum(self.joules.values(), start=0.0)

    @property
    def timed_joules(self) -> Quantity:
        """Those that time alone costs."""
        return sum((self.joules[level] for level in TIMED_LEVELS), start=0.0)

    @property
    def work_joules(self) -> Quantity:
        """Those that the work costs, whatever time it takes."""
        return self.total_joules - self.timed_joules

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
        """Picojoules per multiply-accumulate: the multiply itself, and all that moved for it (static power apart)."""
        moved = sum((self.joules[level] for level in LEVELS if level not in ("arithmetic", *TIMED_LEVELS)), start=0.0)
        return {"compute": self.joules["arithmetic"] / self.macs * 1e12, "movement": moved / self.macs * 1e12}


class Ledger:
    """Seconds by bound and joules by level of the work of one chip, as they add up. Holds no time of idling."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.shares_s: dict[str, Quantity] = dict.fromkeys(BOUNDS, 0.0)
        self.joules: dict[str, Quantity] = dict.fromkeys(LEVELS, 0.0)
        self.macs: Quantity = 0.0

    def operation(self, operation: Operation) -> None:
        """Add one chip's part of an operation."""
        timing = operation_seconds(self.conditions, operation)
        count, floor_s = operation.count, timing.floor_s
        work_s = timing.seconds - floor_s
        computes = np.asarray(timing.compute_s) >= timing.memory_s
        self.shares_s["compute"] = self.shares_s["compute"] + count * np.where(computes, work_s, 0.0)
        self.shares_s["memory"] = self.shares_s["memory"] + count * np.where(computes, 0.0, work_s)
        self.shares_s["overhead"] = self.shares_s["overhead"] + count * floor_s
        for level, joules in operation_joules(self.conditions, operation).items():
            if not _is_zero(joules):
                self.joules[level] = self.joules[level] + count * joules
        self.macs = self.macs + count * operation.flops / 2.0

    def exchanges(self, sharded: Sharded) -> None:
        """Add the collectives that one chip takes part in."""
        chip, software = self.conditions.chip, self.conditions.software
        for exchange in sharded.exchanges:
            cost = link_cost(chip, self.conditions.calibration, exchange, software.name)
            each_s = cost.seconds * software.collective_ratio
            for engine in software.fastest_of:
                if (exchange.kind, engine.name) in self.conditions.calibration.collectives:
                    own = link_cost(chip, self.conditions.calibration, exchange, engine.name)
                    each_s = np.minimum(each_s, own.seconds * engine.collective_ratio)
            seconds = exchange.count * each_s
            self.shares_s["links"] = self.shares_s["links"] + seconds
            sent = cost.inside_bytes * chip.link_joules_per_byte + cost.beyond_bytes * chip.scale_out_joules_per_byte
            self.joules["links"] = self.joules["links"] + exchange.count * sent

    def overhead(self, seconds: Quantity) -> None:
        """Add time in which nothing is computed."""
        self.shares_s["overhead"] = self.shares_s["overhead"] + seconds

    def close(self, chips: Quantity, wall_ratio: float) -> StepCost:
        """The cost on `chips` chips, each of which does this work; the clock gives where power would not suffice."""
        chip = self.conditions.chip
        shares = dict(self.shares_s)
        seconds = sum(shares.values(), start=0.0)
        dynamic = sum(self.joules.values(), start=0.0)
        least_s = dynamic / (chip.power_limit_w - chip.static_w)  # above 0, as chips are checked
        shares["power"] = np.maximum(least_s - seconds, 0.0)
        seconds = seconds + shares["power"]
        joules = {level: chips * value for level, value in self.joules.items()}
        joules["idle"] = chips * chip.idle_w * seconds
        joules["active"] = chips * chip.active_w * seconds
        return StepCost(
            seconds=seconds,
            joules=joules,
            shares_s=shares,
            macs=chips * self.macs,
            chips=chips,
            wall_ratio=wall_ratio,
        )


def _is_zero(quantity: Quantity) -> bool:
    return np.ndim(quantity) == 0 and not quantity


def operation_seconds(conditions: Conditions, operation: Operation) -> kernels.Timing:
    """Seconds of one chip's part of an operation, software included."""
    chip, calibration, main = conditions.chip, conditions.calibration, conditions.chip.memory
    if isinstance(operation, Matmul):
        runs_in = chip.precision(conditions.precisions.of(operation.role))
        kernel = calibration.kernel("matmul", kernel_precision(conditions, operation.role))
        memory_s = kernels.memory_seconds(
            operation, conditions.weights, conditions.cache, main, kernel.memory_efficiency
        )
        timing = kernels.matmul(chip, operation, kernel, chip.flops_per_s[runs_in], memory_s)
        ratio, quantise_s = conditions.software.matmul_ratio, _NO_TIME
        if kernel.quantise_floor_s and conditions.software.quantise_ratio:
            quantise_s = conditions.software.quantise_ratio * kernels.quantise_seconds(operation, kernel, main)
        peaks_s = kernels.peak_seconds(timing, kernel)
        return kernels.scaled(timing, ratio, peaks_s, quantise_s)
    if isinstance(operation, Experts):
        runs_in = chip.precision(conditions.precisions.experts)
        kernel = calibration.kernel("experts", kernel_precision(conditions, "experts"))
        timing = kernels.experts(chip, operation, kernel, chip.flops_per_s[runs_in], main, conditions.weights)
        moved_s = operation.activation_bytes / main.bytes_per_s
        read_s = operation.weight_bytes / conditions.weights.bytes_per_s
        peaks_s = np.maximum(timing.compute_s * kernel.compute_efficiency, read_s) + moved_s
        return kernels.scaled(timing, conditions.software.experts_ratio, peaks_s)
    if isinstance(operation, Attention):
        kind = (
            "prompt-attention" if operation.prompt else ("latent-attention" if operation.latent else "decode-attention")
        )
        # A cache in 8 bits is multiplied in 8 bits where the prompt is long; decoding is bound by reading it.
        precision = conditions.precisions.kv
        kernel = calibration.kernel(kind, precision)
        memory_s = kernels.memory_seconds(
            operation, conditions.weights, conditions.cache, main, kernel.memory_efficiency
        )
        rate = chip.flops_per_s[chip.precision(precision if operation.prompt else "bf16")]
        timed = kernels.prompt_attention if operation.prompt else kernels.decode_attention
        return timed(chip, operation, kernel, rate, memory_s)
    kernel = calibration.kernel("matmul", "bf16")
    memory_s = kernels.memory_seconds(operation, conditions.weights, conditions.cache, main, kernel.memory_efficiency)
    compute_s = operation.flops / (chip.flops_per_s[chip.precision("bf16")] * kernel.compute_efficiency)
    return kernels.Timing(seconds=np.maximum(compute_s, memory_s), compute_s=compute_s, memory_s=memory_s, floor_s=0.0)


def kernel_precision(conditions: Conditions, role: str) -> str:
    """The precision whose coefficients apply: the stored one where the chip multiplies in it, else the wider one."""
    stored = conditions.precisions.of(role)
    runs_in = conditions.chip.precision(stored)
    return stored if runs_in in stored else runs_in


def operation_joules(conditions: Conditions, operation: Operation) -> dict[str, Quantity]:
    """Joules of one chip's part of an operation, by level, links and idling apart."""
    chip, main = conditions.chip, conditions.chip.memory
    role = "experts" if isinstance(operation, Experts) else getattr(operation, "role", "exact")
    runs_in = chip.precision(conditions.precisions.of(role) if not isinstance(operation, Attention) else "bf16")
    macs = operation.flops / 2.0
    on_chip = np.asarray(operation.activation_bytes) <= ON_CHIP_SHARE * chip.on_chip_bytes
    moved = operation.activation_bytes
    return {
        "arithmetic": macs * chip.joules_per_mac[runs_in],
        "near_sram": macs * chip.operand_joules_per_mac[runs_in],
        "far_sram": np.where(on_chip, moved, 0.0) * chip.on_chip_joules_per_byte,
        "weights": operation.weight_bytes * conditions.weights.joules_per_byte_total,
        "kv": operation.kv_bytes * conditions.cache.joules_per_byte_total,
        "activations": np.where(on_chip, 0.0, moved) * main.joules_per_byte_total,
    }


def step_cost(
    conditions: Conditions,
    sharded: Sharded,
    chips: Quantity = 1.0,
    overhead_s: Quantity = 0.0,
    pue: float = 1.0,
) -> StepCost:
    """The cost of one step whose every chip does `sharded`. overhead_s: what the software adds."""
    ledger = Ledger(conditions)
    # Experts last: over a grid of layouts they alone need its full shape, which sums then have from there on.
    for operation in sorted(sharded.operations, key=lambda operation: isinstance(operation, Experts)):
        ledger.operation(operation)
    ledger.exchanges(sharded)
    ledger.overhead(overhead_s)
    return ledger.close(chips, conditions.chip.server_power_ratio * pue)
