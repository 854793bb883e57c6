"""Chips derived from drawn models: silicon moves the right way with model, node and load, whatever was drawn."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import strategies as st

from flashstill.arch import Architecture, Attention, FeedForward, Layer
from flashstill.asic.area import CARRIER, POWER, RETICLE
from flashstill.asic.design import HARDWIRED, SRAM, VARIANTS, Area, ChipDesign
from flashstill.asic.designing import SILICON, design_chip, wanted_formats
from flashstill.asic.givens import Choice, Wanted, givens_of
from flashstill.asic.rows import deployment_of, with_design
from flashstill.asic.sizing import size
from flashstill.errors import InfeasiblePlan
from flashstill.facts import load
from flashstill.plan.explain import explain
from flashstill.plan.scenario import Scenario
from tests.marks import examples

FACTS = load()
NODES = (28, 16, 12, 10, 7, 6, 5, 4, 3, 2)
MORE = 1.0 + 1e-9
"""sums of floating-point numbers in another order"""


def model(depth: int, width: int, ffn: int, heads: int, groups: int, experts: int) -> Architecture:
    """A decoder of equal blocks; the last four in steps that whole heads, groups and shards divide."""
    attention = Attention(heads=heads * groups, kv_heads=heads, head_width=64)
    routed: dict[str, int] = {"experts": 8 * experts, "experts_per_token": 2} if experts else {}
    ffn_of = FeedForward(width=256 * ffn, **routed)  # type: ignore[arg-type]
    layer = Layer(count=depth, attention=attention, ffn=ffn_of, norm_parameters=512 * width)
    return Architecture(
        name="drawn",
        width=256 * width,
        vocabulary=32768,
        layers=(layer,),
        tied=False,
        context=1 << 20,
        final_norm_parameters=256 * width,
    )


SHAPES = st.fixed_dictionaries(
    {
        "depth": st.integers(1, 128),
        "width": st.integers(1, 64),
        "ffn": st.integers(1, 128),
        "heads": st.sampled_from((1, 2, 8)),
        "groups": st.sampled_from((1, 4, 8)),
        "experts": st.sampled_from((0, 0, 1, 16)),
    }
)
LOADS = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(VARIANTS),
        "node": st.sampled_from(NODES),
        "precision": st.sampled_from(("bf16", "fp8", "int4", None)),
        "concurrency": st.integers(1, 2048),
        "tokens": st.integers(2, 1 << 17),
        "memory": st.sampled_from(("hbm2e", "hbm3", "hbm3e", "hbm4")),
    }
)
CHOICES = st.builds(
    Choice,
    chips=st.sampled_from((1, 2, 8, 64, 512)),
    dies=st.sampled_from((1, 2, 4)),
    intensity=st.sampled_from((0.25, 1.0, 16.0, 256.0)),
    more=st.integers(1, 3),
    lanes=st.sampled_from((0, 8, 128)),
)


def sized(shape: dict[str, int], load_: dict[str, Any], choice: Choice) -> ChipDesign | str:
    drawn = model(**shape)
    formats = wanted_formats(drawn, load_["variant"], load_["precision"], None)
    wanted = Wanted(
        model=drawn,
        variant=load_["variant"],
        node_nm=load_["node"],
        precision=formats.linear,
        precisions=formats,
        concurrency=load_["concurrency"],
        tokens=load_["tokens"],
        memory=load_["memory"],
        name="asic",
    )
    return size(givens_of(FACTS, wanted), choice)


def is_sound(chip: ChipDesign) -> None:
    """Parts sum to the die, which fits one exposure; the package holds them and has power to compute with."""
    assert all(getattr(chip.area, part.name) >= 0.0 for part in fields(Area))
    assert chip.width_mm * chip.height_mm == pytest.approx(chip.area.mm2)
    assert chip.width_mm <= 26.0 * MORE
    assert chip.height_mm <= 33.0 * MORE
    assert 0.0 < chip.idle_w < chip.power_limit_w <= 2000.0
    assert chip.package.stacks % chip.dies_per_package == 0
    if chip.variant != HARDWIRED:
        assert chip.area.wired_weights == 0.0


def moves(shape: dict[str, int], load_: dict[str, Any], choice: Choice, grown: str, finer: int) -> None:
    """A larger model, more sequences, longer ones never take less; a finer node never takes more."""
    chip = sized(shape, load_, choice)
    bigger = sized({**shape, grown: shape[grown] + (8 if grown == "experts" else 1)}, load_, choice)
    more = sized(shape, {**load_, "concurrency": load_["concurrency"] + 7}, choice)
    longer = sized(shape, {**load_, "tokens": load_["tokens"] * 2}, choice)
    small = sized(shape, {**load_, "node": min(finer, load_["node"])}, choice)
    if isinstance(chip, str):
        refused = {chip, RETICLE, CARRIER, POWER}
        assert all(isinstance(other, str) and other in refused for other in (more, longer))
        return
    is_sound(chip)
    for other in (bigger, more, longer):
        if isinstance(other, ChipDesign):
            assert other.package_mm2 * MORE >= chip.package_mm2
            assert other.sram_bytes * MORE >= chip.sram_bytes
            assert other.memory_bytes >= chip.memory_bytes
        elif grown not in ("depth", "experts"):  # which splits are possible depends on them
            assert other in (RETICLE, CARRIER, POWER)
    assert isinstance(small, ChipDesign)
    assert small.package_mm2 <= chip.package_mm2 * MORE


DRAWN = given(
    shape=SHAPES,
    load_=LOADS,
    choice=CHOICES,
    grown=st.sampled_from(("depth", "width", "ffn")),
    finer=st.sampled_from(NODES),
)


@DRAWN
@examples(40)
def test_silicon_moves_the_right_way(
    shape: dict[str, int], load_: dict[str, Any], choice: Choice, grown: str, finer: int
) -> None:
    moves(shape, load_, choice, grown, finer)


@pytest.mark.slow
@DRAWN
@examples(2000)
def test_silicon_moves_the_right_way_in_2000_draws(
    shape: dict[str, int], load_: dict[str, Any], choice: Choice, grown: str, finer: int
) -> None:
    moves(shape, load_, choice, grown, finer)


@pytest.mark.slow
@given(shape=SHAPES, load_=LOADS, finer=st.sampled_from(NODES))
@examples(100, phases=(Phase.generate,))
def test_smallest_machines_move_the_right_way(shape: dict[str, int], load_: dict[str, Any], finer: int) -> None:
    """The whole search for the least silicon: wider never less, finer never more; or counted reasons."""

    def least(shape: dict[str, int], node: int) -> float:
        try:
            chip = design_chip(
                FACTS, model(**shape), variant=load_["variant"], node=node, precision=load_["precision"],
                concurrency=load_["concurrency"], isl=1, osl=min(load_["tokens"], 8192), memory=load_["memory"],
                max_chips=256, objective=SILICON,
            )  # fmt: skip
        except InfeasiblePlan as error:
            counted.append(sum(error.reasons.values()))
            return float("inf")
        is_sound(chip)
        return chip.machine_mm2

    counted: list[int] = []

    here = least(shape, load_["node"])
    assert least({**shape, "ffn": shape["ffn"] + 1}, load_["node"]) * MORE >= here
    assert least(shape, min(finer, load_["node"])) <= here * MORE
    assert all(count > 0 for count in counted)


@pytest.mark.slow
@given(shape=SHAPES, concurrency=st.integers(1, 64), node=st.sampled_from((7, 6, 5, 3)))
@examples(20, phases=(Phase.generate,))
def test_wired_weights_never_cost_energy(shape: dict[str, int], concurrency: int, node: int) -> None:
    """At every level of the cost arm, and beside the same model in SRAM, whose weights do."""
    drawn = model(**{**shape, "depth": min(shape["depth"], 16), "width": min(shape["width"], 16)})
    scenario = Scenario(model=drawn, batch=concurrency, context=256)
    for variant in (HARDWIRED, SRAM):
        try:
            chip = design_chip(
                FACTS, drawn, variant=variant, node=node, precision="fp8", concurrency=concurrency, isl=128, osl=128,
                max_chips=64, objective=SILICON,
            )  # fmt: skip
        except InfeasiblePlan:
            continue
        joules = explain(with_design(FACTS, chip), scenario, deployment_of(chip)).joules_per_token
        assert (joules["weights"] == 0.0) is (variant == HARDWIRED)
        assert joules["arithmetic"] > 0.0


def test_choices_of_a_wired_chip_keep_the_format() -> None:
    shape = {"depth": 4, "width": 8, "ffn": 8, "heads": 8, "groups": 1, "experts": 0}
    load_ = {"variant": HARDWIRED, "node": 5, "precision": "int4", "concurrency": 1, "tokens": 64, "memory": "hbm3e"}
    chip = sized(shape, load_, Choice(chips=1, dies=1, intensity=4.0))
    assert isinstance(chip, ChipDesign)
    assert replace(chip, notes=()).precision == "int4"
    assert set(chip.flops_per_s) == {"int4", "bf16"}
