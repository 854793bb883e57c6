"""Seconds and joules of single kernels on a machine of round numbers (tests/round.py), each worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from flashstill.cost import Precisions, kernels
from flashstill.cost.attention_kernels import decode_attention, prompt_attention
from flashstill.cost.conditions import Conditions
from flashstill.cost.operations import operation_joules, operation_seconds
from flashstill.cost.timing import Timing, blend, fastest, memory_seconds, scaled
from flashstill.hardware.calibration import PERFECT, Kernel
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.workload import Attention, Experts, Matmul, Operation
from flashstill.workload.experts import EVEN, Routed
from tests.round import MEMORY, SRAM, round_chip, round_conditions

PEAK = 1e12


def kernel(**changes: Any) -> Kernel:
    return Kernel(**{"compute_efficiency": 1.0, "memory_efficiency": 1.0, "floor_s": 0.0, **changes})


def attention(**changes: Any) -> Attention:
    """4 sequences of 960 cached tokens, 32 heads over 8 cached ones, 128 wide, in 16 bits."""
    numbers: dict[str, Any] = {
        "name": "attention",
        "sequences": 4.0,
        "queries": 1.0,
        "seen": 960.0,
        "pairs": 961.0,
        "heads": 32.0,
        "kv_heads": 8.0,
        "key_width": 128.0,
        "value_width": 128.0,
        "kv_values": 2048.0,
        "kv_value_bytes": 2.0,
        "activation_value_bytes": 0.0,  # queries and outputs left out
        "prompt": False,
    }
    return Attention(**(numbers | changes))


def experts(**changes: Any) -> Experts:
    """64 tokens, each to 2 of 8 experts in turn: 128 pairs; 3 matrices of 1000 x 500."""
    numbers: dict[str, Any] = {
        "name": "experts",
        "tokens": 64.0,
        "experts": 8,
        "chosen": 2,
        "local_experts": 8.0,
        "width": 1000,
        "ffn_width": 500.0,
        "matrices": 3,
        "skew": EVEN,
        "activation_value_bytes": 1e6 / (128 * (3 * 1000 + 6 * 500) + 64 * 1000),  # 1e6 bytes in all
    }
    return Experts(**(numbers | changes))


class TestBlend:
    def test_powers(self) -> None:
        assert blend(1.0, 3.0, 4.0) == pytest.approx(7.0)  # they add
        assert blend(2.0, 3.0, 4.0) == pytest.approx(5.0)
        assert blend(3.0, 3.0, 4.0, 5.0) == pytest.approx(6.0)  # 27 + 64 + 125 = 216
        assert blend(64.0, 3.0, 4.0) == 4.0  # the longest alone
        assert blend(63.0, 4.0, 4.0) == pytest.approx(4.0 * 2.0 ** (1.0 / 63.0))
        assert blend(1.0, 0.0, 0.0) == 0.0
        assert np.asarray(blend(2.0, np.array([3.0, 0.0]), np.array([4.0, 2.0]))) == pytest.approx([5.0, 2.0])

    def test_a_slower_kernel_and_one_that_no_peak_allows(self) -> None:
        timing = Timing(seconds=10.0, compute_s=8.0, memory_s=3.0, floor_s=2.0)
        slower = scaled(timing, 1.5, 9.0, 4.0)
        assert (slower.seconds, slower.compute_s, slower.memory_s, slower.floor_s) == (19.0, 8.0, 3.0, 7.0)
        assert scaled(timing, 0.9, 8.0).seconds == pytest.approx(9.0)
        assert scaled(timing, 0.5, 8.0, 1.0).seconds == pytest.approx(9.0)  # 8 s at the peaks and 1 s beside them
        assert scaled(timing, 1.0, 20.0).seconds == 10.0  # as measured, whatever the peaks say

    def test_peaks(self) -> None:
        """8 s of compute at half the peak are 4 s; 8 s in tiles are 6.4 s at 0.8 of a unit's peak."""
        product = Matmul(name="m", rows=1000.0, columns=1000.0, depth=2e6)  # 4e12 FLOPs, 4 s at the peak

        def peaks_s(memory_efficiency: float, **changes: float) -> float:
            timing = Timing(seconds=0.0, compute_s=8.0, memory_s=6.0, floor_s=0.0)
            used = kernel(memory_efficiency=memory_efficiency, **changes)
            return float(kernels.peak_seconds(round_chip(), product, timing, used, PEAK))

        assert peaks_s(0.9, compute_efficiency=0.5, unit_efficiency=0.8) == pytest.approx(5.4)
        assert peaks_s(0.5, compute_efficiency=0.5, unit_efficiency=0.8) == pytest.approx(4.0)
        assert peaks_s(0.5, compute_efficiency=0.75, unit_efficiency=0.8) == pytest.approx(6.4)


