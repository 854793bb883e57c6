"""Selects the timed kernels to which coefficients are fitted; the error table marks the others as not fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from flashstill.hardware import Chip
from flashstill.hardware.calibration import COLLECTIVES, RECURRENT
from flashstill.validation.anchors.tables import WHOLE, KernelSet

HOST_RATIO = 10.0
"""a file whose shortest kernel takes this many times the median shortest time measures the host's launches, not the
chip"""
CHIP_RATIO = 2.0
"""in such a file, a kernel that takes this many times the shortest one hides the launches"""
OWN_KERNELS = ("trtllm", "vllm", "sglang")
"""Preference order of engines whose kernels stand for those of an engine without rows: the first one timed on a
chip. Kernels of experts (CUTLASS, Triton, FlashInfer's) lie up to four times apart, so a mean would describe none."""
BY_ENGINE = ("matmul", "experts", "decode-attention", "prompt-attention", "latent-attention", *RECURRENT)
"""kinds of kernels that get coefficients of each engine besides those of all engines"""
UNLIKE = ("experts", "decode-attention", "prompt-attention", "latent-attention", "state-scan")
"""kinds of which each engine has kernels of its own, so far apart that those of one engine stand for the others"""
Timed = Sequence[tuple[Chip, KernelSet]]


def by_maker(items: Timed) -> list[Timed]:
    """The sets by maker's class, that of the most chips first: one maker's kernels tell nothing of another's."""
    makers: dict[str, list[tuple[Chip, KernelSet]]] = defaultdict(list)
    for chip, item in items:
        makers[chip.maker_class].append((chip, item))
    return sorted(makers.values(), key=lambda group: -len({chip.name for chip, _ in group}))


def by_kind(items: Iterable[tuple[Chip, KernelSet]]) -> dict[tuple[str, str], list[tuple[Chip, KernelSet]]]:
    """Sets that share coefficients, by kind and condition.

    The condition is a precision ("fp8"), a precision and an engine whose kernels have coefficients of their own ("fp8
    vllm", where several engines were timed), or the library of a collective.
    """
    found: dict[tuple[str, str], list[tuple[Chip, KernelSet]]] = defaultdict(list)
    for chip, item in items:
        found[item.kind, item.engine if item.kind in COLLECTIVES else item.precision].append((chip, item))
    for (kind, precision), shared in list(found.items()):
        if kind not in BY_ENGINE:
            continue
        timed = _of_the_chip(shared)[0]
        # Kernels that an engine takes for some shapes only are named after themselves and stand for no engine.
        found[kind, precision] = [pair for pair in shared if pair[1].engine in OWN_KERNELS] or shared
        usual = found[kind, precision]
        engines = sorted({item.engine for _, item in timed})
        for engine in engines if len(engines) > 1 else ():
            own = [pair for pair in timed if pair[1].engine == engine]
            if own != (_of_one_engine(usual) if kind in UNLIKE else usual):
                found[kind, f"{precision} {engine}"] = own
    return found


def chosen(kind: str, items: Timed) -> tuple[list[tuple[Chip, KernelSet]], list[str]]:
    """The sets to fit, and the names of the files that measure the host instead.

    Sets that time a part of an operation are compared, but not fitted: the part may be another kernel in the whole.
    """
    whole = [(chip, item) for chip, item in items if item.timed == WHOLE]
    return _of_the_chip(_of_one_engine(whole) if kind in UNLIKE else whole)


def on_the_chip(item: KernelSet) -> tuple[KernelSet, KernelSet]:
    """A set of a file that measures the host: the rows that hide the launches, and the others."""
    hides = item.seconds > CHIP_RATIO * item.seconds.min()
    return item.where(hides), item.where(~hides)


def _of_the_chip(items: Timed) -> tuple[list[tuple[Chip, KernelSet]], list[str]]:
    shortest: dict[str, float] = {}
    for chip, item in items:
        name = f"{item.anchor} on {chip.name}"
        shortest[name] = min(shortest.get(name, np.inf), float(item.seconds.min()))
    usual = float(np.median(list(shortest.values()))) if shortest else np.inf
    hosts = sorted(name for name, seconds in shortest.items() if seconds > HOST_RATIO * usual)
    return [(chip, item) for chip, item in items if f"{item.anchor} on {chip.name}" not in hosts], hosts


def _of_one_engine(items: Timed) -> list[tuple[Chip, KernelSet]]:
    timed = {(chip.name, item.engine) for chip, item in items}
    if len({engine for _, engine in timed}) == 1:
        return list(items)
    first = {name: next(engine for engine in OWN_KERNELS if (name, engine) in timed) for name, _ in timed}
    return [(chip, item) for chip, item in items if item.engine == first[chip.name]]


def for_the_class(kind: str, items: Timed) -> Timed:
    """The chosen sets used for a chip class: kernels of one engine only where engines have unlike ones."""
    if kind not in UNLIKE or len({item.engine for _, item in items}) == 1:
        return items
    engine = next(name for name in OWN_KERNELS if any(item.engine == name for _, item in items))
    return [(chip, item) for chip, item in items if item.engine == engine]
