"""`asic`: one answer from model and volume to a verdict; on stand-ins where a design would take seconds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

import flashstill as fs
from flashstill.arch import Architecture, load_architecture
from flashstill.asic import answer as answers
from flashstill.asic import point as points
from flashstill.asic.alternative import OWNED, RENTED, options, possible_chips, purchase_of, rent_of, within
from flashstill.asic.design import ChipDesign
from flashstill.asic.document import fleet_of
from flashstill.asic.point import Candidate
from flashstill.asic.question import Question, check_question, node_nm
from flashstill.asic.trial import Trial
from flashstill.cli import main
from flashstill.console import Console
from flashstill.errors import BadInput, InfeasiblePlan, MissingFact
from flashstill.facts import Facts, load
from flashstill.own_chips import asic
from flashstill.plan.deployment import Deployment
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario
from tests.asic_stand_in import alternative, stand_in, with_stand_in

FACTS = load()
MODEL = load_architecture("llama-3.1-8b")
ASKED = Question(model=MODEL, tokens_per_day=1e12, decided=date(2027, 1, 1))
AGAINST = ("h100-sxm",)


@pytest.fixture
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Designs are known chips under another name, of one package with HBM and 64 without."""

    def design(facts: Facts, model: Architecture, *, variant: str, node: str, name: str, **more: Any) -> ChipDesign:
        made = stand_in(variant, int(node[1:]), chips=1 if variant == "hbm" else 64)
        if node == "n7" and variant == "sram":
            raise InfeasiblePlan("no chip of n7", {"a die does not fit one exposure": 3})
        return replace(made, name=name, concurrency=more["concurrency"])

    monkeypatch.setattr(answers, "design_chip", design)
    monkeypatch.setattr(answers, "with_design", with_stand_in)


@pytest.mark.slow
@pytest.mark.usefixtures("_stand_ins")
def test_an_answer_has_all_its_parts() -> None:
    found = asic(
        model=MODEL, volume=1e14, variant="hbm", node="n5", concurrency=64, against=AGAINST, price="rented", draws=256,
        decided="2027-01-01", facts=FACTS,
    )  # fmt: skip
    values = found.as_dict()
    assert json.loads(json.dumps(values, allow_nan=False))["variants"]["hbm"]["pays"] is True
    assert values["pays"] is True
    assert set(values["break_even_tokens_per_day"]) == {"p10", "p50", "p90"}
    assert values["break_even_tokens_per_day"]["p50"] < 1e14
    ours, theirs = (values["usd_per_million_tokens"][side] for side in ("asic", "alternative"))
    assert ours < theirs
    assert values["nre_usd"] == values["nre_usd_interval"]["p50"] > 1e8
    assert values["dies"] == 1
    assert values["joules_per_token"]["total"] == pytest.approx(
        sum(joules for level, joules in values["joules_per_token"].items() if level != "total")
    )
    assert values["alternative"]["chip"] == "h100-sxm"
    assert values["variants"]["hbm"]["nodes"].keys() == {"n5"}
    assert values["break_even_date"]["p50"] > "2029"
    names = {(driver["name"], driver["quantity"]) for driver in values["drivers"]}
    assert {("node-5", "usd_per_wafer"), ("h100-sxm", "usd_per_hour"), ("hbm3e", "usd_per_byte")} <= names
    volumes = [point["tokens_per_day"] for point in values["curve"]]
    assert volumes == sorted(volumes)
    assert 1e14 in volumes
    run = {row["training_usd"]: row["nre_ratio"]["p50"] for row in values["as_share_of_training_run"]}
    assert run[1e7] == pytest.approx(values["nre_usd"] / 1e7)
    assert max(run) == 1e10
    record = found.as_records()[0]
    assert record["break_even_p50"] == values["break_even_tokens_per_day"]["p50"]
    assert "tokens a day: pays" in found._repr_html_()
    fleet = fleet_of(found.best)
    rate = found.best.best.point.candidate.tokens_per_s_per_chip * FACTS.value("server", "utilisation_ratio") * 86400
    assert fleet["packages"] - 1 <= 1e14 / rate <= fleet["packages"]
    assert fleet["wafers"] >= fleet["dies"] / 120


