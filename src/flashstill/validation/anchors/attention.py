"""Anchor files of attention kernels, of one new token or of a prompt: rows -> operations, by head width and window.

A row belongs to its engine's kernels, save those of a kernel that the engine takes for some heads only (Triton's at
widths that FlashAttention does not have, TensorRT-LLM's for more than 32 query heads a cached head); such rows are
named after that kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from flashstill.cost import make_conditions, uniform
from flashstill.hardware import Chip
from flashstill.validation.anchors.tables import MILLI, PRECISIONS, KernelSet, Rows, column, engine_in_name, split
from flashstill.workload import Attention
from flashstill.workload.seen import attended

COLUMNS = {"num_key_value_heads", "num_heads", "batch_size", "latency"}
_USUAL = {"kv_cache_dtype": "bfloat16", "head_dim": "128", "window_size": "0", "step": "0"}
"""what tables without a column were timed with"""
_MOST_GROUPED = 32.0
"""query heads a cached head that TensorRT-LLM's XQA kernels take; more run as multi-head attention"""
_OTHERS = {"triton": "triton", "fa4": "fa4", "torch_flow_flashinfer": "flashinfer", "trtllmdecode": "trtllm-decode"}
"""part of `kernel_source` -> kernel that an engine takes for some heads only"""


def attention(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """Sets of attention kernels of a table: of prompts if it says so or has no row beyond them."""
    prompt = "context" in anchor or all(row.get("step") == "0" for row in rows)
    filled: Rows = []
    for row in rows:
        for name, value in _USUAL.items():
            row.setdefault(name, value)
        row["attn_dtype"] = row.get("attn_dtype") or row["kv_cache_dtype"]
        row["kernels"] = _kernels(anchor, row, prompt)
        same = row["attn_dtype"] == row["kv_cache_dtype"] or not prompt
        if same and row["kv_cache_dtype"] in PRECISIONS:
            filled.append(row)
    for names, group in split(filled, "kv_cache_dtype", "kernels", "head_dim", "window_size"):
        dtype, kernels, width, window = names
        yield KernelSet(
            anchor=anchor,
            chip=chip.name,
            kind="prompt-attention" if prompt else "decode-attention",
            precision=PRECISIONS[dtype],
            engine=kernels,
            work=_work(chip, group, PRECISIONS[dtype], float(width), float(window), prompt),
            seconds=column(group, "latency") * MILLI,
        )


def _work(chip: Chip, group: Rows, precision: str, width: float, window: float, prompt: bool) -> Attention:
    cached = column(group, "num_key_value_heads")
    shape: dict[str, Any] = {
        "heads": column(group, "num_heads"),
        "kv_heads": cached,
        "key_width": width,
        "value_width": width,
        "kv_values": cached * 2.0 * width,
        "kv_value_bytes": make_conditions(chip, uniform(precision, precision)).widths.kv,
    }
    if not prompt:
        return one_token(group, window, **shape)
    length = column(group, "isl")
    seen, pairs = attended(length, np.zeros_like(length), int(window) or None, True)
    return Attention(
        name="attention",
        sequences=column(group, "batch_size"),
        queries=length,
        seen=seen,
        pairs=pairs,
        prompt=True,
        **shape,
    )


def one_token(group: Rows, window: float = 0.0, **shape: Any) -> Attention:
    """Attention of one new token per sequence; each row has `step` - 1 tokens cached beyond its prompt of `isl`."""
    batch, seen = column(group, "batch_size"), column(group, "step")
    if "isl" in group[0]:
        seen = seen + column(group, "isl") - 1.0
    if window:
        seen = np.minimum(seen, window)
    return Attention(
        name="attention",
        sequences=batch,
        queries=np.ones_like(batch),
        seen=seen,
        pairs=seen + 1.0,
        prompt=False,
        **shape,
    )


def _kernels(anchor: str, row: dict[str, str], prompt: bool) -> str:
    """The engine whose kernel a row timed, or the kernel if the engine takes it for some heads only."""
    engine, source = engine_in_name(anchor), row.get("kernel_source", "")
    for part, name in _OTHERS.items():
        if part in source and (prompt or name != "trtllm-decode"):
            return name
    if source == "fa3" and row["head_dim"] == "192":
        return "fa3-192"
    grouped = float(row["num_heads"]) / float(row["num_key_value_heads"])
    return "mmha" if engine == "trtllm" and not prompt and grouped > _MOST_GROUPED else engine
