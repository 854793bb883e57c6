"""Units: how quantities are printed, and the few conversions at the edge.

Inside the program everything is in seconds, bytes, FLOPs, joules, watts and dollars.
"""

from __future__ import annotations

import math

PICO = 1e-12
BITS_PER_BYTE = 8
SECONDS_PER_HOUR = 3600.0
HOURS_PER_YEAR = 8766.0
JOULES_PER_KWH = 3.6e6
TOKENS_PER_MILLION = 1e6
LN_2 = math.log(2.0)

_PREFIXES = (
    (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"),
    (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f"),
)  # fmt: skip
_WITH_PREFIX = {"s", "J", "W", "B", "B/s", "FLOP", "FLOP/s", "pJ"}


def show(value: float, unit: str, digits: int = 3) -> str:
    """`value` for a person: show(3.35e12, "B/s") is "3.35 TB/s". The unit "1" prints the bare number."""
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit == "1":
        return f"{value:.{digits}g}"
    if unit == "pJ":
        return f"{value:,.{_decimals(value, digits)}f} pJ"
    if unit == "USD" or unit.startswith("USD/"):
        suffix = unit.removeprefix("USD")
        return f"${value:,.{max(2, _decimals(value, digits)) if abs(value) < 1000 else 0}f}{suffix}"
    if unit not in _WITH_PREFIX or value == 0:
        return f"{value:,.{digits}g} {unit}" if abs(value) < 1e4 else f"{value:,.0f} {unit}"
    scale, prefix = next(((s, p) for s, p in _PREFIXES if abs(value) >= s * (1 - 1e-9)), _PREFIXES[-1])
    return f"{value / scale:.{digits}g} {prefix}{unit}"


def _decimals(value: float, digits: int) -> int:
    if value == 0:
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))
