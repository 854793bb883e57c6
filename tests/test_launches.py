"""What an engine adds to a block, on chips of several generations."""

from __future__ import annotations

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.phases import block_seconds
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.launches import software_of_chip

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


@pytest.mark.parametrize("chip", ["l4", "mi300x", "tpu-v6e"])
def test_chips_without_timed_kernels_and_other_makers_keep_the_row(chip: str) -> None:
    assert software_of_chip(FACTS, "vllm", chip_from_facts(FACTS, chip)).launch_ratio == 1.0