@pytest.mark.usefixtures("_stand_ins")
@pytest.mark.slow
def test_the_best_variant_comes_first_and_what_cannot_be_is_counted() -> None:
    found = asic(model=MODEL, volume=1e14, node=("n7", "n5"), concurrency=16, against=AGAINST, draws=128, facts=FACTS)
    assert {one.variant for one in found.variants} == {"sram", "hbm", "hardwired"}
    sram = next(one for one in found.variants if one.variant == "sram")
    assert sram.nodes.keys() == {"n5"}
    assert sram.infeasible == {"a die does not fit one exposure": 3}
    ranks = [one.rank for one in found.variants]
    assert ranks == sorted(ranks)
    with pytest.raises(InfeasiblePlan, match="no sram chip serves") as stopped:
        asic(model=MODEL, volume=1e14, variant="sram", node="n7", concurrency=16, against=AGAINST, facts=FACTS)
    assert stopped.value.reasons == {"a die does not fit one exposure": 3}


def test_trials_are_ranked_by_worth_then_by_break_even() -> None:
    from flashstill.asic.verdict import Verdict

    def trial(volume: float | None, worth: float, dollars: float) -> Trial:
        one = {"p10": volume, "p50": volume, "p90": None}
        made = Verdict(
            tokens_per_day=100.0, probability=0.5, break_even=one, asic_usd={"p50": dollars},
            alternative_usd=one, nre_usd=one,
            net_usd={"p10": 0.0, "p50": worth, "p90": 0.0}, payback_years=one,
        )  # fmt: skip
        return Trial(point=None, verdict=made)  # type: ignore[arg-type]

    pays = [trial(50.0, 9.0, 1.0), trial(20.0, 5.0, 1.0)]
    would = [trial(200.0, -9.0, 1.0), trial(300.0, -1.0, 1.0)]
    never = [trial(None, -2.0, 3.0), trial(None, -1.0, 4.0)]
    best = [*pays, *would, *never]
    assert sorted([*never, *would, *pays], key=lambda one: one.rank) == best


@pytest.mark.parametrize("variant", ["hbm", "hardwired"])
def test_the_best_batch_breaks_even_first_or_costs_least(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(*rates: float) -> float:
        found = [
            Candidate(
                deployment=Deployment(chip="asic", chips=1),
                batch=8,
                prediction=Prediction(fits=True, output_tokens_per_s=rate, watts_per_chip=400.0),
            )
            for rate in rates
        ]
        design = stand_in(variant)
        facts = with_stand_in(FACTS, design)
        made: Any = points.best_point(facts, design, Scenario(model=MODEL), found, [alternative(FACTS)])
        return float(made)

    monkeypatch.setattr(points, "_point", lambda *values: values[3].tokens_per_s_per_chip)
    assert chosen(5e3, 2e4, 9e3) == 2e4
    assert chosen(20.0, 30.0, 10.0) == 30.0  # none ever pays


def test_alternatives_can_be_had_and_are_never_hard_wired() -> None:
    found = options(FACTS, Scenario(model=MODEL), ("h100-sxm", "tpu-v5e"))
    kinds = {(one.chip, one.basis) for one in found}
    assert {("h100-sxm", RENTED), ("h100-sxm", OWNED)} <= kinds
    assert ("tpu-v5e", OWNED) not in kinds  # rented out, not sold
    assert rent_of(FACTS, "mi300x") is None
    assert purchase_of(FACTS, "mi300x") is not None
    prices = [one.usd_per_million for one in found]
    assert prices == sorted(prices)
    cheapest = {one.basis: one for one in within(found)}
    assert cheapest[RENTED] == next(one for one in found if one.basis == RENTED)
    quick = within(found, 0.01)
    assert quick
    assert all((one.configuration.tpot_s or 1.0) <= 0.01 for one in quick)
    assert min(one.usd_per_million for one in quick) >= prices[0]
    rent = rent_of(FACTS, "h100-sxm")
    assert rent is not None
    assert "list" not in rent.condition
    assert purchase_of(FACTS, "maia-200") is None
    assert rent_of(FACTS, "h800-sxm") is not None
    everything = possible_chips(FACTS)
    assert not {"taalas-hc1", "this-machine"} & set(everything)
    assert {"h100-sxm", "tpu-v5e", "mi300x"} <= set(everything)
    for name, why in (("taalas-hc1", "hard-wired"), ("maia-200", "neither rented nor bought")):
        with pytest.raises(BadInput, match=why):
            options(FACTS, Scenario(model=MODEL), (name,))
    with pytest.raises(MissingFact, match="nearest known"):
        options(FACTS, Scenario(model=MODEL), ("h1000",))
    hurried = Scenario(model=MODEL, max_tpot_s=1e-6)
    with pytest.raises(InfeasiblePlan, match="nothing that can be rented or bought"):
        options(FACTS, hurried, AGAINST)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tokens_per_day": 0.0}, "volume must be above 0"),
        ({"tokens_per_day": -3.0}, "not -3"),
        ({"tokens_per_day": float("nan")}, "volume must be above 0"),
        ({"tokens_per_day": float("inf")}, "volume must be above 0"),
        ({"variants": ("dram",)}, "unknown variant 'dram'; the nearest known"),
        ({"nodes": ("n4000",)}, "unknown node"),
        ({"nodes": ("n1",)}, "unknown node 'n1'; the nearest known"),
        ({"basis": "list"}, "unknown price of the alternative"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"draws": 10**9}, "draws must be at most"),
        ({"concurrency": (0,)}, "concurrency must be at least 1"),
        ({"max_tpot_s": -1.0}, "max_tpot_s must be above 0"),
        ({"isl": 10**7}, "beyond the"),
        ({"seed": -1}, "seed must be 0 or above"),
        ({"variants": ()}, "no variant is asked for"),
        ({"nodes": ()}, "no node is asked for"),
    ],
)
def test_nonsense_gets_one_sentence(change: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why) as stopped:
        check_question(FACTS, replace(ASKED, **change))
    assert "\n" not in str(stopped.value)


