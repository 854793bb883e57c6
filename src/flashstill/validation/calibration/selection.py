"""Which of the timed kernels of a kind the coefficients are fitted to; the others are not fitted in the error table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from flashstill.hardware import Chip
from flashstill.hardware.calibration import COLLECTIVES
from flashstill.validation.anchors.tables import KernelSet

HOST_RATIO = 10.0
"""a file whose shortest kernel takes so many times that of the other files' times the host that launches it"""
OWN_KERNELS = ("trtllm", "vllm", "sglang")
"""engines in the order in which their expert kernels are taken: the first that was timed on a chip. Each engine brings
its own (CUTLASS, Triton, Marlin), up to four times apart, so that a mean would be nobody's; how much slower or faster
an engine's are in use is its `experts_ratio`. Products and attention come from libraries that all engines share."""
Timed = Sequence[tuple[Chip, KernelSet]]


def by_kind(items: Iterable[tuple[Chip, KernelSet]]) -> dict[tuple[str, str], list[tuple[Chip, KernelSet]]]:
    """The sets that share coefficients: of a kind, and of a precision or, for collectives, a library."""
    found: dict[tuple[str, str], list[tuple[Chip, KernelSet]]] = defaultdict(list)
    for chip, item in items:
        found[item.kind, item.engine if item.kind in COLLECTIVES else item.precision].append((chip, item))
    return found


def chosen(kind: str, items: Timed) -> tuple[list[tuple[Chip, KernelSet]], list[str]]:
    """The sets that coefficients are fitted to, and the names of the files that time the host."""
    return _of_the_chip(_of_one_engine(items) if kind == "experts" else items)


def _of_the_chip(items: Timed) -> tuple[list[tuple[Chip, KernelSet]], list[str]]:
    shortest: dict[str, float] = {}
    for chip, item in items:
        name = f"{item.anchor} on {chip.name}"
        shortest[name] = min(shortest.get(name, np.inf), float(item.seconds.min()))
    usual = float(np.median(list(shortest.values())))
    hosts = sorted(name for name, seconds in shortest.items() if seconds > HOST_RATIO * usual)
    return [(chip, item) for chip, item in items if f"{item.anchor} on {chip.name}" not in hosts], hosts


def _of_one_engine(items: Timed) -> list[tuple[Chip, KernelSet]]:
    timed = {(chip.name, item.engine) for chip, item in items}
    first = {name: next(engine for engine in OWN_KERNELS if (name, engine) in timed) for name, _ in timed}
    return [(chip, item) for chip, item in items if item.engine == first[chip.name]]


def for_the_class(kind: str, items: Timed) -> Timed:
    """Of the chosen sets those that a class of chips is fitted to: expert kernels of one engine only."""
    if kind != "experts":
        return items
    engine = next(name for name in OWN_KERNELS if any(item.engine == name for _, item in items))
    return [(chip, item) for chip, item in items if item.engine == engine]
