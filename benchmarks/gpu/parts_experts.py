"""Experts of one layer by torch's grouped product: the two products alone, and the layer as transformers runs it.

The layer: sort the pairs by expert, gather, product with gate and up, gate, product with down, scale, back to the
tokens' order, sum.  Routing is drawn or dealt out evenly; a graph passes through eight routings, so that few tokens do
not meet the same experts again from L2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from parts_power import put
from result_rows import Budget, Results
from stopwatch import DRAWN, MEASURED, Stopwatch, calls_for

TABLE = "moe"
COLUMNS = (
    "kernel_source", "moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size",
    "moe_ep_size", "distribution", "distinct", *MEASURED, *DRAWN, "model",
)  # fmt: skip
MODELS = (("qwen3-30b-a3b", 2048, 768, 128, 8), ("gpt-oss-20b", 2880, 2880, 32, 4))
"""(model, width, FFN width, experts, chosen)"""
FIRST, THEN = (1, 16, 128, 1024, 4096), (4, 64, 512, 2, 8, 32, 256, 2048)
METERED = (1, 64, 1024)
ROUTINGS = 8
LAYER, PRODUCTS = "torch grouped_mm, the layer as in transformers", "torch grouped_mm, two products"


def grouped(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """(pairs, n) = rows (pairs, k), sorted by expert, with weights (experts, n, k) transposed; ends: int32."""
    product: Callable[..., torch.Tensor] = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
    return product(rows, weights.transpose(-2, -1), offs=ends)


def chosen_experts(tokens: int, experts: int, topk: int, how: str, start: int, device: torch.device) -> torch.Tensor:
    """(tokens, topk) experts: drawn uniformly without repeats, or dealt out evenly beginning at `start`."""
    if how == "balanced":
        dealt = torch.arange(tokens * topk, device=device) + start
        return (dealt % experts).reshape(tokens, topk)
    return torch.rand(tokens, experts, device=device).topk(topk, dim=-1).indices


def ends_of(sorted_experts: torch.Tensor, experts: int) -> torch.Tensor:
    """Where each expert's rows end, int32, without a look from the host."""
    counted = sorted_experts.int() if sorted_experts.is_cuda else sorted_experts.float()
    return torch.histc(counted, bins=experts, min=0, max=experts - 1).cumsum(0).to(torch.int32)


