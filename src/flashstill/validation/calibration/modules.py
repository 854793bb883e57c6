"""Coefficients of kernels that are timed within whole mixers only: selected attention, indexers, small kernels.

All kinds of one engine and cache format are fitted at once to that engine's mixers on one chip, with the products and
other kernels as they are.  The class has the values of the chip with the most timings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from flashstill.cost.operations import kernel_kind
from flashstill.hardware import Calibration, Chip, Kernel
from flashstill.hardware.calibration import MODULES
from flashstill.validation.anchors.tables import KernelSet
from flashstill.validation.calibration.fit import Fit, Measured, least
from flashstill.validation.calibration.rows import FittedKind
from flashstill.validation.comparison import Values
from flashstill.validation.kernel_times import seconds_of, timed_alone
from flashstill.workload import Operation

START: Mapping[str, Mapping[str, float]] = {
    "selected": {"compute_efficiency": 0.4, "memory_efficiency": 0.6, "floor_s": 1.2e-5, "blend": 2.0, "padding": 0.1},
    "selected-prompt": {
        "compute_efficiency": 0.4,
        "passes": 0.3,
        "floor_s": 1e-3,
        "blend": 4.0,
        "padding": 0.3,
    },
    "blocks": {"compute_efficiency": 0.2, "memory_efficiency": 0.6, "floor_s": 8e-6, "blend": 2.0, "padding": 0.1},
    "blocks-prompt": {"compute_efficiency": 0.2, "passes": 0.3, "floor_s": 1.2e-5, "blend": 2.0, "padding": 0.1},
    "index-scores": {"compute_efficiency": 0.3, "memory_efficiency": 0.6, "floor_s": 6e-5, "blend": 2.0},
    "index-scores-prompt": {"compute_efficiency": 0.3, "memory_efficiency": 0.6, "floor_s": 2e-5, "blend": 2.0},
    "block-scores": {"compute_efficiency": 0.2, "memory_efficiency": 0.6, "floor_s": 5e-6, "blend": 2.0},
    "block-scores-prompt": {"compute_efficiency": 0.2, "memory_efficiency": 0.6, "floor_s": 5e-6, "blend": 2.0},
    "small-kernels": {"floor_s": 3e-5, "memory_efficiency": 0.5},
    "small-kernels-prompt": {"floor_s": 8e-5, "memory_efficiency": 0.5},
    "selecting-kernels": {"floor_s": 3e-5, "memory_efficiency": 0.5},
    "selecting-kernels-prompt": {"floor_s": 5e-4, "memory_efficiency": 0.5},
}
PRIOR: Mapping[str, float] = {
    "compute_efficiency": 0.7,
    "memory_efficiency": 0.4,
    "floor_s": 1.0,
    "blend": 0.4,
    "padding": 1.0,
    "passes": 0.7,
}
"""standard deviations (in logs) of coefficients around the start values"""
STAND_INS = ("sglang", "vllm")
"""preference order of engines whose kernels stand for those of an engine without rows: the leanest first"""
ENGINES_ALONE = ("small-kernels", "small-kernels-prompt")
"""kinds that stand for no other engine: DeepSeek-V3 as SGLang and TensorRT-LLM serve it leaves no room for the 50 us of
vLLM's small kernels, which were timed alone"""
_REST = Kernel(compute_efficiency=0.5, memory_efficiency=0.8, floor_s=0.0)
Timed = Sequence[tuple[Chip, KernelSet]]


