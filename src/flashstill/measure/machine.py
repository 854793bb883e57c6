"""This machine as fact rows: matmul peak, memory bandwidth, and the least time of an operation.

    matmul peak       median of repeated products of two square matrices, in bf16 and in fp32
    bandwidth         median of repeated matrix-vector products over a matrix far larger than the caches
    operation floor   (step of a 12-block toy model - step of a 4-block one) / 8 / operations a block

The toy model is 64 wide: its arithmetic takes next to no time, what remains is the overhead of an operation.
Bandwidth and floor are those of the arithmetic in which models run here (distill/models/arithmetic.py).  Nothing is
fitted to the models that are predicted later.  Every test is bound by time: a slow or
busy machine multiplies smaller matrices, and repeats less.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch

from flashstill.arch.adapter.edit import new_llama, with_vocabulary
from flashstill.distill.models.arithmetic import Arithmetic
from flashstill.facts import Fact, Facts
from flashstill.measure.sweep import DECODE_STEPS_PER_REPEAT, MACHINE, time_model
from flashstill.progress import Progress

MATMUL_EDGES = (512, 1024, 2048, 3072)
LONG_S = 0.12
"""seconds of a matrix product that is large enough to be timed"""
BANDWIDTH_BYTES, BANDWIDTH_COLUMNS = 2**28, 2048
OPERATIONS_PER_BLOCK = 4  # as in the cost model: QKV, attention, output projection, FFN
REPEATS, LEAST_REPEATS, TEST_S = 7, 3, 1.0
"""repeats per test, minimum repeats, and seconds after which repeats stop"""


def measure_machine(facts: Facts, progress: Progress, arithmetic: Arithmetic) -> list[Fact]:
    """Fact rows of this machine; takes some seconds.

    facts: with the rows of a CPU core, for power and price; arithmetic: in which models run here, with its threads set.
    """
    with progress.task("measure this machine", 4, "tests") as advance:
        bf16, bf16_edge = matmul_flops_per_s(torch.bfloat16)
        advance(1)
        fp32, fp32_edge = matmul_flops_per_s(torch.float32)
        advance(1)
        bandwidth = read_bytes_per_s(arithmetic.dtype)
        advance(1)
        floor = operation_floor_s(arithmetic.dtype)
        advance(1)
    cores = torch.get_num_threads()
    ours = [
        _row("flops_per_s", bf16, "FLOP/s", "bf16 dense", f"product of two {bf16_edge}-wide matrices"),
        _row("flops_per_s", fp32, "FLOP/s", "fp32 dense", f"product of two {fp32_edge}-wide matrices"),
        _row("memory_bytes", _memory_bytes(), "B", "DDR5", "operating system"),
        _row(
            "memory_bytes_per_s", bandwidth, "B/s", "DDR5", f"{arithmetic.precision} matrix-vector product over 256 MiB"
        ),
        _row("operation_floor_s", floor, "s", "", f"difference of two toy models in {arithmetic.precision}"),
        _row("matmul_efficiency", 1.0, "1", "", "the peak above is the rate that was reached"),
        _row("memory_efficiency", 1.0, "1", "", "the bandwidth above is the rate that was reached"),
    ]
    for quantity in ("power_limit_w", "idle_w", "usd_per_hour"):
        core = facts.get("cpu", quantity)
        ours.append(
            Fact(
                name=MACHINE,
                quantity=quantity,
                value=core.value * cores,
                low=core.low * cores,
                high=core.high * cores,
                unit=core.unit,
                per="chip",
                condition="",
                kind="estimate",
                source=f"{cores} cores x the row of its class: {core.source}",
                as_of=_today(),
                note="",
            )
        )
    return ours


def _row(quantity: str, value: float, unit: str, condition: str, how: str) -> Fact:
    return Fact(
        name=MACHINE,
        quantity=quantity,
        value=value,
        low=value,
        high=value,
        unit=unit,
        per="chip",
        condition=condition,
        kind="measured",
        source=f"flashstill measure: {how}; {platform.machine()}, {torch.get_num_threads()} threads,"
        f" torch {torch.__version__}",
        as_of=_today(),
        note="",
    )


def _today() -> str:
    return datetime.date.today().isoformat()


def _median_s(work: Callable[[], object]) -> float:
    """Median of the repeats, as in the timing of models; the minimum would be too optimistic on a busy machine."""
    work()
    seconds: list[float] = []
    while len(seconds) < (REPEATS if sum(seconds) < TEST_S else LEAST_REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def matmul_flops_per_s(dtype: torch.dtype) -> tuple[float, int]:
    """Median FLOP/s of a large matrix product in `dtype`, and the matrices' edge: the smallest that takes LONG_S."""
    with torch.inference_mode():
        for edge in MATMUL_EDGES:
            left, right = (torch.ones(edge, edge, dtype=dtype) for _ in range(2))
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            if time.perf_counter() - started >= LONG_S or edge == MATMUL_EDGES[-1]:
                break
        return 2.0 * edge**3 / _median_s(lambda: torch.nn.functional.linear(left, right)), edge


def read_bytes_per_s(dtype: torch.dtype) -> float:
    """Median bytes/s of reading weights once for one vector, as decode at batch 1 does."""
    rows = BANDWIDTH_BYTES // dtype.itemsize // BANDWIDTH_COLUMNS
    weights = torch.ones(rows, BANDWIDTH_COLUMNS, dtype=dtype)
    vector = torch.ones(1, BANDWIDTH_COLUMNS, dtype=dtype)
    with torch.inference_mode():
        seconds = _median_s(lambda: torch.nn.functional.linear(vector, weights))
    return weights.numel() * weights.element_size() / seconds


def operation_floor_s(dtype: torch.dtype) -> float:
    """Overhead of one operation in this runtime in seconds, beyond arithmetic and memory traffic."""
    from transformers import AutoConfig, AutoModelForCausalLM

    def step_s(depth: int) -> float:
        fields = new_llama(width=64, depth=depth, heads=2, key_heads=1, feed_forward=128, context=2048)
        config = AutoConfig.for_model(**with_vocabulary(fields, 256))
        model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
        steps: list[float] = []
        while len(steps) < (REPEATS if sum(steps) < TEST_S else LEAST_REPEATS) * DECODE_STEPS_PER_REPEAT:
            steps += time_model(model, 1, 16)[1]
        return statistics.median(steps)

    shallow, deep = 4, 12
    return max(0.0, (step_s(deep) - step_s(shallow)) / (deep - shallow) / OPERATIONS_PER_BLOCK)


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        import psutil

        return float(psutil.virtual_memory().total)
