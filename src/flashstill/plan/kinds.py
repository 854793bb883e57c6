"""Dollars of a scenario's tokens by kind: cached, input and output."""

from __future__ import annotations

from typing import Any

from flashstill.economics.token_kinds import KINDS, per_million
from flashstill.plan.scenario import Scenario
from flashstill.units import TOKENS_PER_MILLION


def usd_by_kind(
    scenario: Scenario, usd_per_million: float | None, input_share: float, cached_share: float
) -> dict[str, Any]:
    """The dollars of an output token by what each kind of token causes: KIND_usd_per_million_tokens."""
    total = None if usd_per_million is None else usd_per_million * scenario.osl / TOKENS_PER_MILLION  # of a request
    parts = {"cached": cached_share, "input": input_share, "output": max(1.0 - input_share - cached_share, 0.0)}
    cached = scenario.cached_tokens
    tokens = {"cached": float(cached), "input": float(scenario.isl - cached), "output": float(scenario.osl)}
    dollars = per_million(total, parts, tokens)
    return {f"{kind}_usd_per_million_tokens": dollars[kind] for kind in KINDS}