class TestMatmul:
    def tiles_s(self, product: Matmul, **changes: Any) -> float:
        """Seconds of the tiles, in units of 2048 MACs of one of the 10 units: 2048 x 2 x 10 / PEAK."""
        return float(kernels.matmul(round_chip(), product, kernel(**changes), PEAK, 0.0).compute_s) * PEAK / 40960

    def test_a_small_tile_waits_for_its_operands(self) -> None:
        """A tile of 64 x 32 loads 2/64 + 2/32 bytes for every MAC, the largest 2/128 + 2/256: 0.0703 more.

        At 0.5e11 MACs/s of a unit, loads of 2.5e9 bytes/s take 20 MACs a byte, so the tile takes 1 + 1.40625.
        """
        product = Matmul(name="m", rows=1.0, columns=32.0, depth=64.0)
        assert self.tiles_s(product) == pytest.approx(64.0)
        assert self.tiles_s(product, unit_bytes_per_s=2.5e9) == pytest.approx(64.0 * 2.40625)

    def test_the_depth_is_split_over_idle_units(self) -> None:
        """One tile, ten units: ten parts if each is 256 deep, four if the depth is 1024; a split costs 1 ms."""
        for depth, parts in ((4096.0, 10), (1024.0, 4), (256.0, 1)):
            product = Matmul(name="m", rows=1.0, columns=32.0, depth=depth)
            assert self.tiles_s(product, split_s=1e-12) == pytest.approx(depth / parts, rel=1e-3)
            assert self.tiles_s(product) == self.tiles_s(product, split_s=1e-3) == pytest.approx(depth)
        most = Matmul(name="m", rows=64.0, columns=320.0, depth=4096.0)  # no unit idles
        assert self.tiles_s(most, split_s=1e-12) == self.tiles_s(most)

    def test_the_whole_chip_sustains_less_than_its_units_reach(self) -> None:
        """One tile runs at the unit's 0.8 of its peak; ten run at 0.5 of the chip's."""
        rates = {"compute_efficiency": 0.5, "unit_efficiency": 0.8}
        one = Matmul(name="m", rows=64.0, columns=32.0, depth=64.0)
        assert self.tiles_s(one, **rates) == pytest.approx(64.0 / 0.8)
        ten = Matmul(name="m", rows=64.0, columns=320.0, depth=64.0)
        assert self.tiles_s(ten, **rates) == pytest.approx(64.0 / 0.5)

    def test_floor_and_bytes(self) -> None:
        product = Matmul(name="m", rows=1.0, columns=32.0, depth=64.0)
        timing = kernels.matmul(round_chip(), product, kernel(floor_s=3e-6, blend=1.0), PEAK, 1e-6)
        compute = 10 * 2048 * 64 * 2 / PEAK
        assert float(timing.seconds) == pytest.approx(3e-6 + compute + 1e-6)
        assert (timing.memory_s, timing.floor_s) == (1e-6, 3e-6)

    def test_a_systolic_array_rounds_each_dimension_up(self) -> None:
        """9 rows are 16 in steps of 8; 130 columns are 256 and a depth of 100 is 128 in steps of 128."""
        array = round_chip(compute_units=0, matrix_edge=128)
        timing = kernels.matmul(array, Matmul(name="m", rows=9.0, columns=130.0, depth=100.0), kernel(), PEAK, 0.0)
        assert float(timing.compute_s) == pytest.approx(2 * 16 * 256 * 128 / PEAK)
        plain = round_chip(compute_units=0)
        timing = kernels.matmul(plain, Matmul(name="m", rows=9.0, columns=130.0, depth=100.0), kernel(), PEAK, 0.0)
        assert float(timing.compute_s) == pytest.approx(2 * 9 * 130 * 100 / PEAK)

    def test_bytes_come_from_where_they_lie(self) -> None:
        """1e6 bytes of weights at 10 TB/s, 4 x 961 x 2048 x 2 bytes of cache and 2e6 of activations at 1 TB/s."""
        product = Matmul(
            name="m", rows=1.0, columns=500.0, depth=1000.0, input_value_bytes=2000.0, output_value_bytes=0.0
        )
        assert memory_seconds(product, SRAM, MEMORY, MEMORY, 1.0) == pytest.approx(1e-7 + 2e-6)
        assert memory_seconds(product, MEMORY, SRAM, MEMORY, 0.5) == pytest.approx(2 * (1e-6 + 2e-6))
        read = 4 * 961 * 2048 * 2
        assert memory_seconds(attention(), MEMORY, SRAM, MEMORY, 1.0) == pytest.approx(read / 1e13)

    def test_quantising_reads_16_bits_and_writes_8(self) -> None:
        product = Matmul(name="m", rows=100.0, columns=1.0, depth=1000.0, input_value_bytes=1.0)
        coefficients = kernel(quantise_floor_s=1e-6, passes=2.0, block_s=4e-7)
        found = kernels.quantise_seconds(round_chip(), product, coefficients)
        assert found == pytest.approx(1e-6 + 3 * 100 * 1000 * 2 / 1e12 + 100 / 10 * 4e-7)  # one block a row, 10 units


