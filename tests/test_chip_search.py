"""The search for a chip: its bounds never exceed the price, and its winner is that of pricing every design."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.api import predict
from flashstill.arch import Architecture, load_architecture
from flashstill.asic.area import Content, area_of, sides_of
from flashstill.chip_searching import chip_search
from flashstill.cli import main
from flashstill.codesign import design_prices
from flashstill.codesign.asked_search import asked_space
from flashstill.codesign.block_facts import block_facts_of, rates_of
from flashstill.codesign.described import described, designs_of, served
from flashstill.codesign.design_chips import draw_of
from flashstill.codesign.design_columns import columns_of, designs_at
from flashstill.codesign.design_prices import FIGURES, OBJECTIVES
from flashstill.codesign.design_rows import with_design
from flashstill.codesign.design_space import design_space
from flashstill.codesign.die_prices import between
from flashstill.codesign.future import Future, Share, mix_of
from flashstill.codesign.hunt import Hunt, least
from flashstill.codesign.loads import load_of
from flashstill.codesign.regret import regrets_of
from flashstill.codesign.screened import Wanted, screen
from flashstill.codesign.search_answer import answer_search
from flashstill.codesign.search_front import open_ends
from flashstill.codesign.search_question import Question, tasks_of, today
from flashstill.codesign.silicon import REASONS, UNEVEN, UNFED
from flashstill.cost import Conditions
from flashstill.economics.bill_of_materials import Die, Package, bill_of_materials
from flashstill.economics.tco import terms_of
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.facts.csv_files import COLUMNS
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.scenario import Scenario
from flashstill.plan.tables import Candidates, Priced, priced
from tests.chip_hunts import a_hunt
from tests.marks import slow

FACTS = load()
MODELS = ("llama-3.1-8b", "gpt-oss-20b", "deepseek-v2-lite")


def check_every_design(hunt: Hunt) -> int:
    """The bound of every design is at most its price, and the hunt finds the least of all; designs that serve."""
    served = 0
    for future in range(len(hunt.wanted)):
        bound = hunt.screened.bounds[future]
        found = least(hunt, [future])
        made = np.flatnonzero(np.isfinite(bound))
        full = hunt.cost(future, made)
        assert np.all(bound[made] <= full)
        served += int(np.isfinite(full).sum())
        if np.isfinite(full).any():
            assert found.design == made[int(np.argmin(full))]
            assert found.cost == full.min()
        else:
            assert found.design == -1
    return served


def test_a_hunt_that_is_broken_off_tells_what_it_leaves_open() -> None:
    """The best of what was priced, and a bound of all others; with nothing feasible so far it goes on."""
    hunt = a_hunt(3, "llama-3.1-8b", 200)
    whole, bound = least(hunt, [1]), hunt.screened.bounds[1]
    some = least(hunt, [1], most=1)
    others = np.setdiff1d(np.flatnonzero(np.isfinite(bound)), some.tried)
    assert some.design >= 0
    assert some.left == int((bound[others] < some.cost).sum()) > 0
    assert some.bound == bound[others].min() < some.cost
    assert some.bound <= whole.cost <= some.cost
    assert (whole.left, whole.bound) == (0, np.inf)
    (note,) = open_ends({"joules": some, "usd": whole}, {"joules": some.cost, "usd": whole.cost})
    assert open_ends({"joules": some}, {"joules": some.bound}) == [], "refined to its bound"
    assert note.startswith(f"the front's end by joules is the best of the {len(some.tried)} designs")


@pytest.mark.slow
def test_the_bound_never_exceeds_the_price_and_the_winner_is_that_of_pricing_all() -> None:
    assert check_every_design(a_hunt(3, "llama-3.1-8b", 120)) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_winners_of_random_spaces_are_those_of_pricing_all(seed: int) -> None:
    assert check_every_design(a_hunt(seed, MODELS[seed % len(MODELS)], 200)) >= 0


@pytest.mark.slow
def test_designs_with_different_links_are_priced_together_where_one_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As each alone, tori and switches in one call, on no deployment for which none of them has room."""
    calls: list[tuple[int, tuple[int, ...]]] = []

    def counted(model: Architecture, conditions: Conditions, chosen: Candidates, *others: Any, **named: Any) -> Priced:
        calls.append((np.ndim(conditions.chip.topology.axes), chosen.shape))
        return priced(model, conditions, chosen, *others, **named)

    monkeypatch.setattr(design_prices, "priced", counted)
    hunt = a_hunt(3, "gpt-oss-20b")
    designs = np.flatnonzero(np.isfinite(hunt.screened.bounds[0]))[::8]
    asks = tuple((objective, 1e5) for objective in OBJECTIVES)
    together = hunt.answers(0, designs, asks)
    several = list(calls)
    assert {axes for axes, _ in several} == {0, 5}, "chips alone, and tori with switches"
    everything = hunt.loads[0].chosen.shape
    assert all(math.prod(shape) < math.prod(everything) for _, shape in several)
    for places, answers in together:
        for number, design in enumerate(places):
            ((_, alone),) = hunt.answers(0, np.array([design]), asks)
            for whole, one in zip(answers, alone, strict=True):
                np.testing.assert_allclose(
                    [whole[name][number] for name in FIGURES], [one[name][0] for name in FIGURES], rtol=1e-12
                )
    assert len(several) < len(calls) / 4


