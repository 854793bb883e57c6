"""What a number may be: a wide lawful range for each quantity, in one table, checked when rows are read and edited.

The ranges hold every machine that was built or announced with orders of magnitude to spare; they keep out what can only
be a slip of the pen (a bandwidth of 1e-300, a share of 40) and what no sum could be made of.
"""

from __future__ import annotations

from functools import cache

from flashstill.units import show

COUNTS = ("torus_axes", "link_domain_chips", "wrap_edge", "matrix_edge", "compute_units")
"""quantities that are whole numbers"""
RANGES = {
    # by quantity
    "torus_axes": (0.0, 6.0),
    "link_domain_chips": (1.0, 1e6),
    "wrap_edge": (1.0, 1e7),
    "matrix_edge": (1.0, 65536.0),
    "compute_units": (1.0, 1e7),
    "buffer_bytes": (0.0, 1e12),
    "graph_bytes": (0.0, 1e12),
    "usable_ratio": (0.01, 1.0),
    "utilisation_ratio": (0.01, 1.0),
    "mac_energy_ratio": (0.01, 100.0),
    "logic_energy_ratio": (0.01, 100.0),
    "matmul_ratio": (0.01, 100.0),
    "experts_ratio": (0.01, 100.0),
    "collective_ratio": (0.01, 100.0),
    "server_power_ratio": (1.0, 100.0),
    "pue_ratio": (1.0, 100.0),
    "tpot_low": (0.01, 1.0),
    "tpot_high": (1.0, 100.0),
    # by the quantity's last words
    "_efficiency": (1e-3, 1.5),
    ".efficiency": (1e-3, 1.5),
    "_ratio": (0.0, 100.0),
    ".blend": (0.5, 1000.0),
    "_exponent": (0.0, 10.0),
    # by unit
    "FLOP/s": (1e6, 1e21),
    "B": (1e3, 1e18),
    "B/s": (1e5, 1e19),
    "W": (1e-3, 1e7),
    "nm": (0.1, 1e4),
    "mm2": (0.01, 1e6),
    "USD": (0.0, 1e9),
    "USD/h": (0.0, 1e6),
    "USD/kWh": (0.0, 100.0),
    "pJ": (1e-6, 1e6),
    "s": (0.0, 1e3),
    "J": (0.0, 1e6),
    "year": (0.01, 1000.0),
    "1": (0.0, 1e9),
}
"""(least, most), in the unit of the row; the first key that fits a quantity holds"""


@cache  # thousands of fact rows share a few dozen quantities
def lawful_range(quantity: str, unit: str) -> tuple[float, float]:
    """The least and the most that `quantity` may be, in `unit`."""
    if quantity in RANGES:
        return RANGES[quantity]
    endings = (span for ending, span in RANGES.items() if ending[0] in "_." and quantity.endswith(ending))
    return next(endings, RANGES[unit])


def complaint(quantity: str, unit: str, value: float) -> str | None:
    """What is wrong with a number, in words that name the range; None where nothing is."""
    least, most = lawful_range(quantity, unit)
    if not least <= value <= most:
        span = f"{show(least, unit)} to {show(most, unit)}"
        return f"{quantity} is {value:g}{'' if unit == '1' else ' ' + unit}, outside the lawful {span}"
    if quantity in COUNTS and value != int(value):
        return f"{quantity} must be a whole number, not {value:g}"
    return None