def test_nodes_have_several_spellings() -> None:
    assert [node_nm(FACTS, name) for name in ("n5", "5nm", "5", " N7 ")] == [5, 5, 5, 7]
    assert ASKED.day(1.5) == "2028-07-02"
    assert ASKED.day(None) is None
    assert replace(ASKED, decided=date(9999, 12, 1)).day(1.0) is None  # beyond the calendar


def test_the_order_of_nodes_does_not_matter_and_progress_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sizes are tried at the coarsest node, however nodes are spelled or sorted; every search advances the bar."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(answers, "options", lambda *asked: ())
    monkeypatch.setattr(answers, "_trial", lambda facts, asked, variant, node, size, *more: seen.append((node, size)))
    for nodes in (("n2", "n7", "7nm"), ("n7", "2")):
        seen.clear()
        with pytest.raises(InfeasiblePlan, match="no sram chip"):
            answers.answer(FACTS, replace(ASKED, variants=("sram",), nodes=nodes), Console())
        assert seen == [(node, size) for node in (7, 2) for size in answers.CONCURRENCIES]
        assert "search alternatives and designs: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--volume", "0"], "volume must be above 0"),
        (["--volume", "1e12", "--node", "n6000"], "unknown node"),
        (["--volume", "1e12", "--variant", "dram"], "unknown variant"),
        (["--volume", "1e12", "--decided", "soon"], "must be a date as 2027-01-31"),
        (["--volume", "lots"], "not a valid amount"),
        (["--volume", "1e12", "--out", "page.txt"], "ends in .html"),
    ],
)
def test_the_command_says_what_is_wrong(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["asic", "--model", "llama-3.1-8b", *words])
    assert stopped.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_on_a_real_design(capsys: pytest.CaptureFixture[str]) -> None:
    """A hard-wired 8B: no energy for weights, dies with its model, pays above a volume and not below."""
    words = ["asic", "--model", "llama-3.1-8b", "--variant", "hardwired", "--node", "n5", "--concurrency", "16",
             "--draws", "2000", "--decided", "2027-01-01", "--json", "--volume"]  # fmt: skip
    main([*words, "1e9"])
    small = json.loads(capsys.readouterr().out)
    middle = small["break_even_tokens_per_day"]["p50"]
    main([*words, f"{2 * middle:.0f}"])
    large = json.loads(capsys.readouterr().out)
    assert (small["pays"], large["pays"]) == (False, True)
    assert large["break_even_tokens_per_day"] == small["break_even_tokens_per_day"]
    assert large["joules_per_token"]["weights"] == 0.0
    assert large["schedule"]["dies_with_its_model"] is True
    assert large["schema"] == "flashstill.asic/1"
    assert large["question"]["volume"] == pytest.approx(2 * middle, rel=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("_stand_ins")
def test_the_command_prints_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    main(["asic", "--model", "llama-3.1-8b", "--volume", "1e14", "--variant", "hbm", "--node", "n5", "--against",
          "h100-sxm", "--draws", "500", "--concurrency", "64"])  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert "silicon of one's own pays" in lines[0]
    assert len(lines) < 45


def test_the_face() -> None:
    assert callable(fs.asic)
    with pytest.raises(BadInput, match="volume"):
        fs.asic(model="llama-3.1-8b", volume=0)
