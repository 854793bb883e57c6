"""Expert kernel tables: the routing that their benchmark draws is replayed, and rows become operations."""

from __future__ import annotations

import numpy as np
import pytest

from flashstill.facts import load
from flashstill.hardware import Kernel, chip_from_facts
from flashstill.validation.anchors.experts import experts
from flashstill.validation.anchors.routing import at_random, routed
from flashstill.validation.anchors.tables import KernelSet
from flashstill.validation.kernel_times import kernel_seconds
from flashstill.workload import Experts

ROW = {
    "version": "1.0.0",
    "num_tokens": "4",
    "hidden_size": "2688",
    "inter_size": "1856",
    "topk": "2",
    "num_experts": "8",
    "moe_tp_size": "2",
    "moe_ep_size": "2",
    "distribution": "balanced",
    "latency": "0.5",
}


def read(anchor: str, chip: str = "h100-sxm", **changes: str) -> KernelSet:
    """The one set of a table of one row."""
    (found,) = experts(anchor, chip_from_facts(load(), chip), [{**ROW, **changes}])
    return found


def work(found: KernelSet) -> Experts:
    assert isinstance(found.work, Experts)
    return found.work


def matrices(anchor: str, **changes: str) -> float:
    return float(np.ravel(work(read(anchor, **changes)).matrices)[0])


class TestBalanced:
    def test_a_token_takes_every_fourth_expert(self) -> None:
        """8 experts, 2 a token: token t takes t and t + 4; the first half of the experts gets one pair a token."""
        assert routed(4, 8, 2, 1, None) == (8.0, 8.0, 4.0)
        assert routed(4, 8, 2, 2, None) == (4.0, 4.0, 4.0)
        assert routed(10, 8, 2, 2, None) == (10.0, 4.0, 10.0)

    def test_few_tokens_are_spread(self) -> None:
        """One token takes experts 0 and 4, two take 0, 2, 4 and 6; the first group always has one."""
        assert routed(1, 8, 2, 4, None) == (1.0, 1.0, 1.0)
        assert routed(2, 8, 2, 2, None) == (2.0, 2.0, 2.0)


class TestAtRandom:
    def test_a_token_takes_any_of_the_experts(self) -> None:
        """Of 8 experts two tokens with 2 each miss one with (6/8)^2; both are in one half with 4/8 3/7."""
        assert at_random(2, 8, 2, 1) == pytest.approx((4.0, 8 * (1 - 0.75**2), 2.0))
        assert at_random(2, 8, 2, 2) == pytest.approx((2.0, 4 * (1 - 0.75**2), 2 * (1 - 3 / 14)))
        assert at_random(1, 8, 8, 1) == (8.0, 8.0, 1.0)

    def test_a_draw_agrees(self) -> None:
        taken = np.random.default_rng(1).random((2000, 6, 16)).argsort(axis=2)[:, :, :3]
        distinct = np.mean([len(np.unique(each)) for each in taken])
        visiting = (taken < 8).any(axis=2).sum(axis=1).mean()
        assert at_random(6, 16, 3, 1)[1] == pytest.approx(distinct, rel=0.01)
        assert at_random(6, 16, 3, 2)[2] == pytest.approx(visiting, rel=0.01)


class TestAmdsTables:
    def test_sorting_and_scales_are_added_to_the_products(self) -> None:
        found = read("kernels_mi355x_aiter_moe", "mi355x", distribution="random", moe_dtype="mxfp4")
        assert (found.engine, found.precision) == ("aiter", "mxfp4")
        assert found.seconds.tolist() == [pytest.approx(0.5e-3 + 17.7e-6)]

    @pytest.mark.parametrize(
        ("chip", "same", "precision"),
        [
            *(("mi355x", "mi350x", each) for each in ("fp8-block", "fp8", "mxfp4", "fp4")),
            *(("mi300x", "mi325x", each) for each in ("fp8-block", "fp8", "bf16")),
        ],
    )
    def test_experts_of_the_die_are_not_those_of_another_maker(self, chip: str, same: str, precision: str) -> None:
        """AITER's tables: 26 to 37 us for one token beside sorting, 0.7 of the bandwidth with all experts read."""
        die, twin = (
            chip_from_facts(load(), name).calibration.kernel("experts", precision, "vllm") for name in (chip, same)
        )
        assert die == twin
        assert 0.75 < die.memory_efficiency < 0.9
        assert die.floor_s + 2.56 * die.expert_s < 45e-6

    def test_sglang_is_between_those_and_tritons(self) -> None:
        calibration = chip_from_facts(load(), "mi325x").calibration
        sglang, vllm = (calibration.kernel("experts", "fp8-block", engine) for engine in ("sglang", "vllm"))
        assert 0.4 < sglang.memory_efficiency < vllm.memory_efficiency

    def test_triton_reads_experts_of_4_bits_on_these_chips_as_on_others(self) -> None:
        """The joint set of B200 has a fifth of the bandwidth, of TensorRT-LLM's kernels: no engine here runs those."""
        calibration = chip_from_facts(load(), "mi300x").calibration
        assert calibration.kernel("experts", "mxfp4/bf16", "vllm").memory_efficiency == 0.8


