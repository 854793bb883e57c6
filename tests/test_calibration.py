"""What is fitted is what predicts: one formula for the bytes of an operation, and rows that say what they rest on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, step_cost, uniform
from flashstill.facts import Facts, load
from flashstill.facts.csv_files import COLUMNS
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Layout, shard
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.calibration.fit import IDENTIFIED, Fit, Measured, least
from flashstill.validation.calibration.rows import FittedKind, apart, kind_rows, rounded
from flashstill.validation.calibration.selection import chosen
from flashstill.workload import EVEN, Attention, Experts, Matmul, Operation, decode

FACTS = load()
H100 = chip_from_facts(FACTS, "h100-sxm")
HEADERS = {
    "gemm": "version,kernel_source,gemm_dtype,m,n,k,latency",
    "moe": "version,kernel_source,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,"
    "distribution,latency",
    "generation_attention": "version,kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,"
    "kv_cache_dtype,step,latency",
}


def anchor(tmp_path: Path, kind: str, *rows: str, engine: str = "trtllm") -> Any:
    """The operation that a kernel file of one row is read as."""
    path = tmp_path / f"kernels_h100_sxm_{engine}_{kind}.csv"
    path.write_text("\n".join((HEADERS[kind], *rows)) + "\n", encoding="utf-8")
    (one,) = kernel_sets(FACTS, tmp_path)
    return one.work


def predicted(model: str, precision: str, name: str, layout: Layout, batch: float, context: float) -> Operation:
    """The operation of that name on one chip, as every prediction has it."""
    widths = make_conditions(H100, uniform(precision)).widths
    operations = shard(decode(load_architecture(model), batch, context, widths, skew=EVEN), layout).operations
    return next(one for one in operations if one.name == name)


def assert_same(ours: Operation, theirs: Operation) -> None:
    for quantity in ("flops", "weight_bytes", "kv_bytes", "activation_bytes"):
        assert float(getattr(ours, quantity)) == pytest.approx(float(np.squeeze(getattr(theirs, quantity)))), quantity


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bf16"), ("fp8", "fp8"), ("fp8_block", "fp8-block")])
def test_a_timed_product_is_the_predicted_one(tmp_path: Path, dtype: str, precision: str) -> None:
    """Llama 3.1 8B: 6144 columns of queries, keys and values from a width of 4096; two chips share the columns."""
    read = anchor(tmp_path, "gemm", f"1,x,{dtype},48,3072,4096,0.01")
    assert_same(predicted("llama-3.1-8b", precision, "query, key, value", Layout(tp=2.0), 48.0, 100.0), read)


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bf16"), ("fp8", "fp8"), ("fp8_block", "fp8-block")])
@pytest.mark.parametrize(("tp", "ep"), [(1, 1), (2, 1), (1, 4), (2, 4)])
def test_timed_experts_are_the_predicted_ones(tmp_path: Path, dtype: str, precision: str, tp: int, ep: int) -> None:
    """Qwen3-30B-A3B: 8 of 128 experts of width 768 at a model width of 2048, over groups of experts and chips."""
    read = anchor(tmp_path, "moe", f"1,x,{dtype},64,2048,768,8,128,{tp},{ep},balanced,0.1")
    layout = Layout(tp=float(tp * ep), ep=float(ep))
    assert_same(predicted("qwen3-30b-a3b", precision, "experts", layout, 64.0, 100.0), read)


def test_timed_attention_is_the_predicted_one(tmp_path: Path) -> None:
    """Llama 3.1 8B: 32 heads of 128 on 8 cached ones; step 1 after 1000 tokens of a prompt."""
    read = anchor(tmp_path, "generation_attention", "1,x,16,1000,32,8,128,bfloat16,bfloat16,1,0.05")
    assert_same(predicted("llama-3.1-8b", "bf16", "attention", Layout(), 16.0, 1000.0), read)


def test_bytes_of_experts_by_hand() -> None:
    """Four tokens, each to 2 of 8 experts, width 10, FFN 6, gated, 16 bits: 8 pairs.

    A pair reads 10, writes and reads 12 of gate and up, writes and reads 6, writes and reads 10: 66 values; four sums
    of 10 are written: 568 values of two bytes.
    """
    work = Experts(name="x", tokens=4.0, experts=8, chosen=2, local_experts=8.0, width=10, ffn_width=6.0, matrices=3)
    assert float(work.activation_bytes) == 2 * (8 * (10 + 2 * 12 + 2 * 6 + 2 * 10) + 4 * 10)


def test_products_read_activations_in_the_width_that_they_multiply_in() -> None:
    """An fp8 product reads one byte a value and writes two; a chip without fp8 multiplies in 16 bits and reads two."""
    for name, read in (("h100-sxm", 1.0), ("a100-80g", 2.0)):
        widths = make_conditions(chip_from_facts(FACTS, name), uniform("fp8")).widths
        assert (widths.inputs_of("linear"), widths.inputs_of("exact"), widths.activation) == (read, 2.0, 2.0)


def test_costs_add_and_scale() -> None:
    work = Matmul(name="m", rows=16.0, columns=1024.0, depth=1024.0)
    one = step_cost(make_conditions(H100), shard([work], Layout()))
    both = one.plus(one, 2.0)
    assert (
        float(both.seconds) == pytest.approx(3.0 * float(one.seconds)) == pytest.approx(float(one.times(3.0).seconds))
    )
    assert float(both.total_joules) == pytest.approx(3.0 * float(one.total_joules))
    half = one.partly_empty(0.5)
    assert float(half.work_joules) == pytest.approx(0.5 * float(one.work_joules))
    assert float(half.timed_joules) == pytest.approx(float(one.timed_joules))


def line(slope: float, floor: float, sizes: np.ndarray) -> np.ndarray:
    return slope * sizes + floor


class TestFit:
    """t = floor + slope n, with a coefficient that does nothing."""

    def fit(self, sizes: np.ndarray, noise: float) -> Fit:
        rng = np.random.default_rng(0)
        clusters = np.repeat(np.arange(len(sizes) // 4), 4)
        apart_by = np.exp(noise * rng.standard_normal(len(sizes) // 4))[clusters]
        measured = Measured(group="a", values=line(2.0, 5.0, sizes) * apart_by, clusters=clusters)

        def model(values: Any) -> list[np.ndarray]:
            return [line(values["slope_s"], values["floor_s"], sizes)]

        return least({"slope_s": 1.0, "floor_s": 1.0, "idle": 1.0}, model, [measured])

    def test_finds_what_the_data_hold(self) -> None:
        found = self.fit(np.geomspace(0.1, 1000.0, 80), 0.05)
        assert found.values["slope_s"] == pytest.approx(2.0, rel=found.spread["slope_s"])
        assert found.values["floor_s"] == pytest.approx(5.0, rel=found.spread["floor_s"])
        assert {name for name in found.values if found.identified(name)} == {"slope_s", "floor_s"}

    def test_rows_that_err_together_say_less(self) -> None:
        assert self.fit(np.geomspace(0.1, 1000.0, 80), 0.1).spread["slope_s"] > 2 * 0.1 / np.sqrt(80)

    def test_a_floor_that_no_row_is_short_enough_for_is_not_identified(self) -> None:
        assert not self.fit(np.geomspace(1e4, 1e6, 80), 0.05).identified("floor_s")


def fitted(value: float, spread: float = 0.01) -> Fit:
    return Fit(values={"floor_s": value}, spread={"floor_s": spread}, n=9, median_absolute_error=0.1)


class TestRows:
    def test_a_chip_keeps_its_own_and_a_class_spans_its_chips(self) -> None:
        kind = FittedKind(
            kind="matmul",
            condition="bf16",
            chip_class="gpu",
            together=fitted(3e-6),
            alone={"a100-80g": fitted(4e-6), "h100-sxm": fitted(2e-6, 2 * IDENTIFIED)},
        )
        a100, h100, gpu = kind_rows(kind, apart([kind]))
        assert (a100.name, a100.kind, a100.value) == ("a100-80g", "measured", 4e-6)
        assert (h100.kind, "not identified" in h100.note) == ("estimate", True)
        assert (gpu.kind, gpu.low, gpu.high) == ("estimate", 2e-6, 4e-6)

    def test_what_one_chip_was_timed_for_is_as_wide_as_chips_lie_apart(self) -> None:
        kind = FittedKind(
            kind="matmul", condition="", chip_class="gpu", together=fitted(3e-6), alone={"h100-sxm": fitted(3e-6)}
        )
        gpu = kind_rows(kind, np.log(1.5))[-1]
        assert (gpu.low, gpu.high) == (2e-6, 4.5e-6)

    def test_chips_of_another_maker_say_nothing_of_the_class(self) -> None:
        kind = FittedKind(
            kind="experts", condition="mxfp4", chip_class="", together=fitted(3e-6), alone={"mi355x": fitted(3e-6)}
        )
        assert [row.name for row in kind_rows(kind, np.log(1.5))] == ["mi355x"]

    def test_digits_follow_the_spread(self) -> None:
        assert rounded(0.123456, 0.5) == 0.12
        assert rounded(0.123456, 0.01) == 0.123


def test_a_file_that_times_the_host_is_left_out(tmp_path: Path) -> None:
    for engine, shortest in (("trtllm", "0.004"), ("sglang", "0.005"), ("vllm", "0.2")):
        path = tmp_path / f"kernels_h100_sxm_{engine}_gemm.csv"
        path.write_text(f"{HEADERS['gemm']}\n1,x,bfloat16,1,128,128,{shortest}\n", encoding="utf-8")
    items = [(H100, one) for one in kernel_sets(FACTS, tmp_path)]
    used, hosts = chosen("matmul", items)
    assert ([one.engine for _, one in used], hosts) == (
        ["sglang", "trtllm"],
        ["kernels_h100_sxm_vllm_gemm on h100-sxm"],
    )


class TestShippedRows:
    rows = tuple(row for rows in FACTS.rows.values() for row in rows if "(scripts/calibrate)" in row.source)

    def test_measured_rows_belong_to_what_was_measured(self) -> None:
        for row in self.rows:
            own = row.name in FACTS.machines or row.name.startswith("engine-")
            assert own or row.kind == "estimate", (row.name, row.quantity)

    def test_no_efficiency_above_one(self) -> None:
        for row in self.rows:
            if row.quantity.endswith("efficiency"):
                assert row.high <= 1.0, (row.name, row.quantity)

    def test_rows_carry_the_day_of_the_fit_and_no_more_digits_than_they_have(self) -> None:
        for row in self.rows:
            assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", row.as_of)
            if row.per in ("chip", "class") and row.unit in ("1", "s") and row.quantity != "serving_measurements":
                assert float(f"{row.value:.3g}") == row.value, (row.name, row.quantity)

    def test_a_chip_takes_its_own_kernels_then_those_of_its_die_then_of_its_class(self) -> None:
        def floor(name: str) -> float:
            return chip_from_facts(FACTS, name).calibration.kernel("matmul", "bf16").floor_s

        assert floor("h200-sxm") == floor("h100-sxm") == FACTS.value("h100-sxm", "matmul.floor_s")
        assert floor("b200") == FACTS.value("b200", "matmul.floor_s")
        assert floor("l40s") == FACTS.value("gpu", "matmul.floor_s")


def test_attention_reads_queries_and_writes_outputs() -> None:
    shape: dict[str, Any] = {"heads": 8.0, "kv_heads": 2.0, "key_width": 64.0, "value_width": 32.0, "kv_values": 192.0}
    work = Attention(
        name="a", sequences=3.0, queries=2.0, seen=5.0, pairs=13.0, kv_value_bytes=2.0, prompt=False, **shape
    )
    assert float(work.activation_bytes) == 2 * 3 * 2 * 8 * (64 + 32)


def test_one_row_of_a_users_file_corrects_one_coefficient(tmp_path: Path) -> None:
    """The others stay as the chip inherits them; a set that has a floor of its own replaces the inherited one."""
    header = ",".join(COLUMNS)
    row = dict.fromkeys(COLUMNS, "") | {
        "name": "h200-sxm", "quantity": "matmul.memory_efficiency", "value": "0.5", "unit": "1", "condition": "bf16",
        "kind": "measured", "source": "a test", "as_of": "2026-11-28", "per": "die",
    }  # fmt: skip
    before = chip_from_facts(load(), "h200-sxm").calibration.kernel("matmul", "bf16")
    (tmp_path / "own.csv").write_text(f"{header}\n{','.join(row[name] for name in COLUMNS)}\n", encoding="utf-8")
    after = chip_from_facts(load([tmp_path]), "h200-sxm").calibration.kernel("matmul", "bf16")
    assert before.memory_efficiency != 0.5
    assert after == replace(before, memory_efficiency=0.5)
    floor = row | {"quantity": "matmul.floor_s", "value": "1e-5", "unit": "s"}
    lines = [header, *(",".join(each[name] for name in COLUMNS) for each in (row, floor))]
    (tmp_path / "own.csv").write_text("\n".join(lines), encoding="utf-8")
    whole = chip_from_facts(load([tmp_path]), "h200-sxm").calibration.kernel("matmul", "bf16")
    assert (whole.memory_efficiency, whole.floor_s) == (0.5, 1e-5)
    assert whole.blend != before.blend


def own_rows(directory: Path, *rows: tuple[str, str, str, str]) -> Facts:
    """Facts with rows of (owner, quantity, condition, value) from a user's file."""
    header = ",".join(COLUMNS)
    common = {"kind": "measured", "source": "a test", "as_of": "2026-11-28", "per": "die"}
    cells = [
        dict.fromkeys(COLUMNS, "")
        | common
        | {"name": name, "quantity": quantity, "condition": condition, "value": value}
        | {"unit": "s" if quantity.endswith("_s") else "1"}
        for name, quantity, condition, value in rows
    ]
    lines = [header, *(",".join(each[name] for name in COLUMNS) for each in cells)]
    (directory / "own.csv").write_text("\n".join(lines), encoding="utf-8")
    return load([directory])


