"""Anchor files of collectives: rows -> exchanges with their measured seconds."""

from __future__ import annotations

from collections.abc import Iterator

from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.parallel import Exchange
from flashstill.validation.anchors.tables import MICRO, MILLI, KernelSet, Rows, column, engine_in_name, split
from flashstill.validation.comparison import Values

_COLLECTIVE = {
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
}
_CUSTOM = "custom "
"""what the names of the engines' own collectives begin with"""


def custom_all_reduce(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The engines' own all-reduce kernels, of the engine that the source names, else of the one in the file's name."""
    named = [{"kernel_source": engine_in_name(anchor), **row} for row in rows]
    for (source,), group in split(named, "kernel_source"):
        if source.endswith("eager"):
            continue  # launched from Python each time, whereas engines replay CUDA graphs
        engine = source.lower().partition("_")[0]
        yield _exchange_set(anchor, chip.name, "all-reduce", group, 2.0, column(group, "latency") * MILLI, engine)


def library(anchor: str, chip: Chip, rows: Rows) -> Iterator[KernelSet]:
    """The collectives of the vendor's library (NCCL)."""
    for (name, dtype), group in split(rows, "op_name", "nccl_dtype"):
        width = 2.0 if dtype == "half" else 1.0
        seconds = column(group, "latency") * MILLI
        yield _exchange_set(anchor, chip.name, _COLLECTIVE[name], group, width, seconds, "")


def collective_table(facts: Facts, rows: Rows) -> Iterator[KernelSet]:
    """A table of collectives measured on several chips."""
    for (gpu, name, path), group in split(rows, "gpu", "op", "path_under_source"):
        chip = facts.chip_name(gpu)
        kind = _COLLECTIVE.get(name.removeprefix(_CUSTOM))
        if chip is None or kind is None:
            continue
        engine = engine_in_name(path) if name.startswith(_CUSTOM) else ""
        renamed = [{**row, "num_gpus": row["gpus"]} for row in group]
        seconds = column(group, "latency_us") * MICRO
        yield _exchange_set("collectives_gpu", chip, kind, renamed, 2.0, seconds, engine)


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
