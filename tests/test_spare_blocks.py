"""Engines that keep a share of their cache free (transformers): worked examples with steps of one second."""

from __future__ import annotations

from typing import Any

import pytest

from flashstill import simulate
from flashstill.errors import InfeasiblePlan
from flashstill.facts import load
from flashstill.plan.deployment import Deployment
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.simulation import prepared
from flashstill.simulate.traffic import Traffic
from tests.batching import FIRST, ttft_s

FACTS = load()
ROOM: dict[str, Any] = {"block": 256, "sequences": 9}


@pytest.mark.parametrize(("spare", "comes"), [(0, 2.0), (1, 11.0)])
def test_a_prompt_that_was_begun_waits_as_well(spare: int, comes: float) -> None:
    """40 of its 60 tokens fit beside those of the first; no block is free then until that one ends at 10 s."""
    rows = [(0.0, 60, 10), (0.0, 60, 2)]
    assert ttft_s(rows, **ROOM, tokens=100, blocks=2, spare=spare) == pytest.approx(comes)


def test_the_engine_looks_once_per_step() -> None:
    """Beside seven that decode two of nine blocks are free, which is enough for both that wait, and for none after."""
    seven = [FIRST] * 7
    assert ttft_s([*seven, (2.5, 10, 2), (2.5, 10, 2)], **ROOM, blocks=9, spare=2) == pytest.approx(4.0 - 2.5)
    assert ttft_s([*seven, FIRST, (2.5, 10, 2)], **ROOM, blocks=9, spare=2) == pytest.approx(11.0 - 2.5)


def test_an_empty_engine_takes_one_prompt_at_a_time() -> None:
    """Where the whole cache is less than it wants to be free."""
    assert ttft_s([(0.0, 10, 1), (0.0, 10, 1)], **ROOM, blocks=3, spare=4) == pytest.approx(2.0)


def test_who_keeps_a_share_free() -> None:
    """transformers 15 % of its blocks, as `serve` reckons; a cache of so many blocks holds no more sequences."""
    asked = Traffic(concurrency=1, requests=1, isl=64, osl=24)
    found = []
    for engine in ("transformers", "vllm"):
        used, policy = Deployment(chip="h100-sxm", engine=engine), Policy(cache_blocks=9)
        limits = prepared(FACTS, "qwen3-0.6b", used, policy, requests_of(asked, 0)[1]).limits
        found.append((limits.blocks, limits.sequences, limits.spare))
    assert found == [(9, 9, 2), (9, 9, 0)]
    free = prepared(FACTS, "qwen3-0.6b", Deployment(chip="h100-sxm"), Policy(), requests_of(asked, 0)[1]).limits
    assert free.blocks > 1000


def test_more_blocks_than_the_memory_holds_are_told() -> None:
    asked = Traffic(concurrency=1, requests=1, isl=64, osl=24)
    fleet = prepared(
        FACTS, "qwen3-0.6b", Deployment(chip="h100-sxm"), Policy(cache_blocks=10**9), requests_of(asked, 0)[1]
    )
    assert f"room for {fleet.limits.blocks:,} of 1,000,000,000 cache blocks" in "; ".join(fleet.notes)
    assert fleet.limits.blocks < 10**6


def test_a_cache_that_holds_no_request_serves_nothing() -> None:
    """Three blocks of 16 tokens, and requests of 88."""
    asked: dict[str, Any] = {"isl": 64, "osl": 24, "least_ratio": 1.0, "requests": 5, "concurrency": 2}
    with pytest.raises(InfeasiblePlan, match="none of the 5 requests fits in the 48 tokens"):
        simulate(model="qwen3-0.6b", chip="h100-sxm", cache_blocks=3, **asked)