def fit_modules(timed: Timed) -> list[FittedKind]:
    """Fits of every kind, by cache format and engine; a chip with fewer timings starts from the fit of the first."""
    groups: dict[str, dict[str, list[tuple[Chip, KernelSet]]]] = defaultdict(lambda: defaultdict(list))
    for chip, item in timed:
        if isinstance(item.work, tuple):
            groups[f"{item.cache} {item.engine}"][chip.name].append((chip, item))
    fitted = []
    for condition, by_chip in sorted(groups.items()):
        ordered = sorted(by_chip.values(), key=lambda items: -sum(len(item.seconds) for _, item in items))
        first = _fit(ordered[0], {})
        fits = {items[0][0].name: _fit(items, first.values) if items is not ordered[0] else first for items in ordered}
        fitted += [
            FittedKind(
                kind=kind,
                condition=condition,
                chip_class=ordered[0][0][0].chip_class,
                together=_part(first, kind),
                alone={name: _part(fit, kind) for name, fit in fits.items() if _has(fit, kind)},
            )
            for kind in MODULES
            if _has(first, kind)
        ]
    return [*fitted, *_for_the_others(fitted)]


def _for_the_others(fitted: Sequence[FittedKind]) -> list[FittedKind]:
    """The fits that stand for engines without rows: those of the first engine of `STAND_INS` that was timed."""
    found: dict[tuple[str, str], FittedKind] = {}
    for engine in STAND_INS:
        for each in fitted:
            cache, _, own = each.condition.partition(" ")
            if own == engine and each.kind not in ENGINES_ALONE:
                shared = replace(each, condition=cache, note=f"of {engine}'s kernels, for engines without rows")
                found.setdefault((each.kind, cache), shared)
    return list(found.values())


def _fit(items: Timed, start: Mapping[str, float]) -> Fit:
    """All coefficients of the mixers of `items` at once, named kind.coefficient."""
    kinds = {kernel_kind(work) for _, item in items for work in _works(item)} & set(MODULES)
    known = {f"{kind}.{name}": value for kind in START for name, value in START[kind].items() if kind in kinds}
    begin = {name: start.get(name, value) for name, value in known.items()}
    fixed = [_fixed(chip, item) for chip, item in items]

    def predicted(values: Mapping[str, float]) -> list[Values]:
        kernels = {kind: _kernel(values, kind) for kind in kinds}
        return [rest + _seconds(chip, item, kernels) for (chip, item), rest in zip(items, fixed, strict=True)]

    measured = [
        Measured(group=item.anchor, values=item.seconds, clusters=np.full(len(item.seconds), i))
        for i, (_, item) in enumerate(items)
    ]
    return least(begin, predicted, measured, {name: PRIOR[name.partition(".")[2]] for name in begin})


def _fixed(chip: Chip, item: KernelSet) -> Values:
    """Seconds of the kernels that are not fitted here."""
    conditions = timed_alone(chip, item, chip.calibration)
    rest = [work for work in _works(item) if kernel_kind(work) not in MODULES]
    return sum((seconds_of(conditions, work, item.seconds) for work in rest), start=np.zeros_like(item.seconds))


def _seconds(chip: Chip, item: KernelSet, kernels: Mapping[str, Kernel]) -> Values:
    trial: Calibration = replace(
        chip.calibration, kernels={(kind, item.cache): kernel for kind, kernel in kernels.items()}
    )
    conditions = timed_alone(chip, item, trial)
    mine = [work for work in _works(item) if kernel_kind(work) in kernels]
    return sum((seconds_of(conditions, work, item.seconds) for work in mine), start=np.zeros_like(item.seconds))


def _works(item: KernelSet) -> tuple[Operation, ...]:
    return item.work if isinstance(item.work, tuple) else ()


def _kernel(values: Mapping[str, float], kind: str) -> Kernel:
    return replace(_REST, **{name: values[f"{kind}.{name}"] for name in START[kind]})


def _has(fit: Fit, kind: str) -> bool:
    return f"{kind}.floor_s" in fit.values


def _part(fit: Fit, kind: str) -> Fit:
    """The coefficients of one kind; their names without it."""

    def own(values: Mapping[str, float]) -> dict[str, float]:
        return {name.partition(".")[2]: value for name, value in values.items() if name.partition(".")[0] == kind}

    return replace(fit, values=own(fit.values), spread=own(fit.spread))