def test_every_design_is_made_or_refused_for_one_reason() -> None:
    hunt = a_hunt(1, "llama-3.1-8b", 120)
    assert hunt.screened.buildable + sum(hunt.screened.reasons.values()) == hunt.space.size
    assert set(hunt.screened.reasons) <= set(REASONS)


@pytest.mark.slow
def test_a_small_space_is_searched_as_if_every_design_were_priced() -> None:
    space = design_space(
        FACTS, nodes=(5,), designs=8, memories=("hbm4",), dies=(1,), narrowest=("fp8",), edges=(128,), stacks=(4,),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**15, 2.0**18), sram_bytes=(2.0**26, 2.0**28),
    )  # fmt: skip
    model = load_architecture("llama-3.1-8b")
    load = load_of(Share(model=model, weight=1.0, isl=512, osl=64, max_tpot_s=0.05), 2, 64)
    wanted = tuple(Wanted(loads=((0, 1.0),), volume=1e5, objective=objective) for objective in OBJECTIVES)
    terms = terms_of(FACTS)
    screened = screen(FACTS, space, (load,), wanted, terms)
    hunt = Hunt(facts=FACTS, space=space, loads=(load,), wanted=wanted, terms=terms, screened=screened)
    assert check_every_design(hunt) == 3 * screened.buildable > 0
    assert screened.buildable + sum(screened.reasons.values()) == space.size


