"""What an engine adds to a block, on chips of several generations."""

from __future__ import annotations

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.phases import block_seconds
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import conditions_of

FACTS = load()
MODEL = load_architecture("llama-3.1-8b")


def _block_seconds(chip_name: str, engine: str = "vllm") -> float:
    chip = chip_from_facts(FACTS, chip_name)
    software = software_of_chip(FACTS, engine, chip)
    return float(block_seconds(MODEL, make_conditions(chip, uniform("bf16"), software=software)))


@pytest.mark.parametrize(("chip", "timed"), [("a100-80g", "a100-80g"), ("h200-sxm", "h100-sxm"), ("b200", "b200")])
def test_a_block_takes_an_engine_as_much_longer_as_the_chips_shortest_kernel(chip: str, timed: str) -> None:
    floor_s, usual_s = (FACTS.value(name, "matmul.floor_s", "bf16") for name in (timed, "gpu"))
    layer_s = FACTS.value("engine-vllm", "layer_s")
    assert _block_seconds(chip) == pytest.approx(MODEL.depth * layer_s * floor_s / usual_s, rel=1e-12)


def test_an_engine_adds_less_on_each_generation() -> None:
    a100, h100, b200 = (_block_seconds(name, "trtllm") for name in ("a100-80g", "h100-sxm", "b200"))
    assert b200 < h100 < a100


def _first_token_s(model: str, engine: str, chip: str = "h200-sxm") -> tuple[float, float]:
    """What an engine adds to the first token, and what of it belongs to no block."""
    chosen = Deployment(chip=chip, engine=engine)
    software = conditions_of(FACTS, load_architecture(model), chip_from_facts(FACTS, chip), chosen).software
    return software.first_token_s, software.first_s


def test_the_first_token_waits_for_the_launches_of_experts() -> None:
    """58 of DeepSeek-V3's 61 blocks have experts; vLLM compiles its prompts, and a dense model has no experts."""
    first_token_s, first_s = _first_token_s("deepseek-v3", "sglang")
    assert first_token_s == pytest.approx(first_s + 58 * FACTS.value("engine-sglang", "first_block_s"))
    assert first_token_s > first_s > 0.0
    for model, engine in (("deepseek-v3", "vllm"), ("llama-3.1-8b", "sglang")):
        first_token_s, first_s = _first_token_s(model, engine)
        assert first_token_s == first_s


def test_launches_were_measured_on_the_chips_of_one_maker() -> None:
    first_token_s, first_s = _first_token_s("deepseek-v3", "sglang", "mi300x")
    assert first_token_s == first_s


@pytest.mark.parametrize("chip", ["l4", "mi300x", "tpu-v6e"])
def test_chips_without_timed_kernels_and_other_makers_keep_the_row(chip: str) -> None:
    assert software_of_chip(FACTS, "vllm", chip_from_facts(FACTS, chip)).launch_ratio == 1.0
