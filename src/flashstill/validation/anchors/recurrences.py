"""Anchor files of recurrent mixers: gated delta nets, Kimi delta attention and Mamba 2.

The operations are those that a prediction builds for one mixer (flashstill.workload.recurrence); each row times one of
its kernels on one chip's share of the heads.
"""

from __future__ import annotations

from collections.abc import Iterator

from flashstill.arch import LinearAttention
from flashstill.arch.recurrent import gated_delta_net, kimi_delta
from flashstill.arch.state_space import mamba2
from flashstill.hardware import Chip
from flashstill.validation.anchors.tables import MILLI, KernelSet, Rows, column, engine_in_name, split
from flashstill.workload import State, Widths
from flashstill.workload.recurrence import convolution, matrix_recurrence
from flashstill.workload.seen import NewTokens

HEAD_WIDTH, MAMBA_HEAD_WIDTH, TAPS = 128, 64, 4
"""widths of keys and values of Qwen3.5 and Kimi Linear, of a Mamba head of Nemotron-H, and taps of all three"""
_UNUSED_WIDTH = 1024
"""a model width for the constructors; the kernels timed do not depend on it"""
CONVOLUTIONS = "causal_conv1d"


def delta_rules(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Gated delta nets: a scan of the heads by key and value heads per chip."""
    for (keys, values, source, phase), group in split(rows, "num_k_heads", "num_v_heads", "kernel_source", "phase"):
        mixer = gated_delta_net(
            width=_UNUSED_WIDTH,
            key_heads=int(keys),
            key_width=HEAD_WIDTH,
            value_heads=int(values),
            value_width=HEAD_WIDTH,
            taps=TAPS,
        )
        yield _timed(anchor, chip, mixer, source, phase, group)


def channel_decays(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Kimi delta attention, in prompts, decode steps and the verification of drafted tokens."""
    for (heads, source, phase), group in split(rows, "num_v_heads", "kernel_source", "phase"):
        mixer = kimi_delta(width=_UNUSED_WIDTH, heads=int(heads), head_width=HEAD_WIDTH, taps=TAPS)
        yield _timed(anchor, chip, mixer, source, phase, group)


def state_spaces(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Mamba 2; of its kernels only the convolutions are timed."""
    for (heads, groups, state, source, phase), group in split(
        rows, "nheads", "n_groups", "d_state", "kernel_source", "phase"
    ):
        mixer = mamba2(
            width=_UNUSED_WIDTH,
            heads=int(heads),
            head_width=MAMBA_HEAD_WIDTH,
            groups=int(groups),
            state_width=int(state),
            taps=TAPS,
            conv_bias=True,
            bias=False,
        )
        yield _timed(anchor, chip, mixer, source, phase, group)


def _timed(anchor: str, chip: Chip, mixer: LinearAttention, source: str, phase: str, rows: Rows) -> KernelSet:
    batch, length, prompt = column(rows, "batch_size"), column(rows, "seq_len"), phase == "context"
    assert mixer.matrix_state is not None
    new = NewTokens(sequences=batch, queries=length, prompt=prompt)
    work: State
    if source.startswith(CONVOLUTIONS):
        work = convolution(mixer, new, Widths())
    else:
        work = matrix_recurrence(mixer.matrix_state, new, Widths())
    return KernelSet(
        anchor=anchor,
        chip=chip.name,
        kind=work.kernel,
        precision="bf16",
        engine=engine_in_name(anchor),
        work=work,
        seconds=column(rows, "latency") * MILLI,
    )
