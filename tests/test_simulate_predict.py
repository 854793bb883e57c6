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
    agrees(case, 8, 20)


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 16])
@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_agrees_on_many_chips_and_engines(case: dict[str, Any], concurrency: int) -> None:
    agrees(case, concurrency, 20)


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