@pytest.mark.parametrize(
    ("memory", "wiring"), [("lpddr5x", "switch"), *slow(("hbm4", "torus 3d"), ("hbm4", "optics"), ("none", "optics"))]
)
def test_a_design_as_fact_rows_has_the_figures_of_the_search(memory: str, wiring: str) -> None:
    """`predict` on the rows of a design, on the deployment that the search chose: every figure to a billionth."""
    space = design_space(
        FACTS, nodes=(5,), designs=4, memories=(memory,), dies=(2,), narrowest=("fp8",), edges=(128,), stacks=(4,),
        lanes=(32,), wirings=(wiring,), macs=(2.0**15, 2.0**16), sram_bytes=(2.0**28, 2.0**29),
    )  # fmt: skip
    model = "qwen3-0.6b" if memory == "none" else "qwen3-8b"
    load = load_of(Share(model=load_architecture(model), weight=1.0, isl=512, osl=64, precision="fp8"), 4, 16)
    wanted, terms = (Wanted(loads=((0, 1.0),), volume=1e5, objective="latency"),), terms_of(FACTS)
    screened = screen(FACTS, space, (load,), wanted, terms)
    hunt = Hunt(facts=FACTS, space=space, loads=(load,), wanted=wanted, terms=terms, screened=screened)
    best = least(hunt, [0])
    one = designs_of(hunt, best.design)
    (mine,) = served(hunt, best.design, 1e5, "latency", [0])
    choice, links = space.memories_of(one.block)[int(one.memory[0])], space.links[int(one.links[0])]
    facts = with_design(FACTS, "own", one.block, choice, links, described(hunt, best.design)["chip"])
    network = 1.0 - facts.value("network", "capital_share_ratio")  # a price pays for one, a design does not
    bought = float(one.silicon.purchase_usd[0] + network * one.silicon.design_usd[0] / 1e5)
    price = replace(facts.get("own", "die_mm2"), quantity="usd_purchase", value=bought, low=bought, high=bought,
                    unit="USD", condition="system")  # fmt: skip
    facts = facts.with_rows([price])
    degrees = {name: mine[name] for name in ("chips", "tp", "pp", "dp", "ep")}
    deployment = Deployment(chip="own", precision="fp8", **degrees)
    asked = Scenario(model=model, isl=512, osl=64, batch=mine["batch"])
    pace = predict(asked, deployment, price="owned", facts=facts).as_dict()
    assert mine["chips"] > 1
    for name, value in {
        "latency": pace["tpot_s"], "ttft_s": pace["ttft_s"], "tokens_per_s": pace["output_tokens_per_s"],
        "watts": pace["watts_per_chip"], "usd": pace["usd_per_million_output_tokens"] / 1e6,
    }.items():  # fmt: skip
        assert mine[name] == pytest.approx(value, rel=1e-9)
    wall = chip_from_facts(facts, "own").system.server_power_ratio * terms.pue_ratio
    assert mine["joules"] == pytest.approx(pace["joules_per_output_token"] * wall, rel=1e-9)


def test_a_small_search_has_values_enough_and_only_formats_known_by_then() -> None:
    now = asked_space(FACTS, year=None, as_of=None, nodes=(), memories=(), designs=1)
    assert len(now.space.macs) * len(now.space.sram_bytes) >= 12
    assert now.space.narrowest == ("bf16", "fp8", "fp4")
    then = asked_space(FACTS, year=2025, as_of=2022, nodes=(), memories=(), designs=1)
    assert then.space.narrowest == ("bf16", "fp8")


def test_a_year_of_which_no_row_tells_and_a_demand_for_no_package_are_refused() -> None:
    for as_of, sentence in ((2030, "as_of is 2030, and no row tells"), (1980, "as_of must lie between 1990 and 2100")):
        with pytest.raises(BadInput, match=sentence):
            asked_space(FACTS, year=None, as_of=as_of, nodes=(), memories=(), designs=1)
    with pytest.raises(BadInput, match="demand must lie between 1e-09"):
        chip_search(model="qwen3-0.6b", demand=1e-300)
    for bounds, sentence in (
        ({"max_tpot_s": -1.0}, "max_tpot_s of qwen3-0.6b must be above 0"),
        ({"max_ttft_s": 0.0}, "max_ttft_s of qwen3-0.6b must be above 0"),
        ({"max_tpot_s": 0.1, "osl": 1}, "one output token has no time per token"),
    ):
        with pytest.raises(BadInput, match=sentence):
            chip_search(model="qwen3-0.6b", designs=1, **bounds)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="weights must lie between 1e-09"):
        chip_search(model="qwen3-0.6b", weights=(1e-300,))
    with pytest.raises(
        BadInput, match=r"a volume of 10 packages and a demand of 0\.01 times today's in the future 'today'"
    ):
        chip_search(model="qwen3-0.6b", demand=0.01, volume=10.0, designs=1)


def test_more_loads_than_a_search_can_price_are_refused() -> None:
    model = load_architecture("qwen3-0.6b")
    shares = tuple(Share(model=model, weight=1.0, isl=100 + place, osl=8) for place in range(65))
    space = design_space(FACTS, nodes=(5,), designs=1, memories=("hbm4",))
    many = (today(mix_of("many", shares)),)
    question = Question(space=space, futures=many, objective="usd", volume=1e5, max_chips=1, max_batch=1)
    with pytest.raises(BadInput, match="65 different loads"):
        tasks_of(question)


