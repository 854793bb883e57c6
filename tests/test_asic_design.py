"""Chips derived from a model: area against known dies, rows that the cost arm prices, wired weights, searches."""

from collections import Counter
from dataclasses import fields, replace
from functools import cache

import pytest

from flashstill.arch import Architecture, load_architecture
from flashstill.asic.area import Content, area_of, edge_bound_mm2, rules_of, sides_of
from flashstill.asic.choosing import LIMITS, answer_of, asked_of, cheapest, machines, usd_per_million
from flashstill.asic.design import Area, ChipDesign
from flashstill.asic.designing import COST, SILICON, design_chip, node_nm, wanted_formats
from flashstill.asic.drawn_area import area_ratio
from flashstill.asic.givens import Wanted, givens_of
from flashstill.asic.known_dies import known_dies, parts_of
from flashstill.asic.rows import deployment_of, rows_of, with_design
from flashstill.economics.bill_of_materials import bill_of_materials
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import explain
from flashstill.plan.predict import outcomes
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import SearchSpace

FACTS = load()
SMALL = load_architecture("llama-3.1-8b")
HC1 = {
    "variant": "hardwired",
    "node": "n6",
    "precision": "int4",
    "kv_precision": "fp8",
    "concurrency": 1,
    "max_chips": 1,
}


def test_area_model_on_known_dies() -> None:
    """Fourteen dies, each with the share `other` of the other dies of its kind: half within 16 %, all within 60 %."""
    errors = {die.chip: die.error for die in known_dies(FACTS)}
    assert len(errors) == 14
    rounded = {chip: round(error, 2) for chip, error in errors.items()}
    assert (rounded["tpu-v4i"], rounded["gc200"], rounded["groq-lpu"]) == (-0.06, 0.39, 0.59)
    assert (rounded["a100-80g"], rounded["h100-sxm"], rounded["wse-2"]) == (0.19, 0.37, 0.01)
    absolute = sorted(abs(error) for error in errors.values())
    assert absolute[6] < 0.16
    assert absolute[-1] < 0.6


