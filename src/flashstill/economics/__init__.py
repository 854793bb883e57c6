"""Prices: dollars per chip-hour and per million tokens."""

from flashstill.economics.prices import BASES, RENTED, HourlyPrice, hourly_price, usd_per_million_tokens

__all__ = ["BASES", "RENTED", "HourlyPrice", "hourly_price", "usd_per_million_tokens"]