@pytest.mark.parametrize("memory", ["hbm4", "none"])
def test_a_design_costs_what_its_bill_of_materials_says(memory: str) -> None:
    """Area to rounding, dollars to the interpolation between whole counts of dies of a wafer."""
    space = design_space(
        FACTS, nodes=(5,), designs=9, memories=(memory,), dies=(2,), narrowest=("fp8",), edges=(128,), stacks=(4,),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**16, 2.0**19), sram_bytes=(2.0**27, 2.0**29),
    )  # fmt: skip
    block = next(space.blocks())
    block_facts = block_facts_of(FACTS, space, block, draw_of(FACTS, space, block))
    one = designs_at(block_facts, space, np.arange(math.prod(block.shape)))
    needed, spare = (int(FACTS.value("spares", name)) for name in ("needed_units", "spare_units"))
    each, rates = (needed + spare) / needed / 2, rates_of(block_facts.rules, "fp8")
    across = FACTS.value("die-to-die", "die_bytes_per_s") / FACTS.value("die-to-die", "module_bytes_per_s")
    stacks = 4 if memory == "hbm4" else 0
    for place in np.flatnonzero(one.silicon.reason < 0):
        macs = float(one.macs[place])
        content = Content(
            sram_bytes=float(one.sram_bytes[place]) * each,
            multipliers={name: macs * rate * each for name, rate in rates.items()},
            stacks=stacks / 2, lanes=16, modules=math.ceil(across), feeds=2.0 * macs / 128 * each,
            enlarged=1.0 + FACTS.value("narrow-format", "area_ratio"),
        )  # fmt: skip
        area = area_of(block_facts.rules, content)
        assert one.silicon.die_mm2[place] == pytest.approx(area.mm2, rel=1e-12)
        sides = sides_of(block_facts.rules, area.mm2)
        assert sides is not None
        die = Die(node_nm=5, width_mm=sides[0], height_mm=sides[1], count=2, units=needed + spare, needed=needed,
                  units_ratio=(area.sram + area.multipliers) / area.mm2)  # fmt: skip
        held = stacks * FACTS.value("hbm4", "stack_bytes")
        package = Package(dies=(die,), memory=memory if stacks else "", memory_bytes=held, stacks=stacks)
        bill = bill_of_materials(FACTS, package)
        assert one.silicon.made_usd[place] == pytest.approx(bill.usd, rel=0.02)
    assert (one.silicon.reason < 0).any()


def test_dollars_between_the_places_of_a_table() -> None:
    """2 + 3 r + 5 c + r c at places between whole rows and columns; beyond the table its edge counts."""
    rows, columns = np.arange(4.0)[:, None], np.arange(3.0)
    table = 2.0 + 3.0 * rows + 5.0 * columns + rows * columns
    found = between(table, np.array([0.25, 1.0, 2.5, 9.0]), np.array([0.5, 1.75, 2.0, -1.0]))
    assert found.tolist() == pytest.approx([2 + 0.75 + 2.5 + 0.125, 2 + 3 + 8.75 + 1.75, 2 + 7.5 + 10 + 5, 2 + 9])


def test_stacks_that_cannot_be_spread_evenly_over_the_dies() -> None:
    """Four dies take four or eight stacks, and neither two nor six; two dies take all of these."""
    for dies, uneven in ((4, {2, 6}), (2, set[int]())):
        space = design_space(
            FACTS, nodes=(5,), designs=40, memories=("hbm4",), dies=(dies,), narrowest=("bf16",), edges=(128,),
            stacks=(2, 4, 6, 8), lanes=(32,), wirings=("torus 3d",), macs=(2.0**16, 2.0**18), sram_bytes=(2.0**26,) * 2,
        )  # fmt: skip
        (block,) = space.blocks()
        designs = designs_at(
            block_facts_of(FACTS, space, block, draw_of(FACTS, space, block)), space, np.arange(space.size)
        )
        refused = designs.memory[designs.silicon.reason == REASONS.index(UNEVEN)]
        assert {space.memories_of(block)[place].stacks for place in refused} == uneven