class TestAttention:
    def test_decoding_multiplies_reads_and_deals_blocks(self) -> None:
        """2 x 4 sequences x 8 cached heads x 4 queries each x 256 values x 961 tokens; log2(1 + 960/64) = 4."""
        timing = decode_attention(round_chip(), attention(), kernel(), PEAK, 0.0)
        compute = 2 * 4 * 8 * 4 * 256 * 961 / PEAK
        assert float(timing.compute_s) == float(timing.seconds) == pytest.approx(compute)
        shaped = kernel(floor_s=1e-6, doubling_s=2e-6, blend=1.0, block_s=1e-4, group_ratio=0.5, compute_efficiency=0.5)
        timing = decode_attention(round_chip(), attention(), shaped, PEAK, 3e-6)
        # 32 blocks, each 1 + 0.5 x (4 heads)/8 = 1.25 of 100 us over 10 units
        assert float(timing.memory_s) == pytest.approx(32 * 1.25 * 1e-5)
        assert float(timing.floor_s) == pytest.approx(9e-6)
        assert float(timing.seconds) == pytest.approx(9e-6 + 2 * compute + 3e-6 + 4e-4)

    def test_latent_heads_fill_a_tile_of_64_rows(self) -> None:
        """80 heads on one key are 128 rows of a tile; on a machine without units they are 80."""
        latent = attention(sequences=1.0, heads=80.0, kv_heads=1.0, key_width=576.0, value_width=512.0, latent=True)
        for units, rows in ((10, 128), (0, 80)):
            timing = decode_attention(round_chip(compute_units=units), latent, kernel(), PEAK, 0.0)
            assert float(timing.compute_s) == pytest.approx(2 * rows * 1088 * 961 / PEAK)
        shaped = kernel(block_s=1e-3, group_ratio=2.0)  # one block of 1 + 2 x 80/64
        timing = decode_attention(round_chip(), latent, shaped, PEAK, 0.0)
        assert float(timing.seconds) == pytest.approx(1e-4 * 3.5)

    def test_a_prompt_is_rounded_up_to_tiles(self) -> None:
        """100 tokens have 5,050 pairs: 112 x 128 / 2 in tiles of 16 queries, 128 x 256 / 2 in one of 128.

        64 heads of 2 sequences deal 10 units; at the end they wait for the longest tile, 128 queries x 100 keys.
        """
        prompt = attention(sequences=2.0, queries=100.0, seen=0.0, pairs=5050.0, prompt=True)
        free = prompt_attention(round_chip(), prompt, kernel(), PEAK, 0.0)
        assert float(free.compute_s) == pytest.approx(2 * 512 * 32 * 112 * 128 / 2 / PEAK)
        large = {"tile_penalty": 1e3, "block_s": 1e-4}
        timing = prompt_attention(round_chip(), prompt, kernel(floor_s=1e-6, **large), PEAK, 5e-6)
        compute = 512 * (64 * 128 * 256 / 2 + 10 * 128 * 100) / PEAK
        assert float(timing.compute_s) == pytest.approx(compute)
        blocks = 2 * 32 * 1e-5
        assert float(timing.seconds) == pytest.approx(1e-6 + compute + 5e-6 + blocks)
        assert float(timing.memory_s) == pytest.approx(5e-6 + blocks)
        half = prompt_attention(round_chip(), prompt, kernel(compute_efficiency=0.5, **large), PEAK, 0.0)
        assert float(half.compute_s) == pytest.approx(2 * compute)

    def test_the_last_row_of_a_window_reads_no_more_than_twice_the_mean(self) -> None:
        """1000 queries of a window of 10: 9,955 pairs; the longest tile has at most 2 x 9.955 keys, not 1000."""
        prompt = attention(sequences=1.0, heads=1.0, queries=1000.0, seen=0.0, pairs=9955.0, prompt=True)
        tiled = kernel(block_s=1e-12, tile_penalty=1e6)
        timing = prompt_attention(round_chip(), prompt, tiled, PEAK, 0.0)
        pairs = 1024 / 1000 * 9955 + 1024 * (24 + 127) / 2
        assert float(timing.compute_s) == pytest.approx(512 * (pairs + 10 * 128 * 19.91) / PEAK)

    def test_the_softmax_of_narrow_heads(self) -> None:
        """If the softmax takes as long as the products at heads of 128, it takes twice as long at 64: 3 for 2."""
        narrow = attention(queries=128.0, seen=0.0, pairs=8256.0, key_width=64.0, value_width=64.0, prompt=True)
        without = prompt_attention(round_chip(), narrow, kernel(), PEAK, 0.0)
        timing = prompt_attention(round_chip(), narrow, kernel(softmax_ratio=1.0), PEAK, 0.0)
        assert float(timing.compute_s) == pytest.approx(1.5 * float(without.compute_s))

    def test_a_block_of_wide_heads_takes_longer(self) -> None:
        """Half of a block's time is that of its width: heads of 384 take twice those of 128."""
        wide = attention(key_width=384.0, value_width=384.0)
        shaped = kernel(block_s=1e-3)
        usual = decode_attention(round_chip(), attention(), shaped, PEAK, 0.0)
        timing = decode_attention(round_chip(), wide, shaped, PEAK, 0.0)
        assert float(timing.memory_s) == pytest.approx(2.0 * float(usual.memory_s))

    def test_heads_that_are_narrower_than_a_systolic_array(self) -> None:
        """Widths of 64 and 192 take 1 and 2 edges of 128: 384 for 256; one of 64 wastes nothing. 128 x 128 pairs."""
        prompt = attention(queries=128.0, seen=0.0, pairs=8256.0, key_width=64.0, value_width=192.0, prompt=True)
        least = 2 * 4 * 32 * 256 * 128 * 128 / PEAK
        for edge, ratio in ((128, 1.5), (64, 1.0)):
            array = round_chip(compute_units=0, matrix_edge=edge)
            timing = prompt_attention(array, prompt, kernel(), PEAK, 0.0)
            assert float(timing.compute_s) == pytest.approx(least * ratio)
        units = prompt_attention(round_chip(matrix_edge=128), prompt, kernel(tile_penalty=1e3), PEAK, 0.0)
        assert float(units.compute_s) == pytest.approx(least)