class TestPowerLaw:
    @pytest.mark.parametrize("tokens", [1, 7, 64, 1000])
    def test_all_pairs_are_dealt(self, tokens: int) -> None:
        pairs, distinct, visiting = routed(tokens, 32, 4, 1, 1.2)
        assert pairs == tokens * 4
        assert 4 <= distinct <= min(32, tokens * 4)
        assert visiting <= tokens

    def test_the_busiest_group_has_more_than_its_share(self) -> None:
        """16 groups of 2 experts: a heavy tail leaves the busiest with several times the mean of 512 pairs."""
        pairs, distinct, _ = routed(1024, 32, 8, 16, 1.01)
        assert 2 * 512 < pairs <= 2 * 1024
        assert distinct == 2.0

    def test_repeats_agree(self) -> None:
        assert routed.__wrapped__(100, 64, 6, 4, 1.01) == routed.__wrapped__(100, 64, 6, 4, 1.01)


class TestRows:
    def test_a_row_without_a_format_is_bf16(self) -> None:
        found = read("kernels_a100_sxm_trtllm_moe", "a100-80g")
        assert (found.kind, found.precision, found.engine, found.seconds[0]) == ("experts", "bf16", "trtllm", 5e-4)
        shape = work(found)
        assert shape.assignments == 4.0
        assert shape.distinct == 4.0
        assert shape.remote == 4.0  # 4 x 2 pairs, of which half reach the other group
        assert (shape.local_experts, shape.ffn_width) == (4.0, 928.0)

    def test_sglang_gave_the_pairs_of_others_to_its_first_expert(self) -> None:
        old = work(read("kernels_a100_sxm_sglang_moe", "a100-80g", version="0.5.10"))
        assert (old.assignments, old.remote) == (8.0, 0.0)
        new = work(read("kernels_h100_sxm_sglang_moe", version="0.5.14"))
        assert (new.assignments, new.remote) == (4.0, 4.0)

    def test_a_model_without_a_gate(self) -> None:
        assert matrices("kernels_h100_sxm_vllm_moe", kernel_source="vllm_triton") == 2.0
        assert matrices("kernels_h100_sxm_vllm_moe", kernel_source="vllm_triton", inter_size="2048") == 3.0
        assert matrices("kernels_h100_sxm_vllm_moe") == 3.0  # before tables had the column
        assert matrices("kernels_h100_sxm_sglang_moe", kernel_source="sglang_fused_moe_triton", version="0.5.14") == 3.0
        assert matrices("kernels_h100_sxm_trtllm_moe", kernel_source="moe_torch_flow_nongated") == 2.0

    @pytest.mark.parametrize(
        ("chip", "engine", "dtype", "source", "kernels"),
        [
            ("h100-sxm", "sglang", "bfloat16", "sglang_fused_moe_triton", "sglang"),
            ("b200", "sglang", "bfloat16", "sglang_fused_moe_triton", "triton"),
            ("b200", "sglang", "bfloat16", "sglang_flashinfer_trtllm_moe", "sglang"),
            ("h100-sxm", "vllm", "fp8", "vllm_modeloptfp8moe_flashinfer_cutlass_x", "flashinfer-cutlass"),
            ("h100-sxm", "vllm", "fp8_block", "vllm_fp8moe_flashinfer_cutlass_x", "vllm"),
            ("b200", "trtllm", "nvfp4", "moe_torch_flow_min_latency", "trtllm-gen"),
            ("b200", "trtllm", "nvfp4", "moe_torch_flow_cutlass", "trtllm"),
            ("h100-sxm", "vllm", "w4a16_mxfp4", "vllm_gptossmxfp4moe_triton_oaitritonmxfp4expertsmonolithic", "vllm"),
            ("h100-sxm", "vllm", "w4a16_mxfp4", "vllm_x_marlin_marlinexperts_situ_as_silu", "marlin"),
            ("h100-sxm", "vllm", "int4_wo", "vllm_x_marlin_marlinexperts", "vllm"),
            ("h100-sxm", "sglang", "w4a16_mxfp4", "sglang_fused_moe_triton", "triton"),
        ],
    )
    def test_whose_kernels(self, chip: str, engine: str, dtype: str, source: str, kernels: str) -> None:
        found = read(f"kernels_x_{engine}_moe", chip, moe_dtype=dtype, kernel_source=source, version="0.5.14")
        assert found.engine == kernels


@pytest.mark.parametrize(
    ("dtype", "precision", "bytes_", "flops_per_s"),
    [
        ("nvfp4", "fp4", 0.5625, "fp4"),
        ("w4a16_mxfp4", "mxfp4/bf16", 0.53125, "bf16"),
        ("w4a8_mxfp4_mxfp8", "mxfp4/fp8", 0.53125, "fp8"),
        ("int4_wo", "int4/bf16", 0.53125, "bf16"),
    ],
)
def test_weights_that_a_kernel_converts(dtype: str, precision: str, bytes_: float, flops_per_s: str) -> None:
    """Timed with the bytes of one format and the rate of another: computing takes the pairs' FLOPs at that rate."""
    chip = chip_from_facts(load(), "b200")
    found = read("kernels_b200_sxm_vllm_moe", "b200", moe_dtype=dtype, num_tokens="65536")
    assert found.precision == precision
    assert work(found).value_bytes == bytes_
    seconds = kernel_seconds(
        chip, found, Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0, passes=0.0)
    )
    assert seconds[0] == pytest.approx(work(found).flops / chip.flops_per_s[flops_per_s], rel=1e-6)


def test_some_rows_of_a_set() -> None:
    chip = chip_from_facts(load(), "h100-sxm")
    rows = [{**ROW, "num_tokens": str(count)} for count in (4, 8, 16)]
    (found,) = experts("kernels_h100_sxm_trtllm_moe", chip, rows)
    kept = work(found.where(np.array([False, True, True])))
    assert list(np.ravel(kept.assignments)) == [8.0, 16.0]
    assert list(np.ravel(kept.tokens)) == [8.0, 16.0]