def test_share_of_other_is_the_median_of_the_known_dies() -> None:
    dies = known_dies(FACTS)
    for row in FACTS.rows["die", "other_ratio"]:
        shares = sorted(die.other_ratio for die in dies if die.kind == row.condition.partition(",")[0])
        middle = (shares[(len(shares) - 1) // 2] + shares[len(shares) // 2]) / 2
        assert (row.low, row.value, row.high) == pytest.approx((shares[0], middle, shares[-1]), abs=0.011)


def test_groqs_die_by_hand() -> None:
    """230 MB of 0.0645 um2 cells at 42 % and 104,444 fp16 multipliers of 850 um2 at 7 nm, with 64 lanes and PCIe."""
    sram = 230e6 * 8 * 0.0645e-6 / 0.42
    multipliers = 1.88e14 / 2 / 0.9e9 * 850e-6 * 91.2 / 32.9
    assert parts_of(FACTS, "groq-lpu") == pytest.approx(sram + multipliers + 64 * 0.45 + 15, rel=1e-9)


def test_parts_sum_to_the_die_and_edges_bound_it() -> None:
    rules = rules_of(FACTS, 5)
    area = area_of(rules, Content(sram_bytes=1e8, multipliers={"bf16": 1e5, "fp8": 2e5}, wired_bits=1e9))
    surrounded = area.sram + area.multipliers + area.host
    assert area.other == pytest.approx(surrounded * rules.other_ratio / (1 - rules.other_ratio))
    assert area.mm2 == pytest.approx(sum(getattr(area, part.name) for part in fields(Area)))
    edgy = Content(stacks=6.0, lanes=64)
    assert area_of(rules, edgy).mm2 == pytest.approx(edge_bound_mm2(rules, edgy))
    width, height = sides_of(rules, 858.0) or (0.0, 0.0)
    assert (width, height) == pytest.approx((26.0, 33.0))
    assert sides_of(rules, 858.1) is None


@cache
def wired(**changes: object) -> ChipDesign:
    """A chip like HC1, with the fewest multipliers beside the wiring: on the least silicon."""
    return design_chip(FACTS, SMALL, **{**HC1, "objective": SILICON, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_wired_chip_like_hc1() -> None:
    """Area within a tenth of HC1's; twice its rate for one user: nothing was fitted to it."""
    design = wired(objective=COST)
    answer = answer_of(asked_of(FACTS, Scenario(model=SMALL, batch=1)), design)
    assert design.chips == design.dies == 1
    assert design.area.mm2 / FACTS.value("taalas-hc1", "die_mm2") == pytest.approx(0.94, abs=0.02)
    rate = 1.0 / (answer.tpot_s or 0.0)
    assert rate / FACTS.value("taalas-hc1", "hardwired_tokens_per_s") == pytest.approx(2.0, abs=0.05)


def test_wired_weights_move_nothing_and_die_with_their_model() -> None:
    design = wired()
    facts = with_design(FACTS, design)
    deployment = deployment_of(design)
    step = explain(facts, Scenario(model=SMALL, batch=1), deployment)
    assert step.joules_per_token["weights"] == 0.0 < step.joules_per_token["kv"]
    assert (step.as_dict()["memory"], step.resolved.precision) == ("wiring", "int4")
    for other in ("qwen3-8b", "llama-3-8b"):  # the second has as many parameters
        case = Case(Scenario(model=load_architecture(other), batch=1), Deployment(chip="asic"))
        assert "llama-3.1-8b in its wiring" in outcomes(facts, [case])[0].prediction.reason.lower()
    for wrong, sentence in (
        ({"precision": "fp8"}, "wired in int4"),
        ({"weights_in": "sram"}, "nowhere else"),
        ({"kv_in": "wiring"}, "no cache"),
    ):
        with pytest.raises(BadInput, match=sentence):
            explain(facts, Scenario(model=SMALL, batch=1), Deployment(chip="asic", **wrong))  # type: ignore[arg-type]
    drafted = Case(Scenario(model=SMALL, batch=1, draft="llama-3.2-1b"), Deployment(chip="asic"))
    assert "no drafter" in outcomes(facts, [drafted])[0].prediction.reason


def test_search_prices_a_design_like_any_chip() -> None:
    design = wired()
    facts = with_design(FACTS, design)
    found = search(
        facts, Scenario(model=SMALL), SearchSpace(chips=("asic",), max_chips=1, batches=(1,), kv_precisions=("fp8",))
    )
    assert [point.weights_in for point in found.front] == ["wiring"]
    answer = outcomes(facts, [Case(Scenario(model=SMALL, batch=1), deployment_of(design))])[0].prediction
    assert found.front[0].tpot_s == pytest.approx(answer.tpot_s)
    assert "not measured" in answer.band_basis


def test_sram_design_holds_what_it_was_sized_for() -> None:
    design = design_chip(FACTS, SMALL, variant="sram", precision="fp8", objective=SILICON, max_chips=16)
    facts = with_design(FACTS, design)
    answer = outcomes(facts, [Case(Scenario(model=SMALL), deployment_of(design))])[0].prediction
    assert answer.running == pytest.approx(16.0, abs=0.01)
    assert (answer.sequences_fit or 0.0) >= 16.0
    chip = chip_from_facts(facts, "asic")
    assert chip.memory.name == "sram"
    assert chip.power_limit_w <= design.package_mm2
    assert {row.name for row in rows_of(FACTS, design)} == {"asic"}


def test_mistakes_are_told() -> None:
    assert node_nm("N5") == node_nm("node-5") == node_nm(5) == 5
    for wrong, sentence in (
        ({"node": "n9"}, "those with them: n2, n3"),
        ({"node": "five"}, "no process node"),
        ({"variant": "optical"}, "variant"),
        ({"concurrency": 0}, "requests in flight must be at least 1"),
        ({"isl": 10**7}, "was made for"),
    ):
        with pytest.raises(BadInput, match=sentence):
            wired(**wrong)
    for taken in ("taalas-hc1", "H100"):
        with pytest.raises(BadInput, match="exists already"):
            with_design(FACTS, replace(wired(), name=taken))


def test_what_cannot_be_built_is_counted() -> None:
    big: Architecture = load_architecture("llama-3.1-405b")
    with pytest.raises(InfeasiblePlan) as error:
        design_chip(FACTS, big, variant="hardwired", node="n7", max_chips=1)
    assert set(error.value.reasons) == {"a die does not fit one exposure"}
    small = FACTS.edited(["wafer.diameter_mm=12"])
    with pytest.raises(InfeasiblePlan) as error:
        design_chip(small, load_architecture("llama-3.1-8b"), variant="hardwired", node="n2", max_chips=1)
    assert error.value.reasons["a die does not fit the wafer"] > 0
    with pytest.raises(InfeasiblePlan) as error:
        wired(max_tpot_s=1e-9, objective=COST)
    assert error.value.reasons["tpot above the bound"] > 0


def test_drawn_rows_move_the_area_as_a_new_design_would() -> None:
    """Each row at an end of its range: the ratio is that of the die sized anew; unchanged rows give exactly 1."""
    design = wired()
    assert area_ratio(FACTS, design, FACTS) == pytest.approx(1.0, rel=1e-12)
    content = Content(
        sram_bytes=design.area.sram / rules_of(FACTS, 6).byte_mm2,
        multipliers={"bf16": design.area.multipliers / rules_of(FACTS, 6).multiplier_mm2["bf16"]},
        wired_bits=design.area.wired_weights / rules_of(FACTS, 6).wired_bit_mm2,
    )
    for edit in (
        "node-6.cell_um2=0.031",
        "sram-macro.area_efficiency=0.7",
        "wired.transistors_per_bit=1.65",
        "host-interface.block_mm2=30",
        "die.other_ratio[dataflow, of the whole die]=0.21",
    ):
        edited = load(edits=[edit])
        ratio = area_of(rules_of(edited, 6), content).mm2 / design.area.mm2
        assert area_ratio(FACTS, design, edited) == pytest.approx(ratio, rel=1e-9), edit
        assert ratio != pytest.approx(1.0, rel=1e-3)
    bills = [bill_of_materials(FACTS, design.package, area_ratio=ratio).dies_usd for ratio in (0.8, 1.0, 1.25)]
    assert bills[0] < 0.8 * bills[1]
    assert bills[2] > 1.25 * bills[1]


@pytest.mark.slow
def test_walking_finds_the_best_design_or_one_a_hundredth_dearer() -> None:
    """Every design of a grid priced, against those that the search prices."""
    variant, chips, formats = "hardwired", 2, wanted_formats(SMALL, "hardwired", "int8", None)
    wanted = Wanted(
        model=SMALL, variant=variant, node_nm=5, precision="int8", precisions=formats, concurrency=16, tokens=512,
        memory="hbm3e", name="asic",
    )  # fmt: skip
    givens, load_ = givens_of(FACTS, wanted), Scenario(model=SMALL, batch=16, isl=256, osl=256)
    walked, all_of_them = asked_of(FACTS, load_), asked_of(FACTS, load_)
    best = cheapest(walked, machines(givens, chips, Counter()), Counter())
    assert best is not None
    found = usd_per_million(walked, best, answer_of(walked, best))
    every = [
        usd_per_million(all_of_them, chip, answer_of(all_of_them, chip))
        for designs in machines(givens, chips, Counter())
        for whole in designs.values()
        for share in LIMITS
        for chip in [replace(whole, power_limit_w=whole.idle_w + share * (whole.power_limit_w - whole.idle_w))]
    ]
    assert found <= 1.01 * min(every)
    assert len(walked.priced) < len(every) / 3


def test_notes_say_what_bounds_a_design() -> None:
    notes = " ".join(wired().notes)
    assert "derived from llama-3.1-8b" in notes.lower()
    assert "no other model, for good" in notes
    edgy = design_chip(
        FACTS, SMALL, variant="hbm", node="n2", precision="int4", concurrency=1, max_chips=1, objective=SILICON
    )
    assert any("bounds the die" in note for note in edgy.notes) is (edgy.area.other > edgy.area.mm2 * 0.5)


def test_sixteen_wired_bits_do_not_speed_attention_up() -> None:
    design = design_chip(
        FACTS,
        SMALL,
        variant="hardwired",
        node="n2",
        precision="bf16",
        concurrency=1,
        isl=128,
        osl=128,
        objective=SILICON,
        max_chips=2,
    )
    assert design.precision == "fp16"
    assert design.flops_per_s["bf16"] < design.flops_per_s["fp16"] / 100
    answer = answer_of(asked_of(FACTS, Scenario(model=SMALL, batch=1, isl=128, osl=128)), design)
    assert answer.fits