class TestExperts:
    def test_pairs_are_padded_to_tiles(self) -> None:
        """128 pairs and 4 more for each of 8 experts: 2 x 3 x 1000 x 500 x 160 FLOPs; 24 MB of weights."""
        shaped = kernel(tile_penalty=4.0, floor_s=1e-6, expert_s=1e-5, passes=3.0, blend=1.0, memory_efficiency=0.5)
        timing = kernels.experts(round_chip(), experts(), shaped, PEAK, MEMORY, SRAM)
        assert float(timing.compute_s) == pytest.approx(2 * 3 * 1000 * 500 * 160 / PEAK)
        floor, read, moved = 1e-6 + 1e-5 * 8 / 100, 24e6 / 1e13 / 0.5, 3 * 1e6 / 1e12
        assert float(timing.floor_s) == pytest.approx(floor)
        assert float(timing.memory_s) == pytest.approx(read + moved)
        assert float(timing.seconds) == pytest.approx(floor + float(timing.compute_s) + read + moved)
        half = kernels.experts(round_chip(), experts(), kernel(compute_efficiency=0.5), PEAK, MEMORY, SRAM)
        assert float(half.compute_s) == pytest.approx(2 * 2 * 3 * 1000 * 500 * 128 / PEAK)

    def test_rows_of_experts_elsewhere(self) -> None:
        """100 pairs of other chips move 1000 + 3 x 500 values each; a kernel that skips them moves none."""
        told = experts(remote=100.0)
        assert told.remote_bytes == pytest.approx(100 * 2500 * told.activation_value_bytes)
        skipped = kernels.experts(round_chip(), told, kernel(), PEAK, MEMORY, SRAM)
        moved = kernels.experts(round_chip(), told, kernel(remote_passes=2.0), PEAK, MEMORY, SRAM)
        assert float(moved.seconds - skipped.seconds) == pytest.approx(2 * told.remote_bytes / MEMORY.bytes_per_s)

    def test_a_chip_with_some_of_the_experts_looks_up_which_pairs_are_its_own(self) -> None:
        """2 us more on a chip that holds 2 of 8 experts, nothing where it holds all or a copy of one as well."""
        spread = kernel(floor_s=1e-6, spread_s=2e-6)
        for local, floor_s in ((2.0, 3e-6), (8.0, 1e-6), (9.0, 1e-6)):
            timing = kernels.experts(round_chip(), experts(local_experts=local), spread, PEAK, MEMORY, SRAM)
            assert float(timing.floor_s) == pytest.approx(floor_s)

    def test_counted_routing_replaces_the_expected(self) -> None:
        told = experts(counted=Routed(pairs=10.0, distinct=3.0))
        assert (told.assignments, told.distinct) == (10.0, 3.0)
        assert told.flops == 2 * 3 * 1000 * 500 * 10