@pytest.mark.slow
def test_an_engines_kernels_come_from_the_nearest_owner(tmp_path: Path) -> None:
    """A chip's own set of all engines counts before an engine's set of its die; its single rows correct either."""
    engines = ("h100-sxm", "matmul.floor_s", "int8 vllm", "1e-5"), ("h100-sxm", "matmul.floor_s", "int8", "2e-5")

    def floors(facts: Facts, chip: str) -> tuple[float, float]:
        calibration = chip_from_facts(facts, chip).calibration
        return calibration.kernel("matmul", "int8", "vllm").floor_s, calibration.kernel("matmul", "int8").floor_s

    assert floors(own_rows(tmp_path, *engines), "h200-sxm") == (1e-5, 2e-5)
    own = ("h200-sxm", "matmul.floor_s", "int8", "3e-5")
    assert floors(own_rows(tmp_path, *engines, own), "h200-sxm") == (3e-5, 3e-5)
    single = ("h200-sxm", "matmul.blend", "int8", "7")
    calibration = chip_from_facts(own_rows(tmp_path, *engines, single), "h200-sxm").calibration
    ours = calibration.kernel("matmul", "int8", "vllm")
    assert (ours.floor_s, ours.blend, calibration.kernel("matmul", "int8").blend) == (1e-5, 7.0, 7.0)


def test_an_edit_of_a_precision_is_one_of_every_engine(tmp_path: Path) -> None:
    both = ("h100-sxm", "matmul.floor_s", "int8 vllm", "1e-5"), ("h100-sxm", "matmul.floor_s", "int8", "2e-5")
    changed = own_rows(tmp_path, *both).edited(["h200-sxm.matmul.floor_s[int8]=4e-5"])
    calibration = chip_from_facts(changed, "h200-sxm").calibration
    assert [calibration.kernel("matmul", "int8", engine).floor_s for engine in ("", "vllm", "trtllm")] == [4e-5] * 3
