"""Matrix products of real models' layers in bf16 and fp8, and memory bandwidth by size.

A graph holds as many calls as it takes to pass through copies of the weights that L2 cannot hold.  Activations stay
where they are, as after the layer before.  fp8: the product alone, operands already quantised, with a
scale a row and a column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from parts_power import put
from result_rows import Budget, Results
from stopwatch import DRAWN, MEASURED, Stopwatch, calls_for, copies_for

GEMM, GEMM_COLUMNS = "gemm", ("kernel_source", "gemm_dtype", "m", "n", "k", *MEASURED, *DRAWN, "layer")
MEMORY, MEMORY_COLUMNS = "memory", ("kernel_source", "bytes", "buffers", *MEASURED, "bytes_per_s", *DRAWN)
LAYERS = (
    ("llama-3.1-70b tp8 gate and up", 7168, 8192), ("llama-3.1-8b down", 4096, 14336),
    ("llama-3.1-8b qkv", 6144, 4096), ("smollm2-135m gate and up", 3072, 576), ("gpt-oss qkv", 5120, 2880),
    ("qwen3-32b gate and up", 51200, 5120), ("llama-3.1-70b down", 8192, 28672),
    ("llama-3.1-8b gate and up", 28672, 4096), ("llama-3.1-70b tp8 down", 8192, 3584),
    ("llama-3.1-70b tp8 qkv", 1280, 8192), ("llama-3.1-70b tp8 out", 8192, 1024), ("llama-3.1-8b out", 4096, 4096),
    ("qwen3-32b qkv", 10240, 5120), ("qwen3-32b out", 5120, 8192), ("qwen3-32b down", 5120, 25600),
    ("llama-3.1-70b qkv", 10240, 8192), ("llama-3.1-70b out", 8192, 8192), ("llama-3.1-70b gate and up", 57344, 8192),
    ("gpt-oss out", 2880, 4096), ("smollm2-135m qkv", 960, 576), ("smollm2-135m out", 576, 576),
    ("smollm2-135m down", 576, 1536), ("smollm2-135m head", 49152, 576), ("llama-3.1-8b head", 128256, 4096),
    ("gpt-oss head", 201088, 2880),
)  # fmt: skip
"""(layer, n, k) of the published configurations"""
FIRST: Sequence[int]
THEN: Sequence[int]
FIRST, THEN = (1, 16, 64, 256, 1024, 8192), (4096, 128, 32, 8, 2048, 512, 4, 2)
METERED: Sequence[tuple[str, int, int, Sequence[int]]] = (
    ("bf16", 7168, 8192, (1, 64, 256, 1024, 8192, 16)), ("fp8", 7168, 8192, (1, 64, 256, 1024, 8192, 16)),
    ("bf16", 4096, 14336, (1, 128, 4096, 8, 512)), ("bf16", 51200, 5120, (64, 2048)),
    ("bf16", 3072, 576, (1, 64, 1024)), ("fp8", 4096, 14336, (128, 4096, 1)),
)  # fmt: skip
"""(format, n, k, rows) of the points whose joules are measured: most of a second each"""
KERNELS = {"bf16": "torch.nn.functional.linear", "fp8": "torch._scaled_mm, scales by row and column"}
FORMATS = {"bf16": "bfloat16", "fp8": "fp8"}
FP8 = torch.float8_e4m3fn
Product = Callable[[torch.Tensor, Any], torch.Tensor]


def gemms(results: Results, watch: Stopwatch, budget: Budget) -> None:
    """All layers at the first rows, then the joules, then the rows between."""
    layers = (("tiny", 32, 64), ("tiny 2", 48, 32)) if watch.tiny else LAYERS
    first, then, metered = (FIRST, THEN, METERED)
    if watch.tiny:
        first, then, metered = (1, 16), (8,), (("bf16", 32, 64, (1, 16)), ("fp8", 32, 64, (1,)))
    results.attempt(GEMM, "check", lambda: _check(results, watch))
    _sweep(results, watch, budget, layers, first)
    for form, n, k, rows in metered:
        layer = next(name for name, *shape in layers if shape == [n, k])
        _layer(results, watch, budget, layer, form, n, k, rows, metered=True)
    _sweep(results, watch, budget, layers, then)


def _sweep(
    results: Results, watch: Stopwatch, budget: Budget, layers: Sequence[tuple[str, int, int]], rows: Sequence[int]
) -> None:
    for layer, n, k in layers:
        for form in KERNELS:
            _layer(results, watch, budget, layer, form, n, k, rows, metered=False)


def _layer(
    results: Results, watch: Stopwatch, budget: Budget, layer: str, form: str, n: int, k: int, rows: Sequence[int],
    metered: bool,
) -> None:  # fmt: skip
    """The given rows of one weight; its copies are made once."""
    if budget.spent:
        return
    held: list[Any] = []

    def prepare() -> None:
        copies = copies_for(n * k * (2 if form == "bf16" else 1)) if watch.cuda else 2
        held.extend(_weight(watch.device, form, n, k) for _ in range(copies))

    if not results.attempt(GEMM, f"{form} n={n} k={k}", prepare):
        return
    for m in rows:
        if not budget.spent:
            results.attempt(
                GEMM, f"{form} m={m} n={n} k={k}",
                partial(_point, results, watch, layer, form, m, n, k, held, metered),
            )  # fmt: skip


def _weight(device: torch.device, form: str, n: int, k: int) -> Any:
    """(n, k) random values; in fp8 with (1, n) scales."""
    values = torch.randn(n, k, device=device, dtype=torch.bfloat16)
    return values if form == "bf16" else (values.to(FP8), torch.rand(1, n, device=device) * 0.01 + 0.01)


def _product(form: str, given: torch.Tensor, scale: Any, weight: Any) -> torch.Tensor:
    """(m, n) = (m, k) @ (n, k) transposed."""
    if form == "bf16":
        return torch.nn.functional.linear(given, weight)
    values, scales = weight
    found: torch.Tensor = torch._scaled_mm(
        given, values.t(), scale_a=scale, scale_b=scales, out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return found


def _point(
    results: Results, watch: Stopwatch, layer: str, form: str, m: int, n: int, k: int, weights: Sequence[Any],
    metered: bool,
) -> None:  # fmt: skip
    given = torch.randn(m, k, device=watch.device, dtype=torch.bfloat16)
    scale = None
    if form == "fp8":
        given, scale = given.to(FP8), torch.rand(m, 1, device=watch.device) + 0.5
    nbytes = 2 if form == "bf16" else 1
    guess = max(3e-6, n * k * nbytes / 4e12, 2.0 * m * n * k / (7e14 if form == "bf16" else 1.4e15))
    calls = calls_for(len(weights), guess) if watch.cuda else 2

    def work() -> None:
        for call in range(calls):
            _product(form, given, scale, weights[call % len(weights)])

    step = watch.captured(work)
    timing = watch.timed(step, calls)
    drawn = watch.sustained(step, calls, timing.seconds).cells() if metered else {}
    shape = {"kernel_source": KERNELS[form], "gemm_dtype": FORMATS[form], "m": m, "n": n, "k": k, "layer": layer}
    results.add(GEMM, GEMM_COLUMNS, shape | timing.cells() | drawn)


def _check(results: Results, watch: Stopwatch) -> None:
    """Products agree with float32 to the error of the formats; raises otherwise."""
    for form, most in (("bf16", 0.01), ("fp8", 0.06)):
        given = torch.randn(16, 64, device=watch.device)
        values = torch.randn(32, 64, device=watch.device)
        want = given @ values.t()
        if form == "bf16":
            got = _product(form, given.bfloat16(), None, values.bfloat16())
        else:
            scales = torch.ones(1, 32, device=watch.device)
            got = _product(form, given.to(FP8), torch.ones(16, 1, device=watch.device), (values.to(FP8), scales))
        error = float((got.float() - want).norm() / want.norm())
        put(results, f"error of {form} products", f"{error:.3g}", "1", "relative to float32")
        if not error < most:
            raise ArithmeticError(f"{form}: relative error {error:.3g}, more than {most}")


def memory(results: Results, watch: Stopwatch, budget: Budget) -> None:
    """Copies (bytes read and written) and sums (bytes read) of 1 MB to 4 GB, from memory and, if they fit, from L2."""
    sizes = (1 << 16, 1 << 18) if watch.tiny else tuple(1 << power for power in (30, 26, 28, 22, 32, 24, 20, 27, 29))
    metered = (1 << 16,) if watch.tiny else (1 << 30, 1 << 24)
    for size in sizes:
        for kind in ("copy", "read"):
            for rotated in (True, False) if size <= 1 << 26 else (True,):
                if not budget.spent:
                    results.attempt(
                        MEMORY, f"{kind} {size} rotated={rotated}",
                        partial(
                            _moved, results, watch, size, kind, rotated, size in metered and rotated == (size > 1 << 26)
                        ),
                    )  # fmt: skip


def _moved(results: Results, watch: Stopwatch, size: int, kind: str, rotated: bool, metered: bool) -> None:
    copies = copies_for(size) if rotated and watch.cuda else 1
    sources = [torch.randn(size // 4, device=watch.device) for _ in range(copies)]
    target = torch.empty_like(sources[0]) if kind == "copy" else torch.empty((), device=watch.device)
    moved = size * (2 if kind == "copy" else 1)
    calls = calls_for(copies, max(3e-6, moved / 4e12)) if watch.cuda else 2

    def work() -> None:
        for call in range(calls):
            source = sources[call % copies]
            if kind == "copy":
                target.copy_(source)
            else:
                torch.sum(source, dim=0, out=target)

    step = watch.captured(work)
    timing = watch.timed(step, calls)
    drawn = watch.sustained(step, calls, timing.seconds).cells() if metered else {}
    name = "Tensor.copy_, bytes read and written" if kind == "copy" else "torch.sum of float32, bytes read"
    cells = {
        "kernel_source": name, "bytes": moved, "buffers": copies, "bytes_per_s": f"{moved / timing.seconds:.6g}"
    }  # fmt: skip
    results.add(MEMORY, MEMORY_COLUMNS, cells | timing.cells() | drawn)
