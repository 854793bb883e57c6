"""This machine as fact rows: matmul peak, memory bandwidth, and the least time of an operation.

    matmul peak       median of repeated products of two square matrices
    bandwidth         median of repeated matrix-vector products over a matrix far larger than the caches
    operation floor   (step of a 12-block toy model - step of a 4-block one) / 8 / operations a block

The toy model is 64 wide: its arithmetic is nothing, what remains is what every operation costs in the runtime.
Nothing is fitted to the models that are predicted later.
"""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch

from flashstill.facts import Fact, Facts
from flashstill.measure.sweep import MACHINE, time_model
from flashstill.progress import Progress

MATMUL_EDGE = 3072
BANDWIDTH_ROWS, BANDWIDTH_COLUMNS = 65536, 2048
OPERATIONS_PER_BLOCK = 4  # as workload counts them: query-key-value, attention, output, feed-forward
REPEATS = 7


def measure_machine(facts: Facts, progress: Progress) -> list[Fact]:
    """The rows of this machine; takes about ten seconds. `facts` gives the per-core rows of its class."""
    with progress.task("measure this machine", 4, "tests") as advance:
        bf16 = matmul_flops_per_s(torch.bfloat16)
        advance(1)
        fp32 = matmul_flops_per_s(torch.float32)
        advance(1)
        bandwidth = read_bytes_per_s()
        advance(1)
        floor = operation_floor_s()
        advance(1)
    cores = torch.get_num_threads()
    ours = [
        _row("flops_per_s", bf16, "FLOP/s", "bf16 dense", f"product of two {MATMUL_EDGE}-wide matrices"),
        _row("flops_per_s", fp32, "FLOP/s", "fp32 dense", f"product of two {MATMUL_EDGE}-wide matrices"),
        _row("memory_bytes", _memory_bytes(), "B", "DDR5", "operating system"),
        _row("memory_bytes_per_s", bandwidth, "B/s", "DDR5", "bf16 matrix-vector product over 256 MiB"),
        _row("operation_floor_s", floor, "s", "", "difference of two toy models"),
        _row("matmul_efficiency", 1.0, "1", "", "the peak above is already what was reached"),
        _row("memory_efficiency", 1.0, "1", "", "the bandwidth above is already what was reached"),
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
    """The median of repeats, as for the models: the best would promise what a busy machine does not keep."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def matmul_flops_per_s(dtype: torch.dtype) -> float:
    """Median FLOP/s of a large matrix product in `dtype`."""
    left = torch.ones(MATMUL_EDGE, MATMUL_EDGE, dtype=dtype)
    right = torch.ones(MATMUL_EDGE, MATMUL_EDGE, dtype=dtype)
    with torch.inference_mode():
        return 2.0 * MATMUL_EDGE**3 / _median_s(lambda: torch.nn.functional.linear(left, right))


def read_bytes_per_s() -> float:
    """Median bytes/s of reading bf16 weights once for one vector, which is what decode at batch 1 does."""
    weights = torch.ones(BANDWIDTH_ROWS, BANDWIDTH_COLUMNS, dtype=torch.bfloat16)
    vector = torch.ones(1, BANDWIDTH_COLUMNS, dtype=torch.bfloat16)
    with torch.inference_mode():
        seconds = _median_s(lambda: torch.nn.functional.linear(vector, weights))
    return weights.numel() * weights.element_size() / seconds


def operation_floor_s() -> float:
    """Seconds that one operation costs beyond its arithmetic and bytes in this runtime."""
    from transformers import LlamaConfig, LlamaForCausalLM

    def step_s(depth: int) -> float:
        config = LlamaConfig(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=depth,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
        return statistics.median(step for _ in range(REPEATS) for step in time_model(model, 1, 16)[1])

    shallow, deep = 4, 12
    return max(0.0, (step_s(deep) - step_s(shallow)) / (deep - shallow) / OPERATIONS_PER_BLOCK)


def _memory_bytes() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        import psutil

        return float(psutil.virtual_memory().total)
