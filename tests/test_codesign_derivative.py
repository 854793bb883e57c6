"""Elasticities against analytic derivatives of the closed form, which know no finite difference.

    t = floor + b,   b = (C^p + M^p)^(1/p)
    d t / d ln(peak) = -b (C/b)^p                  C, M: seconds of computing and of moving bytes
    d t / d ln(bandwidth) = -b (M/b)^p
    throttled:  (limit - waiting watts) t = f^2 A + B,  t = T + K (1/f - 1)     cost/throttle.py
                d t = d T + (1/f - 1) d K - K/f^2 d f,  and the same t from A, whose clocks run as long as C and M count
                at the lowest voltage v:  d t = v^2 d A / (limit - waiting watts)

Where nothing is blended (perfect conditions) these are the shares of the time that each rate bounds.  The time per
output token is linear in the times of a decode step, a mixed step and a pass of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import flashstill as fs
from flashstill.arch import Architecture, load_architecture
from flashstill.codesign.elasticities import STEP
from flashstill.codesign.scaled import scaled
from flashstill.cost import Conditions, Load
from flashstill.cost.closed_form import Paces, closed_form
from flashstill.cost.kernels import matmul
from flashstill.cost.load import chunks_of, prompts_together
from flashstill.cost.operations import kernel_kind, kernel_precision, operation_seconds
from flashstill.cost.phases import decode_step, mixed_step, prefill_step
from flashstill.cost.step import StepCost
from flashstill.cost.throttle import CORE_LEVELS
from flashstill.cost.timing import memory_seconds
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Layout, shard
from flashstill.plan.deployment import Deployment
from flashstill.plan.setup import conditions_of
from flashstill.workload import Attention, Decoding, Experts, Matmul, Operation, decode, mixed, prefill
from tests.marks import slow

FACTS = load()
ISL = OSL = 1024.0


class Slopes(NamedTuple):
    """d t / d ln(rate): of the peak and the operands' loads together, and of the memory's bandwidth."""

    compute: float
    memory: float


class Clocked(NamedTuple):
    """Seconds of an operation that follow the clock, and their slopes."""

    seconds: float
    slopes: Slopes


def slopes_of(conditions: Conditions, operations: Sequence[Operation]) -> Slopes:
    each = [(float(one.count), slopes_of_one(conditions, one)) for one in operations]
    return Slopes(*(sum(count * one[which] for count, one in each) for which in range(2)))


def slopes_of_one(conditions: Conditions, operation: Operation) -> Slopes:
    """Of one operation, by the formula of its kernel."""
    operation = operation.busiest if isinstance(operation, Experts) else operation
    timing = operation_seconds(conditions, operation)
    kernel = conditions.calibration.kernel(
        kernel_kind(operation), coefficients(conditions, operation), engine(conditions)
    )
    tiers = (conditions.weights, conditions.cache, conditions.chip.memory)
    math_s, moved_s = float(timing.compute_s), 0.0
    memory_s = float(memory_seconds(operation, *tiers, kernel.memory_efficiency))
    if isinstance(operation, Attention) and operation.prompt:
        return Slopes(-math_s, -memory_s)  # a sum
    if isinstance(operation, Experts):
        memory_s = float(operation.weight_bytes / (tiers[0].bytes_per_s * kernel.memory_efficiency))
        moved_s = float(timing.memory_s) - memory_s
    exponent, split_s = float(kernel.blend), 0.0
    ratio = conditions.software.experts_ratio if isinstance(operation, Experts) else 1.0
    assert ratio >= 1.0, "below it, what is as fast as the chip's peaks stays so"
    blended_s = float(timing.seconds / ratio - timing.floor_s / ratio) - moved_s
    if isinstance(operation, Matmul):
        ratio = conditions.software.matmul_ratio
        rate = conditions.chip.flops_per_s[conditions.chip.precision(conditions.precisions.of(operation.role))]
        unsplit = matmul(conditions.chip, operation, replace(kernel, split_s=0.0), rate, memory_s)
        in_waves = math_s > float(operation.flops) / (rate * kernel.compute_efficiency) * (1.0 + 1e-12)
        split_s = float(kernel.split_s) if in_waves and float(unsplit.compute_s) > math_s else 0.0  # a split depth
        blended_s = max(math_s, memory_s) * (1 + (min(math_s, memory_s) / max(math_s, memory_s)) ** exponent) ** (
            1 / exponent
        )
        whole_s = (float(kernel.floor_s) + blended_s) * ratio
        if float(timing.seconds) > whole_s * (1.0 + 1e-9):  # an engine's ratio makes nothing faster than at its peaks
            streams = memory_s * kernel.memory_efficiency == pytest.approx(timing.seconds, rel=1e-9)
            return Slopes(0.0, -float(timing.seconds)) if streams else Slopes(-float(timing.seconds), 0.0)
    if exponent >= 64.0:  # the longest of the parts, which may be neither
        part = [ratio * seconds if seconds >= blended_s * (1.0 - 1e-12) else 0.0 for seconds in (math_s, memory_s)]
    else:
        part = [ratio * blended_s * (seconds / blended_s) ** exponent for seconds in (math_s, memory_s)]
    return Slopes(-part[0] * (1.0 - split_s / max(math_s, 1e-30)), -part[1] - ratio * moved_s)


def coefficients(conditions: Conditions, operation: Operation) -> str:
    if isinstance(operation, Matmul | Experts):
        return kernel_precision(conditions, operation.role if isinstance(operation, Matmul) else "experts")
    return conditions.precisions.kv if isinstance(operation, Attention) else "bf16"


def engine(conditions: Conditions) -> str:
    assert not conditions.software.fastest_of
    return conditions.software.name


def clocked_of_one(conditions: Conditions, operation: Operation) -> Clocked:
    """K = max(C - v T, 0) / (1 - v) of its T seconds; all of them where C is not less."""
    slopes, timing = slopes_of_one(conditions, operation), operation_seconds(conditions, operation)
    seconds, math_s = float(timing.seconds - timing.floor_s), float(timing.compute_s)
    least = conditions.chip.least_voltage_ratio
    if math_s >= seconds:
        return Clocked(seconds, slopes)
    if math_s <= least * seconds:
        return Clocked(0.0, Slopes(0.0, 0.0))
    of_math = Slopes(-math_s, 0.0)
    return Clocked(
        (math_s - least * seconds) / (1.0 - least),
        Slopes(*((one - least * whole) / (1.0 - least) for one, whole in zip(of_math, slopes, strict=True))),
    )


def of_step(conditions: Conditions, cost: StepCost, operations: Sequence[Operation]) -> Slopes:
    """Of one step: the sum of its operations; of a throttled one, what the clock makes of them."""
    slopes, chip = slopes_of(conditions, operations), conditions.chip
    if not np.any(cost.shares_s["power"]):
        return slopes
    watts, clocks_w, least = (
        chip.power_limit_w - chip.waiting_w,
        chip.static_w - chip.waiting_w,
        chip.least_voltage_ratio,
    )
    busy_s = float(cost.shares_s["compute"] + cost.shares_s["memory"])
    left = float(cost.joules["active"]) / (clocks_w * busy_s)
    if left <= least**2 * (1.0 + 1e-9):
        return Slopes(*(least**2 * clocks_w * slope / watts for slope in slopes))
    clock, core = left**0.5, sum(float(cost.joules[level]) for level in CORE_LEVELS) / left
    each = [(float(one.count), clocked_of_one(conditions, one)) for one in operations]
    clocked_s = sum(count * one.seconds for count, one in each)
    found = []
    for which in range(2):
        at_clock = slopes[which] + (1.0 / clock - 1.0) * sum(count * one.slopes[which] for count, one in each)
        core_slope = clocks_w * slopes[which]
        bend = clocked_s / clock**2
        faster = (at_clock - left * core_slope / watts) / (bend + 2.0 * core * clock / watts)
        found.append(at_clock - bend * faster)
    return Slopes(*found)


def analytic(model: Architecture, conditions: Conditions, batch: float) -> Slopes:
    """d ln(time per output token) / d ln(rate) of one chip with so many requests in flight."""
    layout, load = Layout(), Load(isl=ISL, osl=OSL, concurrency=batch, burst_share=0.1)
    context, widths, skew = ISL + OSL / 2.0, conditions.widths, conditions.skew
    prompts = prompts_together(conditions, load, batch)
    decoding, chunks = Decoding(sequences=batch, context=context, queries=1.0), chunks_of(load, prompts)
    steps = (
        (decode_step(model, conditions, layout, batch, context), decode(model, batch, context, widths, 1.0, skew)),
        (mixed_step(model, conditions, layout, decoding, chunks), mixed(model, decoding, chunks, widths, skew)),
        (prefill_step(model, conditions, layout, prompts, ISL), prefill(model, prompts, ISL, widths, 0.0, skew)),
    )
    seconds = [float(cost.seconds) for cost, _ in steps]
    slopes = [of_step(conditions, cost, shard(work, layout).operations) for cost, work in steps]

    def tpot(of_decode: float, of_mixed: float, of_pass: float) -> float:
        nothing: dict[str, Any] = dict.fromkeys(
            ("step_joules", "mixed_joules", "mixed_timed_joules", "pass_joules", "pass_timed_joules"), 0.0
        )
        paces = Paces(step_s=of_decode, mixed_s=of_mixed - of_decode, pass_s=of_pass, prompts=prompts, **nothing)
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(closed_form(conditions, layout, load, batch, paces).tpot_s)

    today = tpot(*seconds)
    return Slopes(*(tpot(*(one[which] for one in slopes)) / today for which in range(2)))


@pytest.mark.parametrize(
    ("model", "chip"),
    [
        ("qwen3-8b", "h200-sxm"),
        ("qwen3-8b", "tpu-v6e"),
        ("llama-3.1-8b", "mi300x"),
        ("phi-4", "a100-80g"),
        ("qwen3-30b-a3b", "h200-sxm"),
        ("qwen3-30b-a3b", "mi300x"),
        ("mixtral-8x7b", "tpu-v7"),
    ],
)
@pytest.mark.parametrize("batches", [(32,), *slow(((1,),))])
def test_elasticities_are_the_analytic_derivatives(model: str, chip: str, batches: tuple[int, ...]) -> None:
    asked: dict[str, Any] = {"tiers": ("memory",), "precisions": ("bf16",), "batches": batches, "max_chips": 1}
    (pair,) = fs.codesign(model=model, chip=chip, doubling=False, **asked).pairs
    found = {name: of["seconds"] for name, of in pair.sensitivity.elasticities.items() if "seconds" in of}
    assert found, "the model fits on one chip"
    architecture = load_architecture(model)
    deployment = Deployment(chip=chip, precision="bf16", weights_in="memory", kv_in="memory")
    conditions = conditions_of(FACTS, architecture, chip_from_facts(FACTS, chip), deployment)
    expected = analytic(architecture, conditions, float(batches[0]))
    rates = ("flops_per_s[bf16]", "flops_per_s[fp32]", "unit_load_rates")  # of tiles, vector units, loads
    compute = [found[name].fixed for name in rates if name in found]
    assert sum(one for one in compute if one is not None) == pytest.approx(expected.compute, abs=2e-5)
    assert found["memory_bytes_per_s"].fixed == pytest.approx(expected.memory, abs=2e-5)
    assert expected.memory < -0.05


@pytest.mark.parametrize("chip", ["h100-sxm", "tpu-v5p", "a100-80g"])
@pytest.mark.parametrize(("model", "dp"), [("qwen3-8b", 1), ("qwen3-30b-a3b", 4)])
def test_without_blends_they_are_shares_of_the_time(model: str, dp: int, chip: str) -> None:
    """Of peak, memory and links, at perfect conditions: minus the seconds that each bounds over all seconds."""
    architecture = load_architecture(model)
    deployment = Deployment(chip=chip, precision="bf16", weights_in="memory", kv_in="memory")
    free = conditions_of(FACTS, architecture, chip_from_facts(FACTS, chip), deployment).perfect
    layout = Layout(tp=4.0 / dp, dp=float(dp), ep=float(dp))

    def step(place: str = "limit", factor: float = 1.0) -> StepCost:
        changed = scaled(free, {"limit": 1e3, place: factor} if place != "limit" else {"limit": 1e3})
        return decode_step(architecture, changed, layout, 512.0, 2048.0)

    today = step()
    assert not np.max(today.shares_s["power"])
    up = 1.0 + STEP
    for place, bound in (("flops.bf16", "compute"), ("memory.rate", "memory"), ("link", "links")):
        sides = step(place, up).seconds, step(place, 1.0 / up).seconds
        slope = float(np.log(sides[0] / sides[1]) / (2.0 * np.log(up)))
        assert slope == pytest.approx(-float(today.shares_s[bound] / today.seconds), abs=2e-6), bound
