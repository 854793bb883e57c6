"""Anchor files of single kernels: rows -> operations as arrays, with measured seconds.

The file name gives the chip (kernels_<chip>_...) and the columns the kernel kind, so a file for another chip needs no
code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from flashstill.cost import make_conditions, uniform
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.validation.anchors.attention import COLUMNS as ATTENTION
from flashstill.validation.anchors.attention import attention, one_token
from flashstill.validation.anchors.collectives import collective_table, custom_all_reduce, library
from flashstill.validation.anchors.expert_exchanges import layer, low_latency, normal
from flashstill.validation.anchors.experts import COLUMNS as EXPERTS
from flashstill.validation.anchors.experts import experts
from flashstill.validation.anchors.modules import block_selection, latent_modules, latent_prompts
from flashstill.validation.anchors.recurrences import channel_decays, delta_rules, state_spaces
from flashstill.validation.anchors.tables import (
    MILLI,
    PRECISIONS,
    QUANTISATION,
    KernelSet,
    Rows,
    column,
    engine_in_name,
    read_rows,
    split,
)
from flashstill.workload import Operation, Widths, matmul

LATENT_RANK, ROPE_WIDTH = 512.0, 64.0
"""dimensions of the latent attention measured in the files (DeepSeek-V2 and V3)"""


def chip_in_name(facts: Facts, name: str) -> str | None:
    """The known chip named after `kernels_` in a file name, or None."""
    words = name.removeprefix("kernels_").split("_")
    for count in (3, 2, 1):
        machine = facts.machines.get(facts.chip_name("-".join(words[:count])) or "")
        if machine:
            return machine.name
    return None


def kernel_sets(facts: Facts, directory: Path) -> Iterator[KernelSet]:
    """Kernel sets from every kernel file of a directory with known columns."""
    for path in sorted(directory.glob("kernels_*.csv")):
        name = chip_in_name(facts, path.stem)
        if name is None:
            continue
        chip = chip_from_facts(facts, name)
        rows = read_rows(path)
        for columns, make in _READERS:
            if rows and columns <= rows[0].keys() and not path.stem.endswith(_UNREADABLE):
                yield from make(path.stem, chip, rows)
                break
    path = directory / "collectives_gpu.csv"
    if path.exists():
        yield from collective_table(facts, read_rows(path))


def _widths(chip: Chip, precision: str) -> Widths:
    """Bytes per value by role, as the predictor uses them with everything in one format."""
    return make_conditions(chip, uniform(precision)).widths


def _gemms(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    for dtype, group in _by_format(rows):
        if dtype not in PRECISIONS:
            continue
        precision = PRECISIONS[dtype]
        m, n, k = (column(group, name) for name in ("m", "n", "k"))
        yield _kernel_set(anchor, chip, "matmul", precision, matmul("gemm", m, n, k, _widths(chip, precision)), group)


def _by_format(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """Rows by format of the product; a table without the column holds bf16 only, whose constant columns were cut."""
    if "gemm_dtype" not in rows[0]:
        yield "bfloat16", rows
        return
    for (dtype,), group in split(rows, "gemm_dtype"):
        yield dtype, group


def _quantisations(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Quantisation of m x k activations to 8 bits with a scale that is known."""
    m, k = (column(rows, name) for name in ("m", "k"))
    work = matmul("gemm", m, np.zeros_like(m), k, _widths(chip, "fp8"))
    yield replace(_kernel_set(anchor, chip, "matmul", "fp8", work, rows), timed=QUANTISATION)


def _latent_attention(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    for (dtype,), group in split(rows, "kv_cache_dtype"):
        if "latency" not in group[0] or not group[0].get("num_heads"):
            continue
        heads = column(group, "num_heads")
        work = one_token(
            group,
            heads=heads,
            kv_heads=np.ones_like(heads),
            key_width=LATENT_RANK + ROPE_WIDTH,
            value_width=LATENT_RANK,
            kv_values=np.full_like(heads, LATENT_RANK + ROPE_WIDTH),
            kv_value_bytes=_widths(chip, PRECISIONS[dtype]).kv,
            latent=True,
        )
        yield _kernel_set(anchor, chip, "latent-attention", PRECISIONS[dtype], work, group)


def _kernel_set(anchor: str, chip: Chip, kind: str, precision: str, work: Operation, rows: Rows) -> KernelSet:
    return KernelSet(
        anchor=anchor,
        chip=chip.name,
        kind=kind,
        precision=precision,
        engine=engine_in_name(anchor),
        work=work,
        seconds=column(rows, "latency") * MILLI,
    )


_UNREADABLE = ("computescale",)
"""differences of two timings: 16384 x 7168 values, 235 MB, would be read in 4 us"""
_READERS: Sequence[tuple[set[str], Callable[[str, Chip, Rows], Iterator[KernelSet]]]] = (
    ({"m", "n", "k", "latency"}, _gemms),
    ({"m", "k", "latency"}, _quantisations),
    ({"mla_dtype", "kv_cache_dtype", "num_heads", "tp_size", "step", "latency"}, _latent_attention),
    (ATTENTION, attention),
    (EXPERTS, experts),
    ({"num_k_heads", "num_v_heads", "d_model", "phase", "latency"}, delta_rules),
    ({"num_k_heads", "num_v_heads", "phase", "latency"}, channel_decays),
    ({"gemm_type", "kv_cache_dtype", "model", "num_heads", "step", "latency"}, latent_modules),
    ({"gemm_type", "kv_cache_dtype", "num_heads", "kernel_source", "latency"}, latent_modules),
    ({"gemm_type", "kv_cache_dtype", "num_heads", "step", "latency"}, block_selection),
    ({"kv_cache_dtype", "num_heads", "tp_size", "step", "latency"}, _latent_attention),
    ({"kv_cache_dtype", "num_heads", "tp_size", "isl", "latency"}, latent_prompts),
    ({"nheads", "n_groups", "d_state", "phase", "latency"}, state_spaces),
    ({"node_num", "dispatch_avg_t_us", "combine_avg_t_us"}, low_latency),
    ({"dispatch_sms", "dispatch_transmit_us", "combine_sms", "combine_transmit_us"}, normal),
    ({"comm_backend", "phase", "topk", "num_tokens", "latency"}, layer),
    ({"op_name", "nccl_dtype", "message_size", "num_gpus"}, library),
    ({"message_size", "num_gpus", "latency"}, custom_all_reduce),
)
