"""Chips and engines of one desk: few rows on vector units, and llama.cpp with its files and kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import kernels
from flashstill.facts import load
from flashstill.hardware import chip_from_facts, known_chips
from flashstill.hardware.calibration import PERFECT, Kernel
from flashstill.hardware.software import LOCAL
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.workload import Experts, Matmul
from flashstill.workload.experts import EVEN
from tests.deployments import deployed
from tests.round import MEMORY, round_chip

FACTS = load()
MIXED = "gpt-oss-20b"
KERNEL = Kernel(compute_efficiency=0.5, memory_efficiency=1.0, floor_s=0.0, tile_penalty=60.0)
FEW = replace(PERFECT, tiling=replace(PERFECT.tiling, tiles=((128.0, 128.0),), vector_rows=8.0))


def timed(rows: float, **chip: Any) -> float:
    product = Matmul(name="product", rows=rows, columns=1000.0, depth=1000.0)
    return float(kernels.matmul(round_chip(**chip), product, KERNEL, 1e12, 0.0).seconds)


def test_few_rows_are_multiplied_on_vector_units_where_tiles_are_slower() -> None:
    """A million weights by up to 8 rows at 0.2 TFLOP/s of vector units, half reached; in tiles the rows are padded."""
    tiles = timed(1.0, calibration=FEW)
    vectors = timed(1.0, calibration=FEW, vector_flops_per_s=2e11)
    assert vectors == pytest.approx(2e6 / (2e11 * 0.5))
    assert vectors < tiles
    assert timed(8.0, calibration=FEW, vector_flops_per_s=1e9) == timed(8.0, calibration=FEW)
    assert timed(9.0, calibration=FEW, vector_flops_per_s=1e15) == timed(9.0, calibration=FEW)


def test_few_pairs_an_expert_too() -> None:
    def seconds(tokens: float, rate: float) -> float:
        work = Experts(
            name="experts", tokens=tokens, experts=8, chosen=2, local_experts=8.0, width=1000, ffn_width=500.0,
            matrices=3, skew=EVEN,
        ).busiest  # fmt: skip
        chip = round_chip(calibration=FEW, vector_flops_per_s=rate)
        return float(kernels.experts(chip, work, KERNEL, 1e12, MEMORY, MEMORY).compute_s)

    assert seconds(1.0, 2e11) == pytest.approx(2 * 3 * 2.0 * 1000 * 500 / (2e11 * 0.5))
    assert seconds(1.0, 2e11) < seconds(1.0, 0.0)
    assert seconds(64.0, 1e15) == seconds(64.0, 0.0)


def test_chips_with_timed_products_have_no_separate_vector_units() -> None:
    rates = {name: chip_from_facts(FACTS, name).vector_flops_per_s for name in known_chips(FACTS)}
    assert {rates[name] for name in ("h100-sxm", "h200-sxm", "b200", "tpu-v6e", "gaudi2")} == {0.0}
    assert rates["m3-ultra"] == FACTS.value("m3-ultra", "flops_per_s", "fp32 dense")
    assert rates["gb10"] > 0


def test_an_engine_of_files_reads_no_16_bits() -> None:
    model = load_architecture("llama-3.1-8b")
    engines = {
        engine: deployed(FACTS, model, "m3-ultra", 1, 128, precision="int4", engine=engine).conditions.precisions
        for engine in (LOCAL, "vllm")
    }
    assert (engines[LOCAL].linear, engines[LOCAL].exact) == ("int4", "int8")
    assert (engines["vllm"].linear, engines["vllm"].exact) == ("int4", "bf16")


@pytest.mark.parametrize("chip", ["m3-ultra", "strix-halo", "gb10", "rtx-5090", "arc-pro-b70"])
def test_llama_cpp_writes_no_faster_than_memory_allows(chip: str) -> None:
    """3.6 billion active weights in 4.25 bits and more: 1.9 GB a token, read at 30 to 100 % of the bandwidth."""
    case = Case.of(model=MIXED, chip=chip, isl=128, osl=128, concurrency=1, engine=LOCAL)
    (found,) = predict(FACTS, [case])
    assert found.fits, found.reason
    assert found.tpot_s is not None
    least = 3.6e9 * 4.25 / 8 / FACTS.value(chip, "memory_bytes_per_s")
    assert 1.0 < found.tpot_s / least < 4.0


def test_prompts_of_llama_cpp_miss_what_fast_matrix_units_give() -> None:
    """A rate of its own on GeForce cards, whose products it accumulates in 16 bits, and on Apple's GPUs."""
    ratios = {
        name: deployed(FACTS, load_architecture("llama-3.1-8b"), name, 1, 128, engine=LOCAL).conditions.software
        for name in ("gb10", "rtx-a6000", "rtx-4090", "m3-ultra")
    }
    assert ratios["gb10"].first_ratio == ratios["rtx-a6000"].first_ratio > ratios["rtx-4090"].first_ratio
    assert ratios["m3-ultra"].first_ratio == FACTS.value("gpu-apple", "first_ratio")
    # benches/dgx-spark.md of llama.cpp: 8,192 tokens of gpt-oss-20b in 2.47 s, of gpt-oss-120b in 4.69 s.
    for model, seconds in (("gpt-oss-20b", 2.473), ("gpt-oss-120b", 4.688)):
        case = Case.of(model=model, chip="gb10", isl=8192, osl=2, concurrency=1, engine=LOCAL, chunk=2048)
        assert predict(FACTS, [case])[0].ttft_s == pytest.approx(seconds, rel=0.2)
