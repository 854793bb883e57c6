"""Dollars and joules by kind of token: what each causes in the steps, and that all of it adds up."""

from __future__ import annotations

from typing import Any

import pytest

from flashstill.simulate.engine import run
from flashstill.simulate.kinds import joules_by_kind, per_million, seconds_by_kind
from flashstill.simulate.state import BUSY_S, JOULES
from tests.batching import arrivals, limits, step_s, tables


def test_each_kind_pays_for_what_it_causes() -> None:
    """One request of 100 tokens after 60 cached ones, then two decode steps, by hand."""
    fleet = run(tables(), limits(), [arrivals([(0.0, 160, 3)], cached=60)]).fleet
    seconds = seconds_by_kind(fleet)
    alone = step_s(0, 0.0, 100, 50.0)
    assert seconds["input"] == pytest.approx(alone)
    assert seconds["cached"] == pytest.approx(step_s(0, 0.0, 100, 110.0) - alone)
    assert seconds["output"] == pytest.approx(step_s(1, 160.0, 0, 0.0) + step_s(1, 161.0, 0, 0.0))
    assert sum(seconds.values()) == pytest.approx(fleet.clock[:, BUSY_S].sum(), rel=1e-12)
    assert sum(joules_by_kind(fleet).values()) == pytest.approx(fleet.clock[:, JOULES].sum(), rel=1e-12)


def test_a_million_tokens_of_each_kind() -> None:
    prices = per_million(6.0, {"cached": 0.0, "input": 1.0, "output": 2.0}, {"cached": 0, "input": 100, "output": 50})
    assert prices == {"cached": None, "input": pytest.approx(2e4), "output": pytest.approx(8e4)}


@pytest.mark.slow
def test_all_of_it_adds_up() -> None:
    import flashstill as fs

    asked: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "rate": 8.0, "requests": 60, "osl": 20}
    found = fs.simulate(**asked, cached_ratio=0.4, replicas=2)
    fresh = found.input_tokens - found.cached_tokens
    tokens = {"cached": found.cached_tokens, "input": fresh, "output": found.output_tokens}
    assert found.usd_per_million is not None
    for prices, per_output in (
        (found.usd_per_million, found.usd_per_million_output_tokens),
        (found.joules_per_million, 1e6 * found.joules_per_output_token),
    ):
        assert all(each is not None and each > 0.0 for each in prices.values())
        total = sum(tokens[kind] * (prices[kind] or 0.0) for kind in tokens)
        assert total == pytest.approx(found.output_tokens * (per_output or 0.0), rel=1e-9)
    assert (found.usd_per_million["cached"] or 0.0) < (found.usd_per_million["input"] or 0.0)
    assert max(found.timeline["utilisation"]) <= 1.0 + 1e-9
    assert fs.simulate(**asked).joules_per_million["cached"] is None
