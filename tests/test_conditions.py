"""Formats of weights and cache: as a checkpoint stores them, or as asked for; and what their values weigh."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flashstill.arch.formats import Formats, Stored, plain
from flashstill.cost import Precisions, make_conditions
from flashstill.cost.conditions import as_published, in_gguf, precisions_of, stored_bytes, uniform
from flashstill.cost.operations import kernel_precision, operation_seconds
from flashstill.errors import BadInput
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.workload import Matmul
from tests.round import round_chip, round_conditions
from tests.small import small_model

FP8 = Stored(name="fp8", bits=8.002)
BLOCKS = Formats(
    base=plain("fp16"), linear=FP8, attention=plain("bf16"), experts=Stored(name="fp4", bits=4.25), head=FP8,
    scheme="fp8 in blocks",
)  # fmt: skip


def test_as_published() -> None:
    model = replace(small_model(), formats=BLOCKS)
    expected = Precisions(linear="fp8-block", attention="bf16", experts="fp4", exact="fp16", kv="bf16")
    assert as_published(model) == expected  # a head in 8 bits multiplies as the base does
    assert as_published(model, "fp8") == replace(expected, kv="fp8")
    whole = replace(model, formats=replace(BLOCKS, scheme="fp8", head=plain("fp32")))
    assert as_published(whole) == replace(expected, linear="fp8", exact="fp32")
    assert as_published(small_model()) == Precisions()


def test_a_file_of_a_quantised_model_has_no_16_bits() -> None:
    """Q4_K_M: the embedding and the head in Q6_K, and Q8_0 where a checkpoint of experts in 4 bits keeps 16."""
    assert in_gguf(uniform("int4", "bf16")) == replace(uniform("int4", "bf16"), exact="int8")
    mixture = Precisions(linear="bf16", attention="bf16", experts="mxfp4", exact="bf16", kv="bf16")
    assert in_gguf(mixture) == replace(mixture, linear="int8", attention="int8", exact="int8")
    assert in_gguf(Precisions()) == Precisions()


def test_what_is_asked_for() -> None:
    model = replace(small_model(), formats=BLOCKS)
    published = as_published(model)
    for name in (None, "fp8-block", "fp8", "fp4", "fp8 in blocks"):
        assert precisions_of(model, name) == published
    scaled = replace(model, formats=replace(BLOCKS, experts=Stored(name="mxfp4", bits=4.25)))
    assert precisions_of(scaled, "fp4") == precisions_of(scaled, "mxfp4") == as_published(scaled)
    assert precisions_of(model, "bf16") == Precisions()
    assert precisions_of(model, "int8", "bf16") == uniform("int8", "bf16")


@pytest.mark.parametrize(
    ("precision", "exact", "kv", "bytes_"),
    [
        ("fp32", "fp32", "fp32", 4.0),
        ("bf16", "bf16", "bf16", 2.0),
        ("fp8", "bf16", "fp8", 1.0),
        ("fp8-block", "bf16", "bf16", 1.0 + 4 / 16384),  # 4 bytes for 128 x 128
        ("int8", "bf16", "bf16", 1.0),
        ("fp4", "bf16", "fp8", 0.5 + 1 / 16),
        ("mxfp4", "bf16", "bf16", 0.5 + 1 / 32),
        ("int4", "bf16", "bf16", 0.5 + 2 / 64),
        ("int2", "bf16", "bf16", 0.25 + 2 / 64),
    ],
)
def test_everything_in_one_format(precision: str, exact: str, kv: str, bytes_: float) -> None:
    found = uniform(precision)
    assert (found.linear, found.attention, found.experts) == (precision, precision, precision)
    assert (found.exact, found.kv) == (exact, kv)
    assert stored_bytes(precision) == pytest.approx(bytes_, rel=1e-6)
    widths = found.widths
    assert [widths.of(role) for role in ("linear", "attention", "experts")] == [stored_bytes(precision)] * 3
    assert (widths.of("exact"), widths.kv) == (stored_bytes(exact), stored_bytes(kv))
    assert widths.activation == (4.0 if precision == "fp32" else 2.0)
    assert [found.of(role) for role in ("linear", "attention", "experts", "exact")] == [precision] * 3 + [exact]


def test_experts_are_met_alike_where_nothing_is_said() -> None:
    conditions = make_conditions(round_chip())
    assert (conditions.skew, conditions.sampled) == (0.0, False)
    assert conditions.precisions == Precisions()
    assert conditions.weights is conditions.cache is conditions.chip.memory
    assert make_conditions(round_chip(), weights="sram", cache="memory").weights.name == "sram"


def test_unknown_formats() -> None:
    with pytest.raises(BadInput, match="fp9"):
        Precisions(kv="fp9")


def test_whose_coefficients() -> None:
    """The machine multiplies in bf16 and fp8: kernels convert fp4 to bf16; fp8 in blocks has rows of its own."""
    for stored, timed in (("bf16", "bf16"), ("fp8", "fp8"), ("fp8-block", "fp8-block"), ("fp4", "fp4/bf16")):
        conditions = round_conditions(precisions=Precisions(linear=stored))
        assert kernel_precision(conditions, "linear") == timed


@pytest.mark.parametrize(
    ("bits", "with_fp4", "runs_in", "kernels"),
    [
        (16.0, True, "bf16", "mxfp4/bf16"),
        (8.0, True, "fp8", "mxfp4/fp8"),
        (4.0, True, "fp4", "mxfp4"),
        (8.0, False, "bf16", "mxfp4/bf16"),
    ],
)
def test_what_meets_weights_in_mxfp4(bits: float, with_fp4: bool, runs_in: str, kernels: str) -> None:
    """A chip with 4-bit arithmetic multiplies in the format of the activations that its engine takes."""
    rates = {"bf16": 1e12, "fp8": 2e12} | ({"fp4": 4e12} if with_fp4 else {})
    energies = dict.fromkeys(rates, 1e-12)
    chip = round_chip(flops_per_s=rates, joules_per_mac=energies, operand_joules_per_mac=energies)
    engine = replace(NO_SOFTWARE, mxfp4_input_bits=bits)
    conditions = round_conditions(chip, engine, precisions=Precisions(experts="mxfp4"))
    assert conditions.runs_in("mxfp4") == runs_in
    assert kernel_precision(conditions, "experts") == kernels
    assert conditions.widths.expert_inputs == {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5}[runs_in]


def test_only_what_is_quantised_is_charged_for_it() -> None:
    """An engine that does not fuse half of the quantising adds nothing to a product in 16 bits."""
    product = Matmul(name="m", rows=1.0, columns=32.0, depth=64.0)
    engine = replace(NO_SOFTWARE, quantise_ratio=0.5)
    chip = round_chip()
    plain_s, engine_s = (
        operation_seconds(round_conditions(chip, software), product).seconds for software in (NO_SOFTWARE, engine)
    )
    assert float(plain_s) == float(engine_s)
