"""Time matrix products on this machine: which precision is fastest, and with how many threads.

They are of a model's own shapes, with 256 tokens (as in prefill and training) and with 4 (as in decoding):

    precision   once per machine; cached in the user's home directory            takes at most about 1 s
    threads     once per process, since the best number depends on the load      takes about 0.25 s
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flashstill.distill.models.threads import THREAD_VARIABLES
from flashstill.errors import DiskTrouble
from flashstill.files import home_directory, write_text

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CACHE = "arithmetic.json"
SETTINGS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE")
MANY_TOKENS, FEW_TOKENS = 256, 4
ROUNDS, ARITHMETIC_S, THREADS_S = 5, 0.6, 0.25
WORTH = 1.1
"""minimum speed-up for choosing fp32 (which doubles the memory) over bf16, or more threads over fewer"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The matrix sizes to benchmark: hidden width, FFN width and vocabulary of a model."""

    width: int = 576
    feed_forward: int = 1536
    vocabulary: int = 4096

    @property
    def measured(self) -> Shape:
        """The shape clamped to sizes worth timing: overhead dominates smaller products, larger ones take too long."""
        return Shape(
            width=min(max(self.width, 256), 1024),
            feed_forward=min(max(self.feed_forward, 512), 2048),
            vocabulary=min(max(self.vocabulary, 1024), 4096),
        )


def fastest_precision(shape: Shape) -> str:
    """ "bf16" or "fp32", whichever multiplies these shapes faster; measured once per machine and cached at home.

    fp32 is chosen only if it is at least 1.1 times as fast.
    """
    cache, key = home_directory() / CACHE, machine_key(shape)
    measured = _cached(cache)
    try:
        known = measured[key]["precision"]
    except (KeyError, TypeError):
        known = None
    if known in DTYPES:
        return str(known)
    seconds = _precision_seconds(key, shape)
    fastest = "fp32" if seconds["fp32"] * WORTH < seconds["bf16"] else "bf16"
    entry = {"precision": fastest, "seconds": seconds, "measured": datetime.date.today().isoformat()}
    with contextlib.suppress(DiskTrouble):  # if the home directory is not writable, the next process measures again
        write_text(cache, json.dumps({**measured, key: entry}, indent=1))
    return fastest


@functools.cache
def _precision_seconds(key: str, shape: Shape) -> dict[str, float]:
    """Seconds for the matrix products in each precision, measured once per process and `key` (see `machine_key`)."""
    del key
    medians = _interleaved([functools.partial(product_seconds, shape, name) for name in DTYPES], ARITHMETIC_S)
    return dict(zip(DTYPES, medians, strict=True))


def fastest_threads(shape: Shape, precision: str) -> int:
    """The smallest of 1, 2, 4, ... and all cores that is within 10 % of the fastest.

    If the user sets OMP_NUM_THREADS or MKL_NUM_THREADS, torch's number of threads is returned without measuring.
    """
    cores = available_cores()
    if cores == 1 or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return int(torch.get_num_threads())
    counts: list[int] = sorted({*(2**power for power in range(cores.bit_length()) if 2**power <= cores), cores})
    before = torch.get_num_threads()
    try:
        seconds = thread_seconds(shape, precision, counts)
    finally:
        torch.set_num_threads(before)
    least = min(seconds)
    return next(
        count for count, seconds_of_count in zip(counts, seconds, strict=True) if seconds_of_count <= least * WORTH
    )


def thread_seconds(shape: Shape, precision: str, counts: Sequence[int]) -> list[float]:
    """Seconds for the matrix products with each number of threads, measured in alternation."""

    def timed(count: int) -> float:
        torch.set_num_threads(count)
        return product_seconds(shape, precision)

    return _interleaved([functools.partial(timed, count) for count in counts], THREADS_S)


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def product_seconds(shape: Shape, precision: str) -> float:
    """Seconds for one pass over the FFN and head products, with many tokens and with few."""
    dtype, total = DTYPES[precision], 0.0
    sizes = ((shape.width, shape.feed_forward), (shape.feed_forward, shape.width), (shape.width, shape.vocabulary))
    for tokens in (MANY_TOKENS, FEW_TOKENS):
        for inner, outer in sizes:
            rows, weight = torch.ones(tokens, inner, dtype=dtype), torch.ones(outer, inner, dtype=dtype)
            with torch.inference_mode():
                started = time.perf_counter()
                torch.nn.functional.linear(rows, weight)
                total += time.perf_counter() - started
    return total


def _interleaved(works: Sequence[Callable[[], float]], limit_s: float) -> list[float]:
    """Median of each benchmark after a warm-up round; they alternate, so that other load affects all equally."""
    turns: list[list[float]] = []
    started = time.perf_counter()
    warm = [work() for work in works]
    while len(turns) < ROUNDS and (not turns or time.perf_counter() - started < limit_s):
        turns.append([work() for work in works])
        if max(warm) > limit_s:  # one round of this arithmetic already took longer than the limit
            break
    return [statistics.median(times) for times in zip(*turns, strict=True)]


def machine_key(shape: Shape) -> str:
    """The cache key of a measurement: processor, cores, torch version and settings, and matrix sizes."""
    parts = [
        platform.machine(), _processor(), f"{available_cores()} cores", f"torch {torch.__version__}",
        f"mkldnn {torch.backends.mkldnn.enabled}",
        *(f"{name}={os.environ[name]}" for name in SETTINGS if name in os.environ),
        f"{shape.width}x{shape.feed_forward}x{shape.vocabulary}",
    ]  # fmt: skip
    return ", ".join(part for part in parts if part)


@functools.cache
def _processor() -> str:
    """Name, family, model and a digest of the CPU flags of the first core, from /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return platform.processor()
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    known = {name.strip(): value.strip() for name, value in rows.items()}
    words = [known.get(name, "") for name in ("model name", "cpu family", "model")]
    digest = hashlib.sha256(known.get("flags", known.get("Features", "")).encode()).hexdigest()[:8]
    return " ".join([*(word for word in words if word), digest])


def _cached(path: Path) -> dict[str, Any]:
    """The cached measurements by `machine_key`; empty if the file is missing or damaged, so that they are repeated."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