class TestOperations:
    """Which coefficients, peak, engine ratio and energy an operation takes."""

    def test_an_engine_scales_and_quantises(self) -> None:
        """2.048e-6 s of arithmetic in fp8 (2 TFLOP/s), twice as long with the engine, half of what quantising takes."""
        software = dataclasses.replace(NO_SOFTWARE, matmul_ratio=2.0, quantise_ratio=0.5)
        conditions = round_conditions(
            software=software, precisions=Precisions(linear="fp8"), matmul={"quantise_floor_s": 1e-6}
        )
        product = Matmul(name="m", rows=1.0, columns=32.0, depth=100.0, value_bytes=1.0, input_value_bytes=1.0)
        timing = operation_seconds(conditions, product)
        compute = 10 * 2048 * 128 * 2 / 2e12
        assert float(timing.seconds) == pytest.approx(2 * compute + 0.5 * (1e-6 + 3 * 100 / 1e12))

    @pytest.mark.parametrize(("stored", "left"), [("fp8", 0.25), ("fp8-block", 1.0)])
    def test_scales_of_a_checkpoint_need_not_be_found(self, stored: str, left: float) -> None:
        """A quarter of the time of quantising to fp8 is left where each tensor has one scale; blocks have their own."""
        plain = dataclasses.replace(NO_SOFTWARE, quantise_ratio=0.5)
        product = Matmul(name="m", rows=1.0, columns=32.0, depth=100.0, value_bytes=1.0, input_value_bytes=1.0)
        with_scales, finding, without = (
            float(
                operation_seconds(
                    round_conditions(
                        software=software, precisions=Precisions(linear=stored), matmul={"quantise_floor_s": 1e-6}
                    ),
                    product,
                ).seconds
            )
            for software in (dataclasses.replace(plain, scales_ratio=0.25), plain, NO_SOFTWARE)
        )
        assert with_scales - without == pytest.approx(left * (finding - without))
        assert finding > without

    def test_an_engine_is_not_faster_than_the_peaks(self) -> None:
        faster = dataclasses.replace(NO_SOFTWARE, matmul_ratio=0.1, experts_ratio=0.1)
        conditions = round_conditions(software=faster, matmul={"compute_efficiency": 0.5}, experts={"floor_s": 1.0})
        product = Matmul(name="m", rows=1.0, columns=32.0, depth=64.0)
        assert float(operation_seconds(conditions, product).seconds) == pytest.approx(10 * 2048 * 64 * 2 / PEAK)
        # Of 1 s of floor a tenth stays.
        assert float(operation_seconds(conditions, experts()).seconds) == pytest.approx(0.1 + 0.1 * 3.85e-4, rel=1e-3)
        without_floor = round_conditions(software=faster)
        peak = 2 * 3 * 1000 * 500 * 128 / PEAK + 1e6 / 1e12
        assert float(operation_seconds(without_floor, experts()).seconds) == pytest.approx(peak)

    def test_decoding_multiplies_in_16_bits_and_prompts_in_the_format_of_the_cache(self) -> None:
        conditions = round_conditions(precisions=Precisions(kv="fp8"))
        decoding = operation_seconds(conditions, attention(kv_values=0.0))
        assert float(decoding.seconds) == pytest.approx(2 * 4 * 8 * 4 * 256 * 961 / 1e12)
        prompt = attention(queries=128.0, seen=0.0, pairs=8256.0, kv_values=0.0, prompt=True)
        assert float(operation_seconds(conditions, prompt).seconds) == pytest.approx(
            2 * 4 * 32 * 256 * 128 * (128 + 16) / 2 / 2e12
        )

    @pytest.mark.parametrize(
        ("kind", "operation"),
        [
            ("matmul", Matmul(name="m", rows=1.0, columns=1.0, depth=1.0)),
            ("experts", experts()),
            ("decode_attention", attention()),
            ("latent_attention", attention(latent=True)),
            ("prompt_attention", attention(prompt=True)),
        ],
    )
    def test_each_kind_has_its_own_row(self, kind: str, operation: Operation) -> None:
        changes: dict[str, Any] = {kind: {"floor_s": 1.0}}
        slow = round_conditions(**changes)
        timing = operation_seconds(slow, operation)
        assert timing.floor_s == pytest.approx(1.0)
        assert float(timing.seconds) > 1.0

    def test_what_only_moves_values(self) -> None:
        """1e6 bytes at 1 TB/s and half of it."""
        moving = Operation(name="norms", activation_bytes=1e6)
        conditions = round_conditions(matmul={"memory_efficiency": 0.5, "floor_s": 1.0})
        timing = operation_seconds(conditions, moving)
        assert [float(timing.seconds), float(timing.floor_s)] == pytest.approx([2e-6, 0.0])


