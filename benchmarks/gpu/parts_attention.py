"""Attention of prompts and of one new token by torch's backends, heads of real models, cache rotated beyond L2."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from result_rows import Budget, Results
from stopwatch import DRAWN, MEASURED, Stopwatch, calls_for, copies_for
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

PROMPT, TOKEN = "context_attention", "generation_attention"
SHAPE = ("num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype", "window_size")
PROMPT_COLUMNS = ("kernel_source", "batch_size", "isl", *SHAPE, *MEASURED, *DRAWN)
TOKEN_COLUMNS = ("kernel_source", "batch_size", *SHAPE, "step", *MEASURED, *DRAWN)
HEADS = ((32, 8, 128), (8, 1, 128), (64, 8, 128), (9, 3, 64))
"""(heads, cached heads, width): Llama 3.1 8B; 70B over 8 GPUs; 70B and Qwen3-32B; SmolLM2 135M"""
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
MOST_CACHE_BYTES = 20e9
Point = tuple[str, tuple[int, int, int], int, int]


def measure(results: Results, watch: Stopwatch, budget: Budget) -> None:
    """The middle of both planes by flash and cuDNN, then joules, then the rest."""
    if watch.tiny:
        prompts: list[Point] = [("flash", (4, 2, 16), 1, 32), ("cudnn", (4, 2, 16), 1, 32)]
        tokens: list[Point] = [("flash", (4, 2, 16), 2, 32), ("cudnn", (4, 2, 16), 2, 32)]
        _points(results, watch, budget, prompts, tokens, metered=False)
        _points(results, watch, budget, prompts[:1], tokens[:1], metered=True)
        return
    near, far = (1024, 8192), (256, 4096, 16384, 128, 2048)
    batches, contexts = (1, 16, 64), (1024, 8192)
    for names in (("flash",), ("cudnn",)):
        _points(
            results, watch, budget,
            [(name, heads, 1, length) for name in names for length in near for heads in HEADS],
            [(name, heads, b, c) for name in names for c in contexts for b in batches for heads in HEADS],
            metered=False,
        )  # fmt: skip
    _points(
        results, watch, budget,
        [("flash", HEADS[0], 1, 8192), ("flash", HEADS[0], 1, 1024), ("cudnn", HEADS[0], 1, 8192)],
        [("flash", HEADS[0], b, c) for b, c in ((64, 8192), (1, 8192), (16, 1024), (64, 1024))]
        + [("flash", HEADS[1], 64, 8192)],
        metered=True,
    )  # fmt: skip
    more = ((1, 128), (1, 32768), (256, 1024), (16, 128), (64, 128), (256, 128), (256, 4096), (4, 4096), (8, 32768))
    for name in BACKENDS:
        _points(
            results, watch, budget,
            [(name, heads, b, length) for length in far for b in (1, 8) if b * length <= 16384 for heads in HEADS[:3]],
            [(name, heads, b, c) for b, c in more for heads in HEADS[:3]],
            metered=False,
        )  # fmt: skip


def _points(
    results: Results, watch: Stopwatch, budget: Budget, prompts: list[Point], tokens: list[Point], metered: bool
) -> None:
    for table, points in ((TOKEN, tokens), (PROMPT, prompts)):
        for point in points:
            if budget.spent:
                return
            results.attempt(table, f"{point}", partial(_point, results, watch, table, point, metered))


def _point(results: Results, watch: Stopwatch, table: str, point: Point, metered: bool) -> None:
    """Random queries, keys and values; (batch, heads, positions, width)."""
    backend, (heads, cached, width), batch, length = point
    prompt = table == PROMPT
    nbytes = 2.0 * 2 * batch * length * cached * width
    if nbytes > MOST_CACHE_BYTES:
        return
    copies = copies_for(nbytes, 32) if watch.cuda else 2
    made: dict[str, Any] = {"device": watch.device, "dtype": torch.bfloat16}
    caches = [torch.randn(2, batch, cached, length, width, **made) for _ in range(copies)]
    query = torch.randn(batch, heads, length if prompt else 1, width, **made)
    flops = 4.0 * batch * heads * width * (length * length / 2 if prompt else length)
    guess = max(6e-6, nbytes / 3e12, flops / 5e14)
    calls = calls_for(copies, guess) if watch.cuda else 2

    def work() -> None:
        with sdpa_kernel(BACKENDS[backend]):
            for call in range(calls):
                keys, values = caches[call % copies]
                scaled_dot_product_attention(query, keys, values, is_causal=prompt, enable_gqa=heads != cached)

    step = watch.captured(work)
    timing = watch.timed(step, calls)
    drawn = watch.sustained(step, calls, timing.seconds).cells() if metered else {}
    cells: dict[str, Any] = {
        "kernel_source": f"torch scaled_dot_product_attention, {backend}", "batch_size": batch, "num_heads": heads,
        "num_key_value_heads": cached, "head_dim": width, "kv_cache_dtype": "bfloat16", "window_size": 0,
    }  # fmt: skip
    cells |= {"isl": length} if prompt else {"step": length - 1}
    results.add(table, PROMPT_COLUMNS if prompt else TOKEN_COLUMNS, cells | timing.cells() | drawn)
