"""Seconds and joules -> dollars."""

from flashstill.economics.prices import HourlyPrice, hourly_price, usd_per_million_tokens

__all__ = ["HourlyPrice", "hourly_price", "usd_per_million_tokens"]
