"""Anchor files of collectives: rows -> exchanges with their measured seconds."""

from __future__ import annotations

from collections.abc import Iterator

from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.parallel import Exchange
from flashstill.validation.anchors.tables import MICRO, MILLI, KernelSet, Rows, column, split
from flashstill.validation.comparison import Values

_COLLECTIVE = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
}


def custom_all_reduce(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The engines' own all-reduce kernels."""
    for (source,), group in split(rows, "kernel_source"):
        if source.endswith("eager"):
            continue  # launched from Python each time, whereas engines replay CUDA graphs
        engine = "vllm" if source.lower().startswith("vllm") else source.lower()
        yield _exchange_set(anchor, chip.name, "all-reduce", group, 2.0, column(group, "latency") * MILLI, engine)


def library(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The collectives of the vendor's library (NCCL)."""
    for (name, dtype), group in split(rows, "op_name", "nccl_dtype"):
        width = 2.0 if dtype == "half" else 1.0
        seconds = column(group, "latency") * MILLI
        yield _exchange_set(anchor, chip.name, _COLLECTIVE[name], group, width, seconds, "")


def collective_table(facts: Facts, rows: Rows) -> Iterator[KernelSet]:
    """A table of collectives measured on several chips."""
    for (gpu, name), group in split(rows, "gpu", "op"):
        chip = facts.chip_name(gpu)
        if chip is None or name not in _COLLECTIVE:
            continue
        renamed = [{**row, "num_gpus": row["gpus"]} for row in group]
        seconds = column(group, "latency_us") * MICRO
        yield _exchange_set("collectives_gpu", chip, _COLLECTIVE[name], renamed, 2.0, seconds, "")


def _exchange_set(
    anchor: str, chip: str, kind: str, rows: Rows, width: float, seconds: Values, source: str
) -> KernelSet:
    work = Exchange(
        name=kind,
        kind=kind,
        count=1.0,
        bytes=column(rows, "message_size") * width,
        group=column(rows, "num_gpus"),
        tier="tensor",
    )
    return KernelSet(anchor=anchor, chip=chip, kind=kind, precision="", engine=source, work=work, seconds=seconds)