def test_sram_that_cannot_feed_the_multipliers() -> None:
    """Tiles of t x t values of 2 bytes: 2 t^3 FLOP for 4 t^2 bytes from memory, three of them in half of the SRAM.

    With 6 MB t is the root of 0.5 x 6e6 / (3 x 2), 707; at 2e12 B/s t / 2 FLOP a byte are 7.07e14 FLOP/s.
    """
    facts = FACTS.edited(["hbm4.stack_bytes_per_s=1e12", "kernel.on_chip_ratio=0.5", "node-5.clock_hz=1e9"])
    fed = 2e12 * 2 * 707.1068**3 / (4 * 707.1068**2)
    space = design_space(
        facts, nodes=(5,), designs=40, memories=("hbm4",), dies=(1,), narrowest=("bf16",), edges=(128,), stacks=(2,),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**17, 2.0**20), sram_bytes=(6e6, 6e6),
    )  # fmt: skip
    (block,) = space.blocks()
    designs = designs_at(
        block_facts_of(facts, space, block, draw_of(facts, space, block)), space, np.arange(space.size)
    )
    unfed = designs.silicon.reason == REASONS.index(UNFED)
    assert unfed.tolist() == (2.0 * designs.macs * 1e9 > fed).tolist()
    assert 0 < unfed.sum() < len(unfed)


@pytest.mark.parametrize("memory", ["hbm4", "none"])
def test_a_design_that_cooling_does_not_bind_draws_its_peaks(memory: str) -> None:
    """Multipliers, memory and links of the same chip as rows of facts, at the energies that the cost model takes.

    What is switched while a chip is busy (active) is a share of the limit, the rest is what moves and multiplies.
    """
    facts = FACTS.edited(["cooling.w_per_mm2=100", "cooling.package_w=1e5"])
    space = design_space(
        facts, nodes=(5,), designs=40, memories=(memory,), dies=(1, 2), narrowest=("fp8",), edges=(128,), stacks=(2,),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**15, 2.0**17), sram_bytes=(2.0**27, 2.0**29),
    )  # fmt: skip
    checked = 0
    for block in (each for each in space.blocks() if each.limited == 1.0):
        shared = block_facts_of(facts, space, block, draw_of(facts, space, block))
        designs = designs_at(shared, space, np.arange(math.prod(block.shape)))
        columns, chosen = columns_of(facts, space, shared, designs), space.memories_of(block)[0]
        for place in np.flatnonzero(designs.silicon.reason < 0):
            numbers = {
                **{f"flops_per_s.{name}": rate[place] for name, rate in columns.flops_per_s.items()},
                **{name: getattr(columns, name)[place] for name in ("memory_bytes", "memory_bytes_per_s", "sram_bytes",
                   "sram_bytes_per_s", "link_bytes_per_s", "idle_w")},
                "power_limit_w": columns.limit_w[place], "die_mm2": columns.package_mm2[place],
            }  # fmt: skip
            chip = chip_from_facts(with_design(facts, "mine", block, chosen, space.links[0], numbers), "mine")
            multiplying = max(
                rate / 2.0 * (chip.joules_per_mac[name] + chip.operand_joules_per_mac[name])
                for name, rate in chip.flops_per_s.items()
            )
            moving = chip.memory.bytes_per_s * chip.memory.joules_per_byte_total
            sending = chip.topology.link_bytes_per_s * chip.topology.link_joules_per_byte
            limit = chip.power_limit_w
            assert limit == pytest.approx(chip.idle_w + chip.active_w + multiplying + moving + sending, rel=1e-6)
            checked += 1
    assert checked > 10


