"""Recurrent mixers: FLOPs and bytes counted by hand from the papers, their kernels' time, and the published timings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashstill.arch.recurrent import gated_delta_net, kimi_delta
from flashstill.arch.state_space import mamba2
from flashstill.cost import kernels
from flashstill.facts import load
from flashstill.hardware import Kernel, chip_from_facts
from flashstill.parallel.local import split_state
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.error_table import compare_kernels
from flashstill.workload import State, Widths
from flashstill.workload.recurrence import CHANNEL_SCAN, SCAN, UPDATE, recurrent, scan_flops
from flashstill.workload.seen import NewTokens
from flashstill.workload.stored_bytes import state_bytes

ANCHORS = Path(__file__).resolve().parents[2] / "shared" / "anchors"
NET = gated_delta_net(width=64, key_heads=2, key_width=8, value_heads=4, value_width=16, taps=4)
"""96 channels: 2 x 2 x 8 of queries and keys, 4 x 16 of values; 4 states of 8 x 16"""


def test_one_token_of_a_gated_delta_net() -> None:
    """arXiv 2412.06464, equation 10: decay 1, read 2, outer product 2 and read-out 2 FLOPs a value of state."""
    into, convolved, state, out = recurrent(64, NET, NewTokens(sequences=3.0, queries=1.0, prompt=False), Widths())
    assert into.flops == 2 * 3 * (96 + 64 + 2 * 4) * 64
    assert convolved.flops == 2 * 4 * 96 * 3
    assert convolved.kv_bytes == 2 * 3 * (3 * 96) * 2
    assert convolved.activation_bytes == 2 * 96 * 3 * 2
    assert convolved.weight_bytes == 4 * 96 * 2
    assert state.flops == 7 * 4 * 8 * 16 * 3
    assert state.kv_bytes == 2 * 3 * (4 * 8 * 16) * 4
    assert state.activation_bytes == 3 * 2 * (2 * (2 * 8 + 4 * 16))
    assert (out.flops, out.weight_bytes) == (2 * 3 * 64 * 64, 2 * 64 * 64)
    weights = sum(operation.weight_bytes for operation in (into, convolved, state, out))
    assert weights == pytest.approx(2 * NET.weights)


def test_a_prompt_is_scanned_in_chunks() -> None:
    """Of a chunk of 64 (section 3.3): scores of keys and queries, their inverse, what it weighs, and the states."""
    state = recurrent(64, NET, NewTokens(sequences=2.0, queries=100.0, prompt=True), Widths())[2]
    assert isinstance(state, State)
    shared = 2 * (2 * 64 * 64 * 8) * 2  # K K^T and Q K^T, for each of 2 key heads
    corrected = 2 * 64 * 64 * 8 + 2 * 64 * 64 * 16 + 2 * 64**3 / 3  # T K, T V, and T itself, by substitution
    of_states = 3 * 2 * 64 * 8 * 16  # W S, Q S, K^T V
    weighed = 2 * 64 * 64 * 16  # scores times values
    assert state.flops == pytest.approx(200 * (shared + 4 * (corrected + of_states + weighed)) / 64)
    assert state.kv_bytes == 2 * 2 * 512 * 4
    assert (state.kernel, state.chunks, state.blocks) == (SCAN, 2.0, 4)


def test_mamba_2_and_kimi_delta_attention() -> None:
    """Mamba 2 (arXiv 2405.21060, section 6) corrects nothing; Kimi's decay has a rate per channel, and 3 kernels."""
    space = mamba2(width=32, heads=4, head_width=16, groups=1, state_width=8, taps=4, conv_bias=True, bias=False)
    assert space.matrix_state is not None
    assert scan_flops(space.matrix_state) == pytest.approx(4 * (4 * 8 * 16 + 2 * 256 * 16) + 2 * 256 * 8)
    kimi = kimi_delta(width=64, heads=2, head_width=8, taps=4)
    _, convolved, state, _ = recurrent(64, kimi, NewTokens(sequences=1.0, queries=64.0, prompt=True), Widths())
    assert isinstance(state, State)
    assert (convolved.count, state.kernel) == (3, CHANNEL_SCAN)
    assert 3 * convolved.flops == 2 * 4 * (3 * 2 * 8) * 64


