"""Sparse and latent attention: operations counted by hand from the papers, their kernels' time, published timings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from flashstill.arch import Attention as Grouped
from flashstill.arch import Indexer, LatentAttention
from flashstill.cost import sparse
from flashstill.cost.operations import kernel_kind
from flashstill.facts import load
from flashstill.hardware import Kernel, chip_from_facts
from flashstill.hardware.calibration import MODULES
from flashstill.parallel.local import split_scores, split_small
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.calibration.modules import fit_modules
from flashstill.validation.error_table import compare_kernels
from flashstill.validation.kernel_times import kernel_seconds
from flashstill.workload import Attention, IndexScores, SmallKernels, Widths
from flashstill.workload.mixers import mix
from flashstill.workload.seen import NewTokens

Kind = TypeVar("Kind")
ANCHORS = Path(__file__).resolve().parents[2] / "shared" / "anchors"
SCORER = Indexer(heads=2, head_width=128, top=6)
LATENT = LatentAttention(
    heads=4, query_rank=12, kv_rank=32, rope_width=8, nope_width=16, value_width=16, indexer=SCORER
)


def new(queries: float, past: float, prompt: bool) -> NewTokens:
    """Of three sequences."""
    return NewTokens(sequences=3.0, queries=queries, past=past, prompt=prompt)


def operation(name: str, kind: type[Kind], prompt: bool, queries: float, past: float) -> Kind:
    found = {each.name: each for each in mix(100, LATENT, new(queries, past, prompt), Widths())}[name]
    assert isinstance(found, kind)
    return found


def test_an_indexer_scores_every_cached_token() -> None:
    """DeepSeek-V3.2 (2025), equation 1: 2 heads of 128 in 8 bits with one scale a vector; logits of 32 bits."""
    scores = operation("index scores", IndexScores, True, 10.0, 20.0)
    pairs = 10 * 11 / 2 + 10 * 20
    assert scores.flops == 3 * 2 * 2 * 128 * pairs
    assert scores.kv_bytes == 3 * (20 + 10) * (128 + 4)
    assert scores.activation_bytes == 3 * (10 * 2 * (128 + 4) + 8 * pairs)


def test_a_prompt_that_selects_tokens_is_computed_in_the_latent_space() -> None:
    """Every query reads its own 6 tokens, as one vector of 32 + 8 values for all heads: no keys are expanded."""
    attention = operation("attention", Attention, True, 10.0, 20.0)
    assert (attention.latent, attention.slots, attention.kv_heads) == (True, 6, 1)
    assert attention.flops == 3 * 2 * 4 * (40 + 32) * (10 * 6)
    assert kernel_kind(attention) == "selected-prompt"
    names = [each.name for each in mix(100, LATENT, new(10.0, 20.0, True), Widths())]
    assert "key, value up" not in names
    dense = replace(LATENT, indexer=None)
    names = [each.name for each in mix(100, dense, new(10.0, 20.0, True), Widths())]
    assert "key, value up" in names


def test_the_small_kernels_of_latent_attention() -> None:
    """Norms of 100 + 12 + 40 values, 4 rotary parts of 8, 4 queries of 40 put together; all read and written."""
    small = operation("small kernels", SmallKernels, False, 1.0, 20.0)
    assert small.activation_bytes == 3 * 2 * 2 * ((100 + 12 + 40) + 4 * (8 + 40))
    assert split_small(small, 2.0).activation_bytes == 3 * 2 * 2 * ((100 + 12 + 40) + 2 * (8 + 40))


def test_heads_that_select_for_all_are_not_split() -> None:
    """DeepSeek's indexer runs whole on every chip; MiniMax's has a head per key/value head, split with them."""
    scores = operation("index scores", IndexScores, False, 1.0, 20.0)
    assert split_scores(scores, 2.0).heads == 2
    assert split_scores(replace(scores, shared=False), 2.0).heads == 1
    grouped = Grouped(heads=8, kv_heads=2, head_width=16, indexer=replace(SCORER, weighted=False, shared=False))
    works = {each.name: each for each in mix(100, grouped, new(1.0, 20.0, False), Widths())}
    assert (kernel_kind(works["index scores"]), kernel_kind(works["attention"])) == ("block-scores", "blocks")


def test_slots_without_a_token_and_rows_without_a_head() -> None:
    """4 heads fill one tile of 64 rows; a kernel that pads computes all 6 slots though 2 tokens are there."""
    chip = chip_from_facts(load(), "h100-sxm")
    attention = operation("attention", Attention, False, 1.0, 1.0)
    kernel = Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0)
    timing = sparse.selected_attention(chip, attention, kernel, 1e12, chip.memory)
    tile = chip.calibration.tiling.latent_rows
    assert timing.compute_s == pytest.approx(2 * 3 * tile * 2 * (40 + 32) / 1e12)
    padded = sparse.selected_attention(chip, attention, replace(kernel, padding=1.0), 1e12, chip.memory)
    assert padded.compute_s == pytest.approx(3 * timing.compute_s)
    assert padded.memory_s > timing.memory_s


def test_a_prompt_hides_the_launches_behind_its_work() -> None:
    """The floor of a prompt is the host's; the chip's work of 2 ms hides 1 ms of it."""
    chip = chip_from_facts(load(), "h100-sxm")
    attention = operation("attention", Attention, True, 10.0, 20.0)
    kernel = Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=1e-3)
    work_s = float(sparse.selected_attention(chip, attention, kernel, 1.0, chip.memory).compute_s)
    hidden = sparse.selected_attention(chip, attention, kernel, work_s / 2e-3, chip.memory)
    assert hidden.seconds == pytest.approx(2e-3, rel=0.02)


def test_a_table_of_whole_mixers_is_read(tmp_path: Path) -> None:
    """What the engine chose: a layer may read the tokens of an earlier one, a short context selects none."""
    header = "kernel_source,model,kv_cache_dtype,gemm_type,num_heads,batch_size,isl,step,latency"
    sources = ("sglang_dsa_dense_mha_fa3", "sglang_dsa_indexer_flashmla_kv", "sglang_dsa_skip_indexer_flashmla_kv")
    rows = [f"{source},zai-org/GLM-5,fp8,bfloat16,16,2,64,128,1.5" for source in sources]
    (tmp_path / "kernels_h100_sxm_sglang_dsa_context_module.csv").write_text("\n".join([header, *rows]))
    kinds = []
    for item in kernel_sets(load(), tmp_path):
        assert isinstance(item.work, tuple)
        kinds.append({kernel_kind(work) for work in item.work} - {"matmul"})
        assert (item.cache, item.engine, item.seconds.tolist()) == ("fp8", "sglang", [1.5e-3])
    assert kinds == [
        {"expanded-attention", "selecting-kernels-prompt"},
        {"selected-prompt", "index-scores-prompt", "selecting-kernels"},
        {"selected-prompt", "selecting-kernels"},
    ]


def test_tables_of_latent_attention_alone_are_read(tmp_path: Path) -> None:
    """A decode step over `step` cached tokens in the latent space; a prompt with keys and values of every head."""
    (tmp_path / "kernels_b200_sxm_trtllm_generation_mla.csv").write_text(
        "kv_cache_dtype,num_heads,batch_size,tp_size,step,latency\nfp8,16,8,8,31,0.01"
    )
    (tmp_path / "kernels_b200_sxm_trtllm_context_mla.csv").write_text(
        "kv_cache_dtype,num_heads,batch_size,isl,tp_size,latency\nfp8,16,2,64,8,0.02"
    )
    prompt, step = kernel_sets(load(), tmp_path)
    assert (prompt.kind, step.kind) == ("expanded-attention", "latent-attention")
    assert isinstance(prompt.work, Attention)
    assert isinstance(step.work, Attention)
    assert np.all(prompt.work.flops == 2 * 2 * 16 * (192 + 128) * (64 * 65 / 2))
    assert np.all(step.work.kv_bytes == 8 * (31 + 1) * (512 + 64))


@pytest.mark.slow
def test_a_fit_of_whole_mixers_recovers_their_times(tmp_path: Path) -> None:
    """Times made with 70 us of small kernels are met by a fit that starts elsewhere; sparse kinds stand for others."""
    header = "kernel_source,model,kv_cache_dtype,gemm_type,num_heads,batch_size,step,latency"
    rows = [
        f"sglang_dsa_indexer_fa3,zai-org/GLM-5,bfloat16,bfloat16,16,{b},{n},1" for b in (1, 16, 128) for n in (8, 8192)
    ]
    (tmp_path / "kernels_h100_sxm_sglang_dsa_generation_module.csv").write_text("\n".join([header, *rows]))
    (item,) = kernel_sets(load(), tmp_path)
    chip = chip_from_facts(load(), item.chip)
    kernel = Kernel(compute_efficiency=0.5, memory_efficiency=0.7, floor_s=7e-5)
    rows_of = {(kind, "bf16"): kernel for kind in MODULES}
    made = replace(chip.calibration, kernels={**chip.calibration.kernels, **rows_of})
    timed = replace(item, engine="", seconds=kernel_seconds(replace(chip, calibration=made), replace(item, engine="")))
    fitted = fit_modules([(chip, replace(timed, engine="sglang"))])
    assert {each.together.median_absolute_error < 0.05 for each in fitted} == {True}
    conditions: dict[str, set[str]] = {each.kind: set() for each in fitted}
    for each in fitted:
        conditions[each.kind].add(each.condition)
    assert conditions == {kind: {"bf16", "bf16 sglang"} for kind in ("selected", "index-scores", "selecting-kernels")}


@pytest.mark.slow
def test_published_timings_of_whole_mixers(tmp_path: Path) -> None:
    """MLA, DSA and MSA: 20 % at the median over the tables of each."""
    files = list(ANCHORS.glob("kernels_*_module.csv"))
    if not files:
        pytest.skip(f"no anchors in {ANCHORS}")
    for path in files:
        (tmp_path / path.name).symlink_to(path)
    errors: dict[str, list[np.ndarray]] = {}
    for comparison in compare_kernels(load(), tmp_path):
        errors.setdefault(comparison.quantity.partition(" ")[0], []).append(np.abs(comparison.errors))
    assert set(errors) == {"MLA", "DSA", "MSA"}
    for kind, parts in errors.items():
        assert np.median(np.concatenate(parts)) < 0.2, kind