@pytest.mark.slow
def test_regrets_are_those_of_every_design() -> None:
    """Least largest and least mean regret over two loads, against pricing all designs."""
    hunt = a_hunt(5, "llama-3.1-8b", 150, futures=2)
    futures = [place for place, one in enumerate(hunt.wanted) if one.objective == "usd"]
    found = regrets_of(hunt, futures, (0.25, 0.75))
    made = np.flatnonzero(np.isfinite(hunt.screened.bounds[0]))
    costs = np.array([hunt.cost(future, made) for future in futures])
    ratios = costs / costs.min(axis=1)[:, None]
    assert found.minimax is not None
    assert found.mean is not None
    assert found.minimax.cost == ratios.max(axis=0).min()
    assert found.mean.cost == pytest.approx((np.array([0.25, 0.75]) @ ratios).min(), rel=1e-12)
    for row, one in enumerate(found.best):
        assert found.regrets[found.chosen.index(one.design), row] == 0.0


def test_the_answer_of_a_small_space_holds_together() -> None:
    """Every figure of an answer that follows from others of it, over two futures on a few designs."""
    space = design_space(
        FACTS, nodes=(5,), designs=24, memories=("hbm3e",), dies=(2,), narrowest=("bf16",), edges=(128,), stacks=(2, 4),
        lanes=(32,), wirings=("torus 3d",), macs=(2.0**16, 2.0**19), sram_bytes=(2.0**26, 2.0**27),
    )  # fmt: skip
    model = load_architecture("qwen3-0.6b")
    loads = {"prompts": (4000, 10), "answers": (50, 2000)}
    futures = tuple(
        Future(
            name=name, kind="own", mixes=(mix_of(name, (Share(model=model, weight=1.0, isl=isl, osl=osl),)),),
            demand=(1.0,), probability=chance,
        )
        for (name, (isl, osl)), chance in zip(loads.items(), (0.25, 0.75), strict=True)
    )  # fmt: skip
    question = Question(space=space, futures=futures, objective="regret", volume=1e5, max_chips=1, max_batch=64)
    found = json.loads(json.dumps(answer_search(FACTS, question, ("a note",)).as_dict(), allow_nan=False))
    table = found["regret"]["designs"]
    for row in table:
        assert min(row["regret"].values()) >= 0.0
        assert row["largest"] == max(row["regret"].values())
        assert row["mean"] == pytest.approx(0.25 * row["regret"]["prompts"] + 0.75 * row["regret"]["answers"])
        assert all(row["regret"][name] == 0.0 for name in row["best_for"] if name in loads)
    (chosen,) = (row for row in table if "least largest regret" in row["best_for"])
    assert chosen["largest"] == min(row["largest"] for row in table)
    assert chosen["design"]["words"] == found["best"]["words"]
    for future in found["futures"]:
        assert future["chosen_regret"] == pytest.approx(future["chosen_cost"] / future["cost"] - 1.0)
        assert future["chosen_regret"] == pytest.approx(chosen["regret"][future["name"]])
    assert {one["name"] for one in found["insurance"]} >= {"a narrower format", "more links", "more SRAM"}
    for one in found["insurance"]:
        assert one["area"] > 0.0 or one["multipliers"] < 0.0
        mean = 0.25 * one["as_is"]["prompts"] + 0.75 * one["as_is"]["answers"]
        assert one["premium"] == pytest.approx(max(mean, 0.0), abs=1e-12)
        pays = one["premium"] / (one["premium"] + one["gain"]) if one["gain"] else None
        assert one["pays_above"] == pytest.approx(pays)
    narrower = next(one for one in found["insurance"] if one["name"] == "a narrower format")
    assert narrower["gain"] > 0.05  # weights of half the bytes, where decoding reads weights
    near = found["best"]["nearest"]
    assert [one["distance"] for one in near] == sorted(one["distance"] for one in near)
    for one in near:
        squares = [math.log(ratio) ** 2 for ratio in one["ratios"].values()]
        assert one["distance"] == pytest.approx(math.sqrt(sum(squares) / len(squares)))
    objectives = ("usd", "joules", "latency")
    for one, other in product(found["front"], repeat=2):
        assert one is other or not all(other[name] <= one[name] for name in objectives)
    assert found["notes"] == ["a note"]