def two_products(rows: torch.Tensor, ends: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """The gated FFN of every expert; up: (experts, 2 x ffn, width), down: (experts, width, ffn)."""
    gate, value = grouped(rows, up, ends).chunk(2, dim=-1)
    return grouped(torch.nn.functional.silu(gate) * value, down, ends)


def layer(
    hidden: torch.Tensor, picked: torch.Tensor, share: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """(tokens, width) of hidden (tokens, width), picked and share (tokens, topk)."""
    tokens, topk = picked.shape
    ordered, order = torch.sort(picked.reshape(-1))
    found = two_products(hidden[order // topk], ends_of(ordered, up.shape[0]), up, down)
    found = found * share.reshape(-1)[order].unsqueeze(-1)
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    return found[back].view(tokens, topk, -1).sum(dim=1)


def measure(results: Results, watch: Stopwatch, budget: Budget) -> None:
    """First all models at a few tokens, then joules, then the tokens between and even routing."""
    models = (("tiny", 32, 16, 8, 2),) if watch.tiny else MODELS
    first, then, metered = ((1, 8), (4,), (1,)) if watch.tiny else (FIRST, THEN, METERED)
    results.attempt(TABLE, "check", lambda: _check(results, watch.device))
    plan = (
        ("random", first, False, models), ("random", metered, True, models[:1]), ("balanced", first, False, models),
        ("random", then, False, models), ("balanced", then, False, models),
    )  # fmt: skip
    for how, tokens, energy, chosen in plan:
        for model in chosen:
            _model(results, watch, budget, model, how, tokens, energy)


def _model(
    results: Results, watch: Stopwatch, budget: Budget, model: tuple[str, int, int, int, int], how: str,
    tokens: tuple[int, ...], energy: bool,
) -> None:  # fmt: skip
    name, width, ffn, experts, _topk = model
    held: dict[str, torch.Tensor] = {}

    def prepare() -> None:
        made: dict[str, Any] = {"device": watch.device, "dtype": torch.bfloat16}
        held["up"] = torch.randn(experts, 2 * ffn, width, **made) * 0.02
        held["down"] = torch.randn(experts, width, ffn, **made) * 0.02

    if budget.spent or not results.attempt(TABLE, f"{name} weights", prepare):
        return
    for count in tokens:
        for kernel in (LAYER,) if energy else (LAYER, PRODUCTS):
            if not budget.spent:
                results.attempt(
                    TABLE, f"{name} {how} tokens={count} {kernel}",
                    partial(_point, results, watch, model, how, count, kernel, held, energy),
                )  # fmt: skip


def _point(
    results: Results, watch: Stopwatch, model: tuple[str, int, int, int, int], how: str, tokens: int, kernel: str,
    held: dict[str, torch.Tensor], energy: bool,
) -> None:  # fmt: skip
    name, width, ffn, experts, topk = model
    up, down = held["up"], held["down"]
    routings = [
        chosen_experts(tokens, experts, topk, how, place * experts // ROUTINGS, watch.device)
        for place in range(ROUTINGS)
    ]
    distinct = sum(len(set(picked.flatten().tolist())) for picked in routings) / ROUTINGS
    hidden = torch.randn(tokens, width, device=watch.device, dtype=torch.bfloat16)
    share = torch.rand(tokens, topk, device=watch.device, dtype=torch.bfloat16)
    pairs = [torch.sort(picked.reshape(-1)) for picked in routings]
    rows = [(hidden[order // topk], ends_of(ordered, experts)) for ordered, order in pairs]
    guess = max(30e-6, distinct * 6 * width * ffn / 3e12, 6.0 * tokens * topk * width * ffn / 4e14)
    calls = calls_for(ROUTINGS, guess) if watch.cuda else ROUTINGS

    def work() -> None:
        for call in range(calls):
            place = call % ROUTINGS
            if kernel == LAYER:
                layer(hidden, routings[place], share, up, down)
            else:
                two_products(*rows[place], up, down)

    step = watch.captured(work)
    timing = watch.timed(step, calls)
    drawn = watch.sustained(step, calls, timing.seconds).cells() if energy else {}
    cells: dict[str, Any] = {
        "kernel_source": kernel, "moe_dtype": "bfloat16", "num_tokens": tokens, "hidden_size": width,
        "inter_size": ffn, "topk": topk, "num_experts": experts, "moe_tp_size": 1, "moe_ep_size": 1,
        "distribution": "balanced" if how == "balanced" else "uniform", "distinct": f"{distinct:.6g}", "model": name,
    }  # fmt: skip
    results.add(TABLE, COLUMNS, cells | timing.cells() | drawn)


def _check(results: Results, device: torch.device) -> None:
    """The grouped layer equals a loop over the tokens in float32; raises otherwise."""
    up, down = torch.randn(8, 32, 32, device=device) * 0.2, torch.randn(8, 32, 16, device=device) * 0.2
    hidden, share = torch.randn(5, 32, device=device), torch.rand(5, 2, device=device)
    picked = chosen_experts(5, 8, 2, "random", 0, device)
    want = torch.zeros(5, 32, device=device)
    for token, pair in enumerate(picked.tolist()):
        for place, expert in enumerate(pair):
            gate, value = (up[expert] @ hidden[token]).chunk(2)
            want[token] += share[token, place] * (down[expert] @ (torch.nn.functional.silu(gate) * value))
    half = [tensor.bfloat16() for tensor in (share, up, down)]
    error = float((layer(hidden.bfloat16(), picked, *half).float() - want).norm() / want.norm())
    put(results, "error of grouped experts", f"{error:.3g}", "1", "relative to float32")
    if not error < 0.02:
        raise ArithmeticError(f"grouped experts: relative error {error:.3g}")
