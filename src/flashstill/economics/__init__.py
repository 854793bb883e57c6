"""Prices: dollars per chip-hour and per million tokens."""

from flashstill.economics.prices import BASES, RENTED, HourlyPrice, check_basis, hourly_price, usd_per_million_tokens
from flashstill.economics.training import RunTotals, run_totals

__all__ = [
    "BASES",
    "RENTED",
    "HourlyPrice",
    "RunTotals",
    "check_basis",
    "hourly_price",
    "run_totals",
    "usd_per_million_tokens",
]
