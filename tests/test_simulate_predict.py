"""A closed loop at a fixed concurrency against the closed form, where no memory binds."""

from __future__ import annotations

from typing import Any

import pytest

import flashstill as fs
from tests.marks import slow

CASES: list[dict[str, Any]] = [
    {"model": "qwen3-8b", "chip": "h100-sxm", "engine": "sglang"},
    {"model": "qwen3-8b", "chip": "h100-sxm", "engine": "trtllm"},
    {"model": "qwen3-8b", "chip": "tpu-v5e", "engine": "vllm", "tp": 4},
    {"model": "llama-3.1-70b", "chip": "mi300x", "engine": "vllm", "tp": 4},
    {"model": "llama-3.1-70b", "chip": "gb200", "engine": "trtllm", "tp": 2},
    {"model": "qwen3-8b", "chip": "h100-sxm", "draft": "new-heads", "draft_tokens": 3, "acceptance": 0.8},
    {"model": "qwen3-8b", "chip": "h100-sxm", "draft": "qwen3-0.6b", "draft_tokens": 4, "acceptance": 0.7},
    {"model": "deepseek-v3", "chip": "h200", "precision": "fp8", "tp": 8, "draft": "heads", "acceptance_decay": 0.8},
]


def agrees(case: dict[str, Any], concurrency: int, rounds: int) -> None:
    """Lengths vary from a half to the whole, so that the means are three quarters."""
    loop = fs.simulate(
        **case, concurrency=concurrency, requests=concurrency * rounds, isl=256, osl=512, least_ratio=0.5
    )
    form = fs.predict(**case, batch=concurrency, isl=192, osl=384, burst_share=0.0)
    assert loop.latencies["tpot_s"].mean_s == pytest.approx(form.tpot_s, rel=0.03)
    assert loop.output_tokens_per_s == pytest.approx(form.output_tokens_per_s, rel=0.03)


@pytest.mark.parametrize("case", [{"model": "qwen3-8b", "chip": "h100-sxm"}, *slow(CASES[5])])
def test_the_closed_form_agrees(case: dict[str, Any]) -> None:
    agrees(case, 8, 40)  # of 20 rounds the last, which empties the batch, takes 3 % of the rate


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_agrees_on_many_chips_and_engines(case: dict[str, Any], concurrency: int) -> None:
    agrees(case, concurrency, 40)


@pytest.mark.parametrize(("least_ratio", "low", "high"), [(1.0, 0.98, 1.02), *slow((0.5, 1.02, 1.3))])
@pytest.mark.slow
def test_ranks_that_share_experts_wait_for_the_busiest(least_ratio: float, low: float, high: float) -> None:
    """As the closed form, which has all ranks alike, where they are; a prompt on one rank stalls them all."""
    case: dict[str, Any] = {"model": "deepseek-v3", "chip": "h200", "tp": 1, "ep": 8, "dp": 8, "precision": "fp8"}
    loop = fs.simulate(**case, concurrency=64, requests=320, isl=64, osl=256, least_ratio=least_ratio)
    mean = (1.0 + least_ratio) / 2.0
    form = fs.predict(**case, batch=64, isl=int(64 * mean), osl=int(256 * mean), burst_share=0.0)
    assert low < loop.latencies["tpot_s"].mean_s / form.tpot_s < high
    assert any("8 replicas of attention step together" in note for note in loop.notes)


def test_an_engine_without_work_does_not_wait_for_the_second_request() -> None:
    """Clients send one after the other: the first prompt has a step of its own, the second waits for its end."""
    asked: dict[str, Any] = {**CASES[0], "isl": 4096, "osl": 2}
    alone = fs.simulate(**asked, concurrency=1, requests=1).latencies["ttft_s"].mean_s
    together, spaced = (
        fs.simulate(**asked, concurrency=2, requests=2, spacing_s=spacing_s).latencies["ttft_s"]
        for spacing_s in (0.0, 1e-3)
    )
    assert together.mean_s > 1.6 * alone
    second = 2.0 * spaced.mean_s - alone
    assert spaced.percentiles[50][0] == pytest.approx(alone, rel=0.02)
    assert spaced.percentiles[90][0] == pytest.approx(second, rel=0.02)
    assert spaced.mean_s < together.mean_s < second


def test_nobody_comes_before_those_who_come_by_themselves() -> None:
    asked: dict[str, Any] = {**CASES[0], "isl": 64, "osl": 1, "concurrency": 3, "requests": 5}
    found = fs.simulate(**asked, spacing_s=10.0)
    assert found.finished == 5
    assert 20.0 < found.seconds < 21.0


WITHOUT_WAY = {"engine.return_s": 0.0, "engine-sglang.first_s": 0.0}


def test_a_client_waits_for_the_way_out_and_in() -> None:
    """Little's law as a client counts: one request after the other takes the sum of the latencies, and what the client
    itself takes between them; the run ends with the last token, which is not on its way yet."""
    asked: dict[str, Any] = {**CASES[0], "isl": 1024, "osl": 4, "concurrency": 1, "requests": 5}
    for edits, way_s in (({"engine-sglang.first_s": 0.5}, 0.5), (WITHOUT_WAY, 0.0)):
        client_s = 0.003 if way_s else 0.0
        found = fs.simulate(**asked, set=edits)
        latency_s = found.latencies["end_to_end_s"].mean_s
        assert latency_s > way_s
        assert found.seconds == pytest.approx(5.0 * latency_s - way_s + 4.0 * client_s, rel=1e-6)
        told = fs.simulate(**asked, set=edits, turnaround_s=0.25)
        assert told.seconds == pytest.approx(found.seconds + 4.0 * (0.25 - client_s), rel=1e-6)


def test_where_spacing_has_no_meaning() -> None:
    with pytest.raises(fs.BadInput, match="spacing_s has no effect with rate"):
        fs.simulate(**CASES[0], rate=1.0, spacing_s=0.1)
    with pytest.raises(fs.BadInput, match="leave spacing_s out"):
        fs.simulate(**CASES[0], concurrency=2, requests=4, spacing_s=0.1, set=WITHOUT_WAY)
