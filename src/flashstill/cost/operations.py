"""Seconds and joules of one chip's share of one operation: selects the coefficients, peak and bytes of its kernel.

The fits of flashstill.validation.calibration call `operation_seconds` with trial coefficients, so that fits and
predictions share one formula.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from flashstill.cost import attention_kernels, kernels, sparse
from flashstill.cost.conditions import Conditions
from flashstill.cost.timing import Timing, fastest, memory_seconds, scaled
from flashstill.hardware import Kernel
from flashstill.hardware.calibration import kernel_format
from flashstill.hardware.present import either, present
from flashstill.workload import Attention, Experts, IndexScores, Matmul, Operation, Quantity, SmallKernels, State

_NO_TIME: Quantity = 0.0
SCALED = "fp8"
"""the format of one scale a tensor; those of blocks and of 4 bits belong to rows and blocks, found in one kernel"""


def operation_seconds(conditions: Conditions, operation: Operation) -> Timing:
    """Seconds of one chip's share of an operation, with the engine's own kernels and its kernel ratios.

    Software that uses the fastest of several engines has each operation timed with the kernels of each.
    """
    if isinstance(operation, Experts):
        operation = operation.busiest
    kind, precision = kernel_kind(operation), _coefficients_in(conditions, operation)
    software, calibration = conditions.software, conditions.calibration
    if not software.fastest_of:
        return _with_kernel(conditions, operation, calibration.kernel(kind, precision, software.name))
    usable = calibration.kernels_of(kind, precision, [engine.name for engine in software.fastest_of])
    return fastest([_with_kernel(conditions, operation, kernel) for kernel in usable])


def kernel_kind(operation: Operation) -> str:
    """The kind of kernel that computes an operation, as calibration rows name it."""
    if isinstance(operation, Experts):
        return "experts"
    if isinstance(operation, State):
        return operation.kernel
    if isinstance(operation, Attention | IndexScores | SmallKernels):
        return _kind_by_phase(operation)
    return "matmul"


def _kind_by_phase(operation: Attention | IndexScores | SmallKernels) -> str:
    when = "-prompt" if operation.prompt else ""
    if isinstance(operation, SmallKernels):
        return f"selecting-kernels{when}" if operation.selecting else f"small-kernels{when}"
    if isinstance(operation, IndexScores):
        return f"index-scores{when}" if operation.shared else f"block-scores{when}"
    if operation.slots is not None:
        return f"selected{when}" if operation.latent else f"blocks{when}"
    if operation.expanded:
        return "expanded-attention"
    return "prompt-attention" if operation.prompt else "latent-attention" if operation.latent else "decode-attention"


def _coefficients_in(conditions: Conditions, operation: Operation) -> str:
    """The precision whose coefficients apply to an operation."""
    if isinstance(operation, Matmul):
        return kernel_precision(conditions, operation.role)
    if isinstance(operation, Experts):
        return kernel_precision(conditions, "experts")
    by_cache = isinstance(operation, Attention | IndexScores | SmallKernels)
    return conditions.precisions.kv if by_cache else "bf16"


def _with_kernel(conditions: Conditions, operation: Operation, kernel: Kernel) -> Timing:
    """Seconds of an operation with the coefficients `kernel`."""
    chip, main = conditions.chip, conditions.chip.memory
    if isinstance(operation, Experts):
        runs_in = conditions.runs_in(conditions.precisions.experts)
        timing = kernels.experts(chip, operation, kernel, chip.flops_per_s[runs_in], main, conditions.weights)
        moved_s = operation.activation_bytes / main.bytes_per_s
        read_s = operation.weight_bytes / conditions.weights.bytes_per_s
        peaks_s = np.maximum(timing.compute_s * kernel.compute_efficiency, read_s) + moved_s
        return scaled(timing, conditions.software.experts_ratio, peaks_s)
    if isinstance(operation, SmallKernels):
        return sparse.small_kernels(operation, kernel, main)
    if isinstance(operation, Attention) and operation.slots is not None:
        rate = chip.flops_per_s[chip.precision("bf16")]
        return sparse.selected_attention(chip, operation, kernel, rate, conditions.cache)
    memory_s = memory_seconds(operation, conditions.weights, conditions.cache, main, kernel.memory_efficiency)
    if isinstance(operation, Matmul):
        runs_in = conditions.runs_in(conditions.precisions.of(operation.role))
        timing = kernels.matmul(chip, operation, kernel, chip.flops_per_s[runs_in], memory_s)
        ratio, quantise_s = conditions.software.matmul_ratio, _NO_TIME
        if present(conditions.software.quantise_ratio):
            quantised = partial(kernels.quantise_seconds, chip, operation, kernel)
            floor_s, free = kernel.quantise_floor_s, lambda: _NO_TIME
            unfused = conditions.software.quantise_ratio * _scales_ratio(conditions, operation.role)
            quantise_s = unfused * either(floor_s, quantised, free)
        rate, bounded = chip.flops_per_s[runs_in], not isinstance(ratio, float) or ratio < 1.0
        peaks_s = kernels.peak_seconds(chip, operation, timing, kernel, rate) if bounded else _NO_TIME
        return scaled(timing, ratio, peaks_s, quantise_s)
    if isinstance(operation, Attention):
        # Prefill with an 8-bit cache multiplies in 8 bits; decode attention computes in bf16 and is memory-bound.
        rate = chip.flops_per_s[chip.precision(conditions.precisions.kv if operation.prompt else "bf16")]
        timed = attention_kernels.prompt_attention if operation.prompt else attention_kernels.decode_attention
        return timed(chip, operation, kernel, rate, memory_s)
    if isinstance(operation, IndexScores):
        return sparse.index_scores(operation, kernel, chip.flops_per_s[chip.precision("fp8")], memory_s)
    if isinstance(operation, State):
        return kernels.recurrence(chip, operation, kernel, chip.flops_per_s[chip.precision("bf16")], memory_s)
    compute_s = operation.flops / (chip.flops_per_s[chip.precision("bf16")] * kernel.compute_efficiency)
    return Timing(seconds=np.maximum(compute_s, memory_s), compute_s=compute_s, memory_s=memory_s, floor_s=0.0)


def _scales_ratio(conditions: Conditions, role: str) -> float:
    """What is left of the quantisation that was measured where the checkpoint has the scales: one per tensor in fp8."""
    return conditions.software.scales_ratio if kernel_precision(conditions, role) == SCALED else 1.0


def kernel_precision(conditions: Conditions, role: str) -> str:
    """The precision whose coefficients apply, by the format stored and that which the chip multiplies in."""
    stored = conditions.precisions.of(role)
    return kernel_format(stored, conditions.runs_in(stored))


def operation_joules(conditions: Conditions, operation: Operation) -> dict[str, Quantity]:
    """Dynamic joules of one chip's share of an operation, by level; links excluded."""
    chip, main = conditions.chip, conditions.chip.memory
    role = "experts" if isinstance(operation, Experts) else getattr(operation, "role", "exact")
    stored = conditions.precisions.of(role)
    if isinstance(operation, Attention | IndexScores):
        stored = "fp8" if isinstance(operation, IndexScores) else "bf16"
    runs_in = conditions.runs_in(stored)
    macs = operation.flops / 2.0
    room = conditions.calibration.on_chip_share * chip.on_chip_bytes
    on_chip = np.asarray(operation.activation_bytes) <= room
    moved = operation.activation_bytes
    return {
        "arithmetic": macs * chip.joules_per_mac[runs_in],
        "near_sram": macs * chip.operand_joules_per_mac[runs_in],
        "far_sram": np.where(on_chip, moved, 0.0) * chip.on_chip_joules_per_byte,
        "weights": operation.weight_bytes * conditions.weights.joules_per_byte_total,
        "kv": operation.kv_bytes * conditions.cache.joules_per_byte_total,
        "activations": np.where(on_chip, 0.0, moved) * main.joules_per_byte_total,
    }


def streaming_watts(conditions: Conditions) -> Quantity:
    """Dynamic power of one chip whose main memory is streamed by elementwise kernels, such as sorting the logits.

    At most what the chip may draw beside its clocks: the seconds of sorting are given, so that a faster memory must not
    make a power limit stretch them.
    """
    chip, kernel = conditions.chip, conditions.calibration.kernel("matmul", "bf16")
    streaming = chip.memory.bytes_per_s * kernel.memory_efficiency * chip.memory.joules_per_byte_total
    watts: Quantity = np.minimum(streaming, chip.power_limit_w - chip.static_w)
    return watts
