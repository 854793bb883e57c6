"""Elasticities of a chip's numbers: against plan's own search with edited facts, sums, zeros, refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.codesign import elasticities
from flashstill.codesign.elasticities import STEP
from flashstill.codesign.parameters import COUNT, LATENCY, POWER, PRICE, RATE
from flashstill.codesign.whatif_answer import Pair, WhatIfs
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts, load
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import SearchSpace
from tests.marks import slow

FACTS = load()
COLUMNS = {"usd": "usd_per_million_output_tokens", "joules": "joules_per_output_token", "seconds": "tpot_s"}


@cache
def answer(model: str, chip: str, **asked: Any) -> WhatIfs:
    return fs.codesign(model=model, chip=chip, doubling=False, **asked)


def pair_of(model: str, chip: str, **asked: Any) -> Pair:
    (pair,) = answer(model, chip, **asked).pairs
    return pair


def edited(name: str, quantity: str, factor: float, to: float | None = None) -> Facts:
    """Facts with one number of a chip changed; of main memory, what the driver sees changes as well."""
    machine = FACTS.machine(name)
    bare, _, precision = quantity.rstrip("]").partition("[")
    owner = next(one for one in (name, machine.maker_class, machine.chip_class) if (one, bare) in FACTS.rows)
    rows = [
        replace(row, name=name, value=to if to is not None else row.value * factor)
        if row.condition.startswith(precision)
        else row
        for row in FACTS.rows[owner, bare]
    ]
    if bare == "memory_bytes" and (name, "memory_visible_bytes") in FACTS.rows:
        rows += [replace(row, value=row.value * factor) for row in FACTS.rows[name, "memory_visible_bytes"]]
    return FACTS.with_rows(rows)


def brute(model: str, chip: str, facts: Facts, price: str = "rented", most: int = 16, **asked: Any) -> dict[str, float]:
    """The best of each cost in a whole search of `plan`."""
    scenario = Scenario(model=model, **asked)
    front = search(facts, scenario, SearchSpace(chips=(chip,), max_chips=most), price).front
    costs = {name: [getattr(one, column) for one in front] for name, column in COLUMNS.items()}
    return {name: min((one for one in values if one is not None), default=math.inf) for name, values in costs.items()}


def check_against_plan(model: str, chip: str, price: str = "rented", **asked: Any) -> None:
    """Every row that `--set` can change, with whole searches of plan on both sides."""
    pair = pair_of(model, chip, price=price, **asked)
    now = brute(model, chip, FACTS, price, **asked)
    for objective, best in pair.sensitivity.optima.items():
        assert best.cost == pytest.approx(now[objective], rel=1e-9)
    for one in pair.parameters:
        if not one.row:
            continue
        assert one.value is not None
        if one.kind == COUNT:
            assert one.next_value is not None
            up = brute(model, chip, edited(chip, one.name, 1.0, one.next_value), price, **asked)
            expected = {key: math.log(up[key] / now[key]) / math.log(one.next_value / one.value) for key in COLUMNS}
        else:
            sides = [
                brute(model, chip, edited(chip, one.name, by), price, **asked) for by in (1 + STEP, 1 / (1 + STEP))
            ]
            width = 2.0 * math.log1p(STEP)
            expected = {key: math.log(sides[0][key] / sides[1][key]) / width for key in COLUMNS if now[key] < math.inf}
        for key, found in pair.elasticities[one.name].items():
            if key in expected:
                assert found == pytest.approx(expected[key], rel=1e-2, abs=1e-6), (model, chip, one.name, key)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "chip"),
    [("qwen3-8b", "h100-sxm"), ("gpt-oss-120b", "tpu-v5e"), ("llama-3.1-70b", "b200"), ("qwen3-8b", "tpu-v5p")],
)
def test_elasticities_are_those_of_whole_searches_with_edited_facts(model: str, chip: str) -> None:
    check_against_plan(model, chip)


@pytest.mark.slow
def test_also_within_bounds_and_for_owned_chips() -> None:
    check_against_plan("qwen3-8b", "h100-sxm", price="owned", max_ttft_s=0.5, max_tpot_s=0.01)


def sum_over_rates(pair: Pair, objective: str) -> float:
    """Elasticities of rates and watts, less those of times: by how much the cost falls if all get better alike."""
    signs = {RATE: 1.0, POWER: 1.0, LATENCY: -1.0}
    values = [(signs.get(one.kind, 0.0), pair.elasticities[one.name][objective]) for one in pair.parameters]
    return sum(sign * value for sign, value in values if value is not None)


@pytest.mark.parametrize(
    ("model", "chip"),
    [("gpt-oss-120b", "tpu-v5e"), *slow(("qwen3-8b", "h100-sxm"), ("qwen3-8b", "groq-lpu"), ("qwen3-8b", "mi300x"))],
)
def test_doubling_all_rates_and_halving_all_times_halves_the_time(model: str, chip: str) -> None:
    """Seconds are homogeneous of degree -1 in rates, times and watts, joules of degree 0; and dollars fall as much as
    they follow the price of the chip's time, which is all of a rent, and what was bought of an owned chip's hour."""
    pair = pair_of(model, chip, max_chips=16 if chip != "groq-lpu" else 256)
    prices = [pair.elasticities[one.name]["usd"] or 0.0 for one in pair.parameters if one.kind == PRICE]
    expected = {"seconds": -1.0, "joules": 0.0, "usd": -sum(prices)}
    for objective in pair.sensitivity.optima:
        assert sum_over_rates(pair, objective) == pytest.approx(expected[objective], abs=1e-4)


def test_dollars_are_in_proportion_to_a_rent_and_unused_numbers_have_exactly_zero() -> None:
    one_chip = pair_of("qwen3-8b", "h100-sxm", max_chips=1)
    found = one_chip.elasticities
    assert found["usd_per_hour"] == {"usd": pytest.approx(1.0, abs=1e-12), "joules": 0.0, "seconds": 0.0}
    for unused in (
        "usd_purchase",
        "link_bytes_per_s",
        "hop_s",
        "scale_out_bytes_per_s",
        "link_domain_chips",
        "collective_floors",
    ):
        assert set(found[unused].values()) == {0.0}, unused
    for chip in ("tpu-v5e", "tpu-v5p"):  # weights lie in HBM: SRAM is an alternative that is not taken
        pair = pair_of("qwen3-8b", chip, max_chips=2)
        assert set(pair.elasticities["sram_bytes_per_s"].values()) == {0.0}
    owned = pair_of("qwen3-8b", "h100-sxm", max_chips=1, price="owned").elasticities
    assert owned["usd_per_hour"]["usd"] == 0.0
    assert 0.5 < (owned["usd_purchase"]["usd"] or 0.0) < 1.0


@pytest.mark.slow
def test_without_a_jump_the_derivative_is_that_of_the_best_configuration() -> None:
    """The envelope theorem; and where another one takes over, it is cheaper than staying."""
    for model, chip in (("gpt-oss-120b", "h100-sxm"), ("gpt-oss-120b", "tpu-v5e")):
        for of in pair_of(model, chip).sensitivity.elasticities.values():
            for one in of.values():
                if one.fixed is not None and not one.jumps:
                    assert one.value == one.fixed


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["h100-sxm", "tpu-v5e", "a100-80g"])
def test_what_is_left_out_near_the_best_changes_nothing(monkeypatch: pytest.MonkeyPatch, chip: str) -> None:
    """Ten times as wide a neighbourhood of the best gives the same elasticities."""
    asked: dict[str, Any] = {"model": ["gpt-oss-120b", "qwen3-8b"], "chip": chip, "doubling": False, "max_ttft_s": 2.0}
    narrow = fs.codesign(**asked)
    monkeypatch.setattr(elasticities, "MARGIN", 10.0 * elasticities.MARGIN)
    wide = fs.codesign(**asked)
    assert [pair.elasticities for pair in wide.pairs] == [pair.elasticities for pair in narrow.pairs]


def test_a_doubling_is_what_a_whole_search_says_and_the_bound_moves() -> None:
    (pair,) = fs.codesign(model="qwen3-8b", chip="h100-sxm", max_chips=2, batches=(1, 16, 64)).pairs
    facts = edited("h100-sxm", "memory_bytes_per_s", 2.0)
    space = SearchSpace(chips=("h100-sxm",), max_chips=2, batches=(1, 16, 64))
    for objective, column in COLUMNS.items():
        found = [getattr(one, column) for one in search(facts, Scenario(model="qwen3-8b"), space).front]
        today = pair.sensitivity.optima[objective].cost
        assert pair.doubling["memory_bytes_per_s"][objective] == pytest.approx(min(found) / today, rel=1e-9)
    assert pair.binding["usd"].parameter == "memory_bytes_per_s"
    moved = pair.binding["usd"]
    assert moved.followed
    assert moved.moves_at is None or 1.0 < moved.moves_at <= 16.0
    assert pair.doubling["flops_per_s[fp8]"] == {"usd": 1.0, "joules": 1.0, "seconds": 1.0}


def test_means_over_models_and_the_document() -> None:
    found = fs.codesign(model=["qwen3-8b", "llama-3.1-8b"], chip=["h100-sxm", "a100-80g"], max_chips=2, batches=(1, 64))
    assert [(pair.model, pair.chip) for pair in found.pairs][:2] == [("qwen3-8b", "h100-sxm"), ("qwen3-8b", "a100-80g")]
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    mine = [
        pair["elasticities"]["memory_bytes_per_s"]["usd"] for pair in document["pairs"] if pair["chip"] == "h100-sxm"
    ]
    assert document["by_chip"]["h100-sxm"]["memory_bytes_per_s"]["usd"] == pytest.approx(sum(mine) / 2.0)
    assert set(document["elasticities"]["flops_per_s[bf16]"]) == set(COLUMNS)
    assert document["doubling"] == {}
    assert len(found.as_records()) == sum(len(pair["elasticities"]) for pair in document["pairs"])
    assert "pairs of model and chip" in found._repr_html_()


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(BadInput, match="one output token"):
        fs.codesign(model="qwen3-8b", chip="h100-sxm", osl=1)
    with pytest.raises(MissingFact, match="h100"):
        fs.codesign(model="qwen3-8b", chip="h1000")
    with pytest.raises(BadInput, match="max chips"):
        fs.codesign(model="qwen3-8b", chip="h100-sxm", max_chips=0)
    with pytest.raises(InfeasiblePlan) as refused:
        fs.codesign(model="deepseek-v3", chip="tpu-v5e", max_chips=2, batches=(1, 8))
    assert sum(refused.value.reasons.values()) > 0


SMALL: dict[str, Any] = {"model": "qwen3-0.6b", "chip": "h100-sxm", "max_chips": 1, "batches": (1, 8)}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"batches": ()}, "batches is empty"),
        ({"precisions": ()}, "precisions is empty"),
        ({"tiers": ()}, "tiers is empty"),
        ({"overlaps": ()}, "overlaps is empty"),
        ({"max_chips": "four"}, "max_chips"),
        ({"isl": 1.5}, "isl"),
        ({"redundant_experts": (-1,)}, "redundant experts are at least 0, not -1"),
        ({"model": "qwen3-30b-a3b", "redundant_experts": (-1,)}, "redundant experts are at least 0, not -1"),
        ({"chip": ["all", "l4"]}, "'all' stands for every chip"),
    ],
)
def test_lists_are_checked_as_in_a_search_of_deployments(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        fs.codesign(**{**SMALL, **asked})


def test_layouts_that_are_all_refused_are_counted_and_leave_other_models_alone() -> None:
    with pytest.raises(InfeasiblePlan) as refused:
        fs.codesign(**SMALL, redundant_experts=(3,))
    assert refused.value.reasons == {"redundant experts without experts": 2}
    both = fs.codesign(**{**SMALL, "model": ["qwen3-0.6b", "qwen3-30b-a3b"], "max_chips": 2}, redundant_experts=(64,))
    dense, sparse = both.pairs
    assert not dense.sensitivity.optima
    assert sparse.sensitivity.optima


def test_a_chip_without_the_tiers_is_counted_as_plan_counts_it() -> None:
    found = []
    for ask in (fs.codesign, lambda chip, **asked: fs.search(chips=(chip,), **asked)):
        with pytest.raises(InfeasiblePlan) as refused:
            ask(**{**SMALL, "chip": "wse-3"}, tiers=("host",))
        found.append(refused.value.reasons)
    assert found == [{"the chip has none of the memory tiers": 2}] * 2


def test_a_chip_for_nothing_has_no_slope_of_dollars() -> None:
    free = fs.codesign(**SMALL, set={"h100-sxm.usd_per_hour": 0.0})
    assert free.pairs[0].sensitivity.optima["usd"].cost == 0.0
    assert {of["usd"] for of in free.elasticities.values()} == {None}
    assert {of["usd"] for of in free.doubling.values()} == {None}
    assert free.elasticities["memory_bytes_per_s"]["seconds"] is not None


def test_a_model_that_is_named_twice_counts_once() -> None:
    once, twice = fs.codesign(**SMALL), fs.codesign(**{**SMALL, "model": ["qwen3-0.6b", "Qwen/Qwen3-0.6B"]})
    assert len(twice.pairs) == 1
    assert once.as_dict() == twice.as_dict()


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = "codesign --model qwen3-8b --chip h100-sxm --max-chips 2 --batch 1,64 --no-doubling"
    page = tmp_path / "page.html"
    main([*line.split(), "--json", "--out", str(page)])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "flashstill.codesign/1"
    assert set(document["elasticities"]["memory_bytes"]) == set(COLUMNS)
    assert "d ln(cost) / d ln(number)" in page.read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as nothing:
        main(["codesign", "--model", "deepseek-v3", "--chip", "tpu-v5e", "--max-chips", "1", "--batch", "1", "--json"])
    assert nothing.value.code == 3
    assert json.loads(capsys.readouterr().out)["reasons"]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "isl", "osl"), [("gpt-oss-20b", 1024, 1024), ("llama-3.1-8b", 8000, 64)])
def test_the_best_of_every_chip_are_those_of_plan_and_so_are_the_reasons(model: str, isl: int, osl: int) -> None:
    """Though only configurations that can be the best are priced."""
    for pair in fs.codesign(model=model, max_chips=8, isl=isl, osl=osl, doubling=False).pairs:
        space = SearchSpace(chips=(pair.chip,), max_chips=8)
        if not pair.sensitivity.optima:
            with pytest.raises(InfeasiblePlan) as nothing:
                search(FACTS, Scenario(model=model, isl=isl, osl=osl), space)
            assert pair.sensitivity.infeasible == nothing.value.reasons
            continue
        found = search(FACTS, Scenario(model=model, isl=isl, osl=osl), space)
        assert pair.sensitivity.infeasible == found.infeasible
        for objective, best in pair.sensitivity.optima.items():
            costs = [getattr(one, COLUMNS[objective]) for one in found.front]
            assert best.cost == pytest.approx(min(cost for cost in costs if cost is not None), rel=1e-9)


@pytest.mark.slow
def test_formats_tiers_and_overlaps_are_tried_as_plan_tries_them() -> None:
    asked: dict[str, Any] = {"precisions": ("published", "fp8"), "overlaps": ("none", "two-batch"), "batches": (1, 256)}
    (pair,) = fs.codesign(model="gpt-oss-20b", chip="h100-sxm", max_chips=4, doubling=False, **asked).pairs
    found = search(FACTS, Scenario(model="gpt-oss-20b"), SearchSpace(chips=("h100-sxm",), max_chips=4, **asked))
    assert pair.sensitivity.infeasible == found.infeasible
    for objective, best in pair.sensitivity.optima.items():
        assert best.cost == pytest.approx(min(getattr(one, COLUMNS[objective]) for one in found.front), rel=1e-9)
