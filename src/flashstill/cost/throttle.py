"""What a power limit costs: a chip at its limit lowers the clock of its core, and with it the core's voltage.

    seconds at clock f    t = T + K (1/f - 1)
    joules at clock f     v^2 A + B + w t,   v = max(f, v0)
    at the limit P        v^2 A + B = (P - w) t
      above v0            A f^3 + (B - (P - w)(T - K)) f - (P - w) K = 0        the largest root, by Newton's method
      below               t = (v0^2 A + B) / (P - w)

f, v: clock and voltage of the core, as shares of those without a limit; v0: the lowest voltage, `least_voltage_ratio`.
T: seconds without a limit, of which K follow the clock (`clocked_seconds`); memory, links and software do not.
A: joules of the core at full voltage: multipliers and their operands, SRAM on the die, clocks.  B: joules of memory and
links, which have a supply of their own.  w: watts of a waiting chip, whatever the clock is.

Dynamic energy is capacitance x V^2, and above v0 V is taken to be proportional to f, so that power falls with f^3.  v0
is the lowest voltage at which SRAM holds its bits: below it a lower clock saves no energy, and everything is taken to
slow down.  Two departures: leakage (in A with the clocks, or in w) falls less than with V^2, and V falls somewhat less
than in proportion until it reaches v0 (an A100 reads 0.74 V at 82 % of its clock and 0.70 to 0.72 V at 15 %).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flashstill.hardware import Chip
from flashstill.workload import Quantity, is_any

CORE_LEVELS = ("arithmetic", "near_sram", "far_sram", "active")
"""energy levels of the core, which fall with the square of its voltage"""
_NEXT_TO_NONE = 1e-9
"""share of the other joules as which those of a core that spends none are taken"""
_ROUNDS = 6
"""of Newton's method, from f = 1 down to roots of 0.5 and more: the last leaves less than 1e-9"""


class Throttled(NamedTuple):
    """Seconds that the limit adds to a step, and the share that is left of the core's joules."""

    added_s: Quantity
    core_ratio: Quantity


def throttled(
    chip: Chip, seconds: Quantity, clocked_s: Quantity, core_joules: Quantity, other_joules: Quantity
) -> Throttled:
    """What the limit of one chip does to a step of so many seconds (T), clocked seconds (K) and joules (A, B)."""
    watts = chip.power_limit_w - chip.waiting_w  # chips are validated: power_limit_w > static_w
    over = (core_joules + other_joules) / watts > seconds
    if not is_any(over):
        return Throttled(np.zeros(np.shape(seconds))[()], 1.0)  # seconds may be infinite
    with np.errstate(invalid="ignore"):  # of steps that never end, which no limit makes longer
        core = np.maximum(core_joules, _NEXT_TO_NONE * other_joules + 1e-100)
        least, fixed_s = chip.least_voltage_ratio, seconds - clocked_s
        constant = watts * clocked_s / core
        linear = np.maximum((other_joules - watts * fixed_s) / core, constant - 1.0)  # full clock below the limit
        clock = np.maximum(_clock(linear, constant), least)
        slowed_s = np.maximum(fixed_s + clocked_s / clock, (least**2 * core_joules + other_joules) / watts)
        core_ratio = (watts * slowed_s - other_joules) / core
        return Throttled(np.where(over, slowed_s - seconds, 0.0), np.where(over, core_ratio, 1.0))


def _clock(linear: Quantity, constant: Quantity) -> Quantity:
    """The largest root of f^3 + linear f = constant, which is below 1; from 1, Newton's method falls towards it."""
    clock: Quantity = 1.0
    for _ in range(_ROUNDS):
        squared = clock * clock
        clock = (2.0 * squared * clock + constant) / (3.0 * squared + linear)
    return clock


def clocked_seconds(chip: Chip, seconds: Quantity, compute_s: Quantity) -> Quantity:
    """Seconds of a kernel that follow the clock, if computing alone takes `compute_s` of its `seconds`.

    At the lowest clock of the law it takes the longer of `seconds` and compute_s / v0; between, a straight line in 1/f:
    all seconds of one that is bound by computing, none where memory takes 1/v0 times as long.
    """
    least = chip.least_voltage_ratio
    slower: Quantity = np.maximum(np.minimum(compute_s, seconds) - least * seconds, 0.0)
    return slower / (1.0 - least)


def clocked_beside(chip: Chip, clocked_s: Quantity, more_s: Quantity) -> Quantity:
    """What is left of a kernel's `clocked_seconds` if it takes `more_s` longer for what does not follow the clock."""
    least = chip.least_voltage_ratio
    left: Quantity = np.maximum(clocked_s - least / (1.0 - least) * more_s, 0.0)
    return left