class TestJoules:
    def joules(self, conditions: Conditions, operation: Operation) -> dict[str, float]:
        return {level: float(value) for level, value in operation_joules(conditions, operation).items() if value}

    def test_a_product(self) -> None:
        """1e6 MACs of 1 pJ and 0.25 pJ of operands; 2e6 bytes of weights at 5 pJ; activations on the chip at 1 pJ."""
        conditions = round_conditions()
        product = Matmul(
            name="m", rows=1.0, columns=1000.0, depth=1000.0, input_value_bytes=400.0, output_value_bytes=0.0
        )
        assert self.joules(conditions, product) == pytest.approx(
            {"arithmetic": 1e-6, "near_sram": 0.25e-6, "far_sram": 4e5 * 1e-12, "weights": 2e6 * 5e-12}
        )
        # Half of the chip's 1e6 bytes are for activations; one more goes to memory.
        at = dataclasses.replace(product, input_value_bytes=500.0)
        beyond = dataclasses.replace(product, input_value_bytes=500.001)
        assert self.joules(conditions, at)["far_sram"] == pytest.approx(5e5 * 1e-12)
        assert self.joules(conditions, beyond)["activations"] == pytest.approx((5e5 + 1) * 5e-12)

    def test_formats_by_role(self) -> None:
        """fp8 multiplies cost half; the head stays in 16 bits, and so does attention."""
        conditions = round_conditions(precisions=Precisions(linear="fp8", experts="fp8", kv="fp8"))
        product = Matmul(name="m", rows=1.0, columns=1000.0, depth=1000.0)
        assert self.joules(conditions, product)["arithmetic"] == pytest.approx(0.5e-6)
        head = dataclasses.replace(product, role="exact")
        assert self.joules(conditions, head)["arithmetic"] == pytest.approx(1e-6)
        pairs = 3 * 1000 * 500 * 128
        assert self.joules(conditions, experts())["arithmetic"] == pytest.approx(pairs * 0.5e-12)
        found = self.joules(conditions, attention())
        assert found["arithmetic"] == pytest.approx(4 * 32 * 256 * 961 * 1e-12)
        assert found["kv"] == pytest.approx(4 * 961 * 2048 * 2 * 5e-12)

    def test_tiers(self) -> None:
        conditions = dataclasses.replace(round_conditions(), weights=SRAM, cache=SRAM)
        product = Matmul(name="m", rows=1.0, columns=1000.0, depth=1000.0)
        assert self.joules(conditions, product)["weights"] == pytest.approx(2e6 * 1e-12)
        assert self.joules(conditions, attention())["kv"] == pytest.approx(4 * 961 * 2048 * 2 * 1e-12)


