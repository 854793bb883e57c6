"""Allowed range of each quantity, in one table; checked when rows are read or edited.

The ranges exceed every machine built or announced by orders of magnitude; they reject typing errors (a bandwidth of
1e-300, a ratio of 40) and values that would overflow the arithmetic.
"""

from __future__ import annotations

from functools import cache

from flashstill.units import show

COUNTS = (
    "torus_axes",
    "direct_peers",
    "link_domain_chips",
    "wrap_edge",
    "matrix_edge",
    "compute_units",
    "needed_units",
    "spare_units",
    "domain_chips",
    "steps_ahead",
)
"""quantities that must be whole numbers"""
RANGES = {
    # by quantity
    "torus_axes": (0.0, 6.0),
    "direct_peers": (0.0, 1024.0),
    "link_domain_chips": (1.0, 1e6),
    "wrap_edge": (1.0, 1e7),
    "matrix_edge": (1.0, 65536.0),
    "compute_units": (1.0, 1e7),
    "needed_units": (1.0, 500.0),
    "spare_units": (0.0, 500.0),
    "cycles_per_weight": (1.0, 1e9),
    "bytes_per_cycle_ratio": (1e-9, 1.0),
    "density_ratio": (0.01, 1.0),
    "other_ratio": (0.0, 0.95),
    "respins": (0.0, 20.0),
    "buffer_bytes": (0.0, 1e12),
    "graph_bytes": (0.0, 1e12),
    "rank_bytes": (0.0, 1e12),
    "state_share": (0.0, 0.95),
    "state_slots": (1.0, 100.0),
    "usable_ratio": (0.01, 1.0),
    "free_ratio": (0.01, 1.0),
    "mixed_ratio": (0.0, 1.0),
    "reserved_ratio": (0.0, 1.0),
    "prefill_tokens": (1.0, 1e7),
    "steps_ahead": (0.0, 1.0),
    "utilisation_ratio": (0.01, 1.0),
    "interest_ratio": (0.0, 1.0),
    "capital_share_ratio": (0.0, 0.95),
    "capital_ratio": (1.0, 100.0),
    "goodput_ratio": (0.01, 1.0),
    "mfu_ratio": (0.01, 1.0),
    "token_bytes": (1.0, 1e9),
    "price_decline_ratio": (0.0, 0.95),
    "successor_ratio": (0.01, 1.0),
    "software_share_ratio": (0.0, 1.0),
    "mac_energy_ratio": (0.01, 100.0),
    "logic_energy_ratio": (0.01, 100.0),
    "least_voltage_ratio": (0.3, 0.99),
    "served_tpot_ratio": (0.05, 20.0),
    "several_nodes_ratio": (1.0, 20.0),
    "routed_joules_ratio": (1.0, 20.0),
    "served_ttft_ratio": (0.05, 20.0),
    "matmul_ratio": (0.01, 100.0),
    "experts_ratio": (0.01, 100.0),
    "collective_ratio": (0.01, 100.0),
    "server_power_ratio": (1.0, 100.0),
    "pue_ratio": (1.0, 100.0),
    "tpot_low": (0.01, 1.0),
    "tpot_high": (1.0, 100.0),
    "ttft_low": (0.001, 1.0),
    "ttft_high": (1.0, 1000.0),
    "output_rate_low": (0.01, 1.0),
    "output_rate_high": (1.0, 100.0),
    "joules_low": (0.01, 1.0),
    "joules_high": (1.0, 100.0),
    "wired_parameters": (1.0, 1e15),
    "volume_year": (1950.0, 2100.0),
    "known_year": (1950.0, 2100.0),
    "node_lag_years": (0.0, 20.0),
    "memory_lag_years": (0.0, 20.0),
    "band_ratio": (0.01, 0.999),
    "largest_parameters": (1.0, 1e18),
    "tokens_per_month": (1.0, 1e20),
    "domain_chips": (1.0, 1e6),
    "volume_packages": (1.0, 1e9),
    "die_step_mm": (0.01, 2.0),
    "interposer_ratio": (0.0, 1.0),
    "cache_ratio": (0.0, 1.0),
    "scale_ratio": (1e-12, 1.0),
    "tail_exponent": (0.01, 10.0),
    "load_ratio": (0.01, 1.0),
    "drives_per_chip": (1.0, 1024.0),
    "access_bytes": (1.0, 1e9),
    "bits_per_parameter": (1e-3, 64.0),
    "bits_per_token": (1e-3, 1e6),
    "exposures": (1.0, 1e9),
    # by the quantity's last words
    "_yield_ratio": (0.01, 1.0),
    "_efficiency": (1e-3, 1.0),
    ".efficiency": (1e-3, 1.0),
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
    "mm": (1e-4, 1e4),
    "um2": (1e-6, 1e9),
    "Hz": (1e5, 1e12),
    "W/mm2": (0.0, 100.0),
    "1/cm2": (0.0, 100.0),
    "1/mm2": (1.0, 1e12),
    "USD/B": (0.0, 1e-3),
    "USD/mm2": (0.0, 1e4),
    "USD/W": (0.0, 1e4),
    "USD/Mtok": (0.0, 1e6),
    "g/kWh": (0.0, 5000.0),
    "L/kWh": (0.0, 100.0),
    "1/s": (1.0, 1e15),
    "1": (0.0, 1e9),
}
"""(minimum, maximum) in the unit of the row; the first matching key applies"""


@cache  # thousands of fact rows share a few dozen quantities
def lawful_range(quantity: str, unit: str) -> tuple[float, float]:
    """(minimum, maximum) allowed for `quantity`, in `unit`."""
    if quantity in RANGES:
        return RANGES[quantity]
    endings = (span for ending, span in RANGES.items() if ending[0] in "_." and quantity.endswith(ending))
    return next(endings, RANGES[unit])


def complaint(quantity: str, unit: str, value: float) -> str | None:
    """Message that a number is outside its allowed range, or None if it is valid."""
    least, most = lawful_range(quantity, unit)
    if not least <= value <= most:
        span = f"{show(least, unit)} to {show(most, unit)}"
        return f"{quantity} is {value:g}{'' if unit == '1' else ' ' + unit}, outside the lawful {span}"
    if quantity in COUNTS and value != int(value):
        return f"{quantity} must be a whole number, not {value:g}"
    return None