@pytest.mark.slow
def test_the_answer_says_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    asked = ["codesign", "--search", "--model", "llama-3.1-8b,qwen3-8b", "--weights", "3,1", "--designs", "300",
             "--future", "dense,thinking", "--objective", "regret", "--memory", "hbm4,none", "--max-chips", "2",
             "--isl", "256", "--osl", "64", "--json", "--out", str(page)]  # fmt: skip
    main(asked)
    document = json.loads(capsys.readouterr().out)
    assert document["question"]["max_chips"] == 2
    assert {one["name"] for one in document["futures"]} == {"dense", "thinking"}
    least_largest = min(one["largest"] for one in document["regret"]["designs"] if one["largest"] is not None)
    chosen = [future["chosen_regret"] for future in document["futures"]]
    assert max(chosen) == pytest.approx(least_largest)
    assert document["regret"]["guessed_wrong"]["dense"]["dense"] == 0.0
    usd = [one["usd"] for one in document["front"]]
    assert usd == sorted(usd)
    assert all(-1.0 < one["multipliers"] <= 1.0 and abs(one["area"]) < 0.1 for one in document["insurance"])
    near = document["best"]["nearest"][0]
    own = document["best"]["chip"]["power_limit_w"] / FACTS.value(near["chip"], "power_limit_w")
    assert near["ratios"]["power_limit_w"] == pytest.approx(own)
    assert "<svg" in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--max-tpot", "1e-9"), 3, "the design serves no load within the bounds"),
        (("--objective", "regret"), 2, "at least two"),
        (("--objective", "cheap"), 2, "objective"),
        (("--memory", "hbm9"), 2, "hbm4"),
        (("--memory", "hbm6"), 2, "not made in volume"),
        (("--node", "n1"), 2, "n2"),
        (("--future", "sunny"), 2, "dense"),
        (("--weights", "1,2"), 2, "weights"),
        (("--volume", "0"), 2, "volume"),
        (("--demand", "1e300"), 2, "demand"),
        (("--designs", "1e9"), 2, "designs"),
        (("--set", "chip-search.die_step_mm=100"), 2, "die_step_mm"),
        (("--set", "reticle.width_mm=1"), 3, "a die does not fit one exposure"),
        (("--max-chips", "0"), 2, "max_chips"),
        (("--memory", "hbf"), 2, "can hold a cache"),
        (("--chip", "h100-sxm"), 2, "--chip does not bear on a search"),
        (("--future", ","), 2, "--future names nothing"),
        (("--memory", ""), 2, "--memory names nothing"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["codesign", "--search", "--model", "llama-3.1-8b", "--designs", "1k", *words])
    assert stopped.value.code == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_a_memory_of_ones_own_joins_the_space(tmp_path: Path) -> None:
    """Rows in a directory of facts; without one of the four that describe a memory they count as a typing error."""
    rows = [
        ("stack_bytes", 1e11, "B"), ("stack_bytes_per_s", 5e12, "B/s"), ("usd_per_byte", 5e-9, "USD/B"),
        ("pj_per_bit", 1.5, "pJ"), ("phy_mm2", 20, "mm2"), ("stack_edge_mm", 9, "mm"), ("interposer_ratio", 1, "1"),
        ("stack_mm2", 110, "mm2"), ("volume_year", 2027, "year"),
    ]  # fmt: skip
    lines = [
        f"stack-x,{what},{value},,,{unit},stack,,estimate,a memory of our own,2026,," for what, value, unit in rows
    ]
    lines = [line.removesuffix(",") for line in lines]
    (tmp_path / "own.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    answer = chip_search(model="llama-3.1-8b", memory="stack-x,hbm4", designs=2000, facts=tmp_path)
    assert "stack-x" in answer.best["memory"]
    (tmp_path / "own.csv").write_text("\n".join([",".join(COLUMNS), *lines[1:]]) + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="stack-x"):
        chip_search(model="llama-3.1-8b", designs=2000, facts=tmp_path)
