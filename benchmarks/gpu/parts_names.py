"""Names of the kernels that torch launched: for products, for attention and in a decoding step, by torch's profiler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from parts_attention import BACKENDS
from parts_power import put
from result_rows import Budget, Results
from stopwatch import Stopwatch
from torch.nn.attention import sdpa_kernel

ROWS = (1, 64, 8192)


def measure(results: Results, watch: Stopwatch, budget: Budget) -> None:
    """A row of the board's table for each kernel: its name, and its share of the time of what was profiled."""
    made: dict[str, Any] = {"device": watch.device, "dtype": torch.bfloat16}
    n, k = (32, 64) if watch.tiny else (7168, 8192)
    rows = (1,) if watch.tiny else ROWS
    weight = torch.randn(n, k, **made)
    work: dict[str, Callable[[], object]] = {}
    for m in rows:
        given = torch.randn(m, k, **made)
        work[f"bf16 m={m} n={n} k={k}"] = partial(torch.nn.functional.linear, given, weight)
        work[f"fp8 m={m} n={n} k={k}"] = partial(_fp8, given, weight)
    keys = torch.randn(1 if watch.tiny else 16, 8, 32 if watch.tiny else 1024, 128, **made)
    for positions, prompt in ((1, False), (keys.shape[2], True)):
        query = torch.randn(keys.shape[0], 32, positions, 128, **made)
        for name, backend in BACKENDS.items():
            work[f"attention {name}, {positions} new"] = partial(_attention, query, keys, prompt, backend)
        work[f"attention by torch's choice, {positions} new"] = partial(_attention, query, keys, prompt, None)
    for point, step in work.items():
        if not budget.spent:
            results.attempt("board", f"names {point}", partial(_named, results, watch, point, step))


def _fp8(given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """As in parts_products, conversions included: their kernels are named as well."""
    from parts_products import FP8, _product

    scale = torch.ones(given.shape[0], 1, device=given.device)
    scales = torch.ones(1, weight.shape[0], device=given.device)
    return _product("fp8", given.to(FP8), scale, (weight.to(FP8), scales))


def _attention(query: torch.Tensor, keys: torch.Tensor, prompt: bool, backend: Any) -> torch.Tensor:
    attention = torch.nn.functional.scaled_dot_product_attention
    if backend is None:
        return attention(query, keys, keys, is_causal=prompt, enable_gqa=True)
    with sdpa_kernel(backend):
        return attention(query, keys, keys, is_causal=prompt, enable_gqa=True)


def _named(results: Results, watch: Stopwatch, point: str, step: Callable[[], object]) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if watch.cuda else []
    step()
    watch.wait()
    with torch.profiler.profile(activities=activities) as profiled:
        step()
        watch.wait()
    spent = {
        event.key: float(event.self_device_time_total if watch.cuda else event.self_cpu_time_total)
        for event in profiled.key_averages()
        if not watch.cuda or "CUDA" in str(event.device_type)  # not the operators above them
    }
    whole = sum(spent.values()) or 1.0
    for name, time_us in sorted(spent.items(), key=lambda pair: -pair[1])[:4]:
        if time_us > 0:
            put(results, f"kernel of {point}", round(time_us / whole, 3), "share", name[:200])
