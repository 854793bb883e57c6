"""The project's own measurements on GPUs as anchors: read by their columns, predicted without an engine, labelled."""

from __future__ import annotations

import csv
import gzip
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.operations import operation_seconds
from flashstill.cost.phases import decode_step
from flashstill.errors import BadInput, FlashstillError
from flashstill.facts import Facts, load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.software import software_on
from flashstill.parallel import Layout
from flashstill.validation.anchors.packed import unpacked
from flashstill.validation.comparison import OWN, Comparison
from flashstill.validation.own_gpu import TABLES, compare_own
from flashstill.workload import matmul

COMMON: dict[str, Any] = {"device": "NVIDIA H200", "date": "2026-11-29", "version": "2.11.0", "joules": "", "watts": ""}
GEMM = {
    **COMMON,
    "kernel_source": "linear",
    "gemm_dtype": "bfloat16",
    "m": 8192,
    "n": 7168,
    "k": 8192,
    "sustained": 1.5,
}
HEADS = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "kv_cache_dtype": "bfloat16", "window_size": 0}
ROWS: dict[str, list[dict[str, Any]]] = {
    "gemm": [
        {**GEMM, "latency": 1.3, "joules": 1.05, "watts": 700.0},
        {**GEMM, "latency": 0.03, "m": 1},
        {**GEMM, "latency": 0.02, "m": 1, "gemm_dtype": "fp8"},
    ],
    "generation_attention": [
        {**COMMON, **HEADS, "kernel_source": "sdpa, flash", "batch_size": 64, "step": 8191, "latency": 0.6},
        {**COMMON, **HEADS, "kernel_source": "sdpa, cudnn", "batch_size": 64, "step": 8191, "latency": 0.7},
    ],
    "context_attention": [
        {**COMMON, **HEADS, "kernel_source": "sdpa, flash", "batch_size": 1, "isl": 8192, "latency": 1.2}
    ],
    "moe": [
        {**COMMON, "kernel_source": "torch grouped_mm, two products", "num_tokens": 1024, "hidden_size": 2048,
         "inter_size": 768, "topk": 8, "num_experts": 128, "distinct": 128, "latency": 0.5}
    ],
    "decode": [
        {**COMMON, "kernel_source": "a CUDA graph", "model": "smollm2-135m", "phase": "decode", "batch_size": 64,
         "context": 1024, "latency": 1.4, "joules_per_token": 0.006},
        {**COMMON, "kernel_source": "a CUDA graph", "model": "tiny-moe", "phase": "decode", "batch_size": 64,
         "context": 1024, "latency": 1.9, "joules_per_token": ""},
        {**COMMON, "kernel_source": "eager", "model": "smollm2-135m", "phase": "prefill", "batch_size": 1,
         "context": 1024, "latency": 9.0, "joules_per_token": ""},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def facts() -> Facts:
    return load()


def _write(folder: Path, tables: dict[str, list[dict[str, Any]]], **changed: Any) -> Path:
    (folder / "own").mkdir(exist_ok=True)
    for table, rows in tables.items():
        with (folder / "own" / f"{table}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows([{**row, **changed} for row in rows])
    return folder


def _of(found: list[Comparison], anchor: str, quantity: str) -> Comparison:
    return next(each for each in found if (each.anchor, each.quantity) == (f"own/{anchor}", quantity))


def test_every_table_is_compared_and_labelled(facts: Facts, tmp_path: Path) -> None:
    found = compare_own(facts, _write(tmp_path, ROWS))
    assert {each.anchor for each in found} == {f"own/{table}" for table in TABLES}
    assert {each.fitted for each in found} == {OWN}
    assert {name for each in found for name in each.chip} == {"h200-sxm"}
    assert all(np.isfinite(each.predicted).all() and (each.predicted > 0).all() for each in found)
    assert sum(len(each.measured) for each in found) == 3 + 1 + 2 + 1 + 1 + 3 + 1  # rows, and two with joules
    assert set(_of(found, "generation_attention", "seconds").engine) == {"torch, flash", "torch, cudnn"}


def test_a_prediction_is_that_of_kernels_alone(facts: Facts, tmp_path: Path) -> None:
    found = compare_own(facts, _write(tmp_path, ROWS))
    chip = chip_from_facts(facts, "h200-sxm")
    conditions = make_conditions(chip, uniform("bf16"), software=software_on(facts, "none", chip.maker_class))
    large = _of(found, "gemm", "seconds, 128 rows and more")
    alone = replace(conditions, software=replace(conditions.software, matmul_ratio=1.0))
    want = operation_seconds(alone, matmul("gemm", 8192.0, 7168.0, 8192.0, conditions.widths)).seconds
    assert large.predicted == pytest.approx(float(want))
    assert large.measured == pytest.approx(1.3e-3)
    step = decode_step(load_architecture("smollm2-135m"), conditions, Layout(), 64.0, 1024.0)
    steps = _of(found, "decode", "seconds of a step")
    assert dict(zip(steps.engine, steps.predicted, strict=True))["smollm2-135m, CUDA graph"] == pytest.approx(
        step.seconds
    )
    assert _of(found, "decode", "joules per token").predicted == pytest.approx(step.total_joules / 64.0)


def test_joules_of_a_product_are_predicted_at_its_measured_rate(facts: Facts, tmp_path: Path) -> None:
    rows = {"gemm": ROWS["gemm"][:1]}
    joules = "joules at the measured seconds"
    chip = chip_from_facts(facts, "h200-sxm")
    found = [
        float(_of(compare_own(facts, _write(tmp_path, rows, sustained=ms)), "gemm", joules).predicted[0])
        for ms in (0.5, 4.0, 5.0)
    ]
    assert found[0] == pytest.approx(0.5e-3 * chip.power_limit_w)  # no product draws more than the limit
    assert found[2] - found[1] == pytest.approx(1e-3 * chip.static_w)


def test_the_device_of_the_row_names_the_chip(facts: Facts, tmp_path: Path) -> None:
    rows = {"gemm": ROWS["gemm"]}
    assert {each.chip[0] for each in compare_own(facts, _write(tmp_path, rows, device="NVIDIA B200"))} == {"b200"}
    with pytest.raises(FlashstillError, match="cpu"):
        compare_own(facts, _write(tmp_path, rows, device="CPU (rehearsal)"))


def test_a_table_without_end_is_refused(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="more than the 20,000"):
        compare_own(facts, _write(tmp_path, {"gemm": ROWS["gemm"][:1] * 20_001}))


def test_a_phase_that_is_not_known_is_refused(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither decode nor prefill"):
        compare_own(facts, _write(tmp_path, {"decode": ROWS["decode"][:1]}, phase="verify"))


def test_the_page_has_the_tables_and_the_picture_of_the_rows() -> None:
    docs = Path(__file__).parents[1] / "docs"
    page = (docs / "gpu.md").read_text(encoding="utf-8")
    renewed = runpy.run_path(str(docs.parent / "scripts" / "gpu-page"))["renewed"]
    assert renewed(page) == (page, (docs / "gpu.svg").read_text(encoding="utf-8")), "run scripts/gpu-page"


def test_compressed_rows_of_the_subdirectory_are_unpacked_too(facts: Facts, tmp_path: Path) -> None:
    path = _write(tmp_path, {"gemm": ROWS["gemm"]}) / "own" / "gemm.csv"
    (tmp_path / "own" / "gemm.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    with unpacked(tmp_path) as folder:
        assert len(_of(compare_own(facts, folder), "gemm", "seconds, up to 64 rows").measured) == 2
