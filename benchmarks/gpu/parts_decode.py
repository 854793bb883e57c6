"""Decoding steps and prompts of small models by transformers' classes: eagerly, and as a CUDA graph over a fixed cache.

    smollm2-135m     its published shape; random weights unless a directory with the real ones is given
    tiny-moe         4 layers of Qwen3-30B-A3B's shape (128 experts of 768, 8 chosen), 32768 words, random weights

A step: one new token of every sequence with `context` tokens cached before it, logits and their largest.  Its inputs
stay the same from step to step, so that a row's batch and context mean what they say.  The graph's cache holds context
+ 1 positions and the new token is always the last: no mask, no growth, and the same kernels each time.
"""

from __future__ import annotations

import gc
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from decode_models import EXPERTS, SMOLLM, Steps, build, distinct_experts
from parts_power import put
from result_rows import Budget, Results
from stopwatch import DRAWN, MEASURED, Stopwatch, Timing

TABLE = "decode"
COLUMNS = (
    "model", "kernel_source", "phase", "batch_size", "context", *MEASURED, "tokens_per_s", "joules_per_token",
    "distinct", *DRAWN,
)  # fmt: skip
GRAPH, EAGER = "transformers classes in a CUDA graph, sdpa", "transformers eager, sdpa, growing cache"
FIRST, THEN = (1, 16, 64, 256, 512, 4), (2, 8, 32, 128)
CONTEXTS = (1024, 128, 4096)
MOST_CACHE_BYTES = 60e9


@torch.inference_mode()
def measure(results: Results, watch: Stopwatch, budget: Budget, smollm: Path | None = None) -> None:
    """Both models, the middle context first; prompts and eager steps once each has its main points."""
    models: dict[str, Any] = {}
    for name in (SMOLLM, EXPERTS):
        results.attempt(TABLE, f"{name} model", partial(_built, watch, models, name, smollm))
    gc.freeze()  # what the libraries hold is not looked through again
    first, then, contexts = ((1, 4), (2,), (16, 8)) if watch.tiny else (FIRST, THEN, CONTEXTS)
    eager = ((1, contexts[0]), (first[-1], contexts[0])) if watch.tiny else ((1, 1024), (64, 1024), (256, 1024))
    prompts = ((1, 8), (2, 16)) if watch.tiny else ((1, 128), (1, 1024), (8, 1024), (1, 4096), (1, 8192), (32, 1024))
    for name, model in models.items():
        results.attempt(TABLE, f"{name} check", partial(_check, results, watch, name, model))
        _sweep(results, watch, budget, name, model, first, contexts[:1], metered=True)
    for name, model in models.items():
        for batch, length in prompts:
            _tried(results, budget, f"{name} prompt {batch} x {length}", _prompt, watch, name, model, batch, length)
        for batch, context in eager:
            _tried(results, budget, f"{name} eager {batch} x {context}", _eager, watch, name, model, batch, context)
    for context in contexts[1:]:
        for name, model in models.items():
            _sweep(results, watch, budget, name, model, first, (context,), metered=True)
    for name, model in models.items():
        _sweep(results, watch, budget, name, model, then, contexts, metered=False)


def _built(watch: Stopwatch, models: dict[str, Any], name: str, smollm: Path | None) -> None:
    models[name] = build(watch, name, smollm)


def _sweep(
    results: Results, watch: Stopwatch, budget: Budget, name: str, model: Any, batches: tuple[int, ...],
    contexts: tuple[int, ...], metered: bool,
) -> None:  # fmt: skip
    for context in contexts:
        for batch in batches:
            _tried(
                results, budget, f"{name} {batch} x {context}", _decoding, watch, name, model, batch, context, metered
            )


def _tried(results: Results, budget: Budget, point: str, work: Any, *given: Any) -> None:
    if not budget.spent:
        results.attempt(TABLE, point, lambda: work(results, *given))
        gc.collect()  # collections are off while something is timed, and a cache of many gigabytes must not stay


def _decoding(
    results: Results, watch: Stopwatch, name: str, model: Any, batch: int, context: int, metered: bool
) -> None:
    steps = Steps(watch, model, batch, context)
    if 4.0 * math.prod(steps.shape) * model.config.num_hidden_layers > MOST_CACHE_BYTES:
        return
    cache = steps.fixed()
    step = steps.captured(lambda: steps.step(cache))
    timing = watch.timed(step)
    drawn = watch.sustained(step, 1, timing.seconds) if metered else None
    told = distinct_experts(steps, cache)
    _add(results, name, GRAPH, "decode", batch, context, batch, timing, drawn, told)


def _eager(results: Results, watch: Stopwatch, name: str, model: Any, batch: int, context: int) -> None:
    """As transformers runs it: the cache grows by one position a step."""
    steps = Steps(watch, model, batch, context)
    cache = steps.growing(steps.fixed())

    def step() -> None:
        steps.step(cache)

    step()
    watch.wait()
    laps = []
    for _ in range(3 if watch.tiny else 12):  # by the host's clock: it is the host that limits
        began = time.perf_counter()
        step()
        watch.wait()
        laps.append(time.perf_counter() - began)
    timing = Timing(seconds=sorted(laps)[len(laps) // 2], low=min(laps), high=max(laps), calls=len(laps))
    drawn = watch.sustained(step, 1, timing.seconds)
    _add(results, name, EAGER, "decode", batch, context, batch, timing, drawn, None)


def _prompt(results: Results, watch: Stopwatch, name: str, model: Any, batch: int, length: int) -> None:
    """A whole prompt into an empty cache, logits of its last position, eagerly."""
    ids = torch.randint(0, model.config.vocab_size, (batch, length), device=watch.device)

    def step() -> None:
        model(input_ids=ids, use_cache=True, logits_to_keep=1)

    step()
    timing = watch.timed(step, repeats=5, most_s=0.4)
    _add(results, name, "transformers eager, sdpa", "prefill", batch, length, batch * length, timing, None, None)


def _add(
    results: Results, name: str, kernel: str, phase: str, batch: int, context: int, tokens: int, timing: Any,
    drawn: Any, distinct: float | None,
) -> None:  # fmt: skip
    cells: dict[str, Any] = {
        "model": name, "kernel_source": kernel, "phase": phase, "batch_size": batch, "context": context,
        "tokens_per_s": f"{tokens / timing.seconds:.6g}", "distinct": "" if distinct is None else f"{distinct:.5g}",
    }  # fmt: skip
    if drawn is not None and drawn.drawn is not None:
        cells["joules_per_token"] = f"{drawn.drawn.watts * drawn.seconds / tokens:.6g}"
    results.add(TABLE, COLUMNS, cells | timing.cells() | (drawn.cells() if drawn is not None else {}))


def _check(results: Results, watch: Stopwatch, name: str, model: Any) -> None:
    """The graph over the fixed cache gives the logits of transformers' own growing cache; raises otherwise."""
    steps = Steps(watch, model, 2, 24)
    fixed = steps.fixed()
    want = steps.logits(steps.growing(fixed)).float()
    got = torch.empty_like(want)
    replay = steps.captured(lambda: got.copy_(steps.logits(fixed)))
    got.zero_()
    replay()
    watch.wait()
    error = float((got - want).norm() / want.norm())
    put(results, f"error of {name} in a graph", f"{error:.3g}", "1", "of logits, relative to eager ones")
    if not error < 0.03:
        raise ArithmeticError(f"{name}: the graph's logits are {error:.3g} from the eager ones")
