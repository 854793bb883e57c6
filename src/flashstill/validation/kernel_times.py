"""Predicted seconds of the kernels and collectives of an anchor file, with the chip's coefficients or given ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flashstill.cost.conditions import Conditions
from flashstill.cost.kernels import quantise_seconds
from flashstill.cost.links import link_cost
from flashstill.cost.operations import operation_seconds
from flashstill.hardware import Calibration, Chip, Collective, Kernel
from flashstill.parallel import Exchange
from flashstill.validation.anchors.formats import kernels_alone
from flashstill.validation.anchors.tables import QUANTISATION, KernelSet
from flashstill.validation.comparison import Values
from flashstill.workload import Matmul, Operation


def kernel_seconds(chip: Chip, item: KernelSet, kernel: Kernel | None = None) -> Values:
    """Predicted seconds of a set of kernels, with the chip's own coefficients or with `kernel`."""
    calibration = chip.calibration
    if kernel is not None:
        calibration = replace(calibration, kernels={(item.kind, item.precision): kernel})
    if item.timed == QUANTISATION:
        assert isinstance(item.work, Matmul)
        used = calibration.kernel(item.kind, item.precision, item.engine)
        return np.asarray(quantise_seconds(chip, item.work, used), dtype=np.float64)
    conditions = timed_alone(chip, item, calibration)
    works = item.work if isinstance(item.work, tuple) else (item.work,)
    return sum((seconds_of(conditions, work, item.seconds) for work in works), start=np.zeros_like(item.seconds))


def timed_alone(chip: Chip, item: KernelSet, calibration: Calibration) -> Conditions:
    """Conditions of kernels measured alone, without an engine's overheads around them."""
    alone = kernels_alone(chip, item.precision, item.cache)
    software = replace(alone.software, name=item.engine, quantise_ratio=1.0)
    return replace(alone, calibration=calibration, software=software)


def seconds_of(conditions: Conditions, work: Operation | Exchange, like: Values) -> Values:
    """Seconds of all kernels of an operation, in the shape of `like`."""
    assert isinstance(work, Operation)
    seconds = operation_seconds(conditions, work).seconds * work.count
    return np.broadcast_to(np.asarray(seconds, dtype=np.float64), like.shape)


def exchange_seconds(chip: Chip, item: KernelSet, collective: Collective | None = None) -> Values:
    """Predicted seconds of a set of collectives, with the chip's own coefficients or given ones."""
    calibration: Calibration = chip.calibration
    if collective is not None:
        calibration = replace(calibration, collectives={(item.kind, item.engine): collective})
    assert isinstance(item.work, Exchange)
    return np.asarray(link_cost(chip, calibration, item.work, item.engine).seconds, dtype=np.float64)