def test_verified_drafts_each_write_the_state() -> None:
    """A rejected draft must leave the state before it: one read and, for 4 tokens, 4 writes."""
    one, four = (
        recurrent(64, NET, NewTokens(sequences=3.0, queries=queries, prompt=False), Widths())[2]
        for queries in (1.0, 4.0)
    )
    assert isinstance(four, State)
    assert four.kv_bytes / one.kv_bytes == 5 / 2
    assert (four.kernel, four.chunks) == (UPDATE, 4.0)


def test_states_are_kept_in_32_bits() -> None:
    """The matrices take 4 bytes a value, the last taps of the convolution 2."""
    assert state_bytes(NET, Widths()) == 512 * 4 + 3 * 96 * 2


def test_a_shard_has_its_share_of_the_heads() -> None:
    """Two chips: half the heads, states, FLOPs and bytes each."""
    state = recurrent(64, NET, NewTokens(sequences=2.0, queries=100.0, prompt=True), Widths())[2]
    assert isinstance(state, State)
    half = split_state(state, 2.0)
    assert (half.blocks, half.flops, half.kv_bytes) == (2, state.flops / 2, state.kv_bytes / 2)


def test_heads_run_in_waves_and_chunks_one_after_another() -> None:
    """132 heads take one wave of 132 units, 133 take two; twice the chunks take twice the time."""
    chip = chip_from_facts(load(), "h100-sxm")
    kernel = Kernel(compute_efficiency=1.0, memory_efficiency=1.0, floor_s=0.0, chunk_s=1e-6)
    scan = recurrent(64, NET, NewTokens(sequences=1.0, queries=640.0, prompt=True), Widths())[2]
    assert isinstance(scan, State)

    def seconds(blocks: float, chunks: float) -> float:
        changed = replace(scan, blocks=blocks, chunks=chunks)
        return float(kernels.recurrence(chip, changed, kernel, 1e15, 0.0).seconds)

    assert seconds(132.0, 10.0) == pytest.approx(10e-6)
    assert seconds(133.0, 10.0) == pytest.approx(20e-6)
    assert seconds(132.0, 20.0) == pytest.approx(20e-6)


def test_a_table_of_recurrent_kernels_is_read(tmp_path: Path) -> None:
    """A row of a scan becomes the operation of a prediction; the engine is in the file's name."""
    header = "kernel_source,phase,batch_size,seq_len,num_tokens,d_model,num_k_heads,num_v_heads,latency"
    rows = [
        "chunk_gated_delta_rule,context,2,128,256,1024,16,32,0.05",
        "causal_conv1d_update,generation,4,1,4,1024,16,32,0.002",
    ]
    (tmp_path / "kernels_h100_sxm_sglang_gdn.csv").write_text("\n".join([header, *rows]))
    update, scan = sorted(kernel_sets(load(), tmp_path), key=lambda item: item.kind)
    assert (update.kind, scan.kind, scan.engine, scan.seconds.tolist()) == (
        "convolution-update",
        SCAN,
        "sglang",
        pytest.approx([5e-5]),
    )
    assert isinstance(scan.work, State)
    assert np.all(scan.work.kv_bytes == 2 * 2 * 32 * 128 * 128 * 4)


@pytest.mark.slow
def test_published_timings_of_recurrent_kernels(tmp_path: Path) -> None:
    """Gated delta nets, Kimi delta attention and the convolutions of Mamba 2: 20 % at the median in every table."""
    files = [path for word in ("gdn", "kda", "mamba2") for path in ANCHORS.glob(f"kernels_*_{word}.csv")]
    if not files:
        pytest.skip(f"no anchors in {ANCHORS}")
    for path in files:
        (tmp_path / path.name).symlink_to(path)
    for comparison in compare_kernels(load(), tmp_path):
        assert np.median(np.abs(comparison.errors)) < 0.2, (comparison.anchor, comparison.quantity)