def test_perfect_is_without_floors_and_software() -> None:
    conditions = round_conditions(
        software=dataclasses.replace(NO_SOFTWARE, matmul_ratio=3.0), matmul={"floor_s": 1.0}
    ).perfect
    machine = round_chip().calibration  # work still comes in the chip's tiles
    best = dataclasses.replace(PERFECT, tiling=machine.tiling, on_chip_share=machine.on_chip_share)
    assert (conditions.calibration, conditions.software) == (best, NO_SOFTWARE)


def one_product(engine: str = "perfect", fastest_of: tuple[str, ...] = ()) -> float:
    """Seconds of a product that two engines have kernels of their own for, floors of 5 and 9 us; others 7 us."""
    machine = round_chip()
    floors = {"bf16": 7e-6, "bf16 vllm": 5e-6, "bf16 sglang": 9e-6}
    rows = {("matmul", condition): kernel(floor_s=floor_s) for condition, floor_s in floors.items()}
    chip = dataclasses.replace(machine, calibration=dataclasses.replace(machine.calibration, kernels=rows))
    several = tuple(dataclasses.replace(NO_SOFTWARE, name=name) for name in fastest_of)
    software = dataclasses.replace(NO_SOFTWARE, name=engine, fastest_of=several)
    timing = operation_seconds(round_conditions(chip, software), Matmul(name="m", rows=1.0, columns=1.0, depth=1.0))
    return float(timing.floor_s)


@pytest.mark.parametrize(("engine", "floor_s"), [("vllm", 5e-6), ("sglang", 9e-6), ("trtllm", 7e-6), ("perfect", 7e-6)])
def test_an_engine_runs_its_own_kernels_where_it_has_them(engine: str, floor_s: float) -> None:
    assert one_product(engine) == floor_s


@pytest.mark.parametrize(
    ("engines", "floor_s"), [(("vllm", "sglang"), 5e-6), (("sglang",), 9e-6), (("sglang", "trtllm"), 7e-6)]
)
def test_software_that_uses_the_fastest_is_never_slower_than_an_engine(
    engines: tuple[str, ...], floor_s: float
) -> None:
    assert one_product("none", engines) == floor_s


def test_the_fastest_is_chosen_for_each_element() -> None:
    short = Timing(seconds=np.array([1.0, 4.0]), compute_s=1.0, memory_s=0.0, floor_s=0.1)
    long = Timing(seconds=np.array([2.0, 3.0]), compute_s=0.0, memory_s=2.0, floor_s=0.2)
    best = fastest([short, long])
    assert [
        np.broadcast_to(each, 2).tolist() for each in (best.seconds, best.compute_s, best.memory_s, best.floor_s)
    ] == [
        [1.0, 3.0],
        [1.0, 0.0],
        [0.0, 2.0],
        [0.1, 0.2],
    ]
