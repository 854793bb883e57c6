"""Self-hosting against an API: DeepSeek's day, the volume at which it pays, and what a wrong question is told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.arch import load_architecture
from flashstill.cli import main
from flashstill.economics import HourlyPrice
from flashstill.economics.self_hosting import Replica, break_even, fleet_usd_per_day, replica_of, replicas_for
from flashstill.economics.token_prices import Tokens, api_price, asked_price, tokens_of
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import load
from flashstill.plan.hosted import Hosting
from flashstill.plan.hosting import scenario_of
from tests.marks import examples, slow

FACTS = load()
SMALL: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-pcie", "max_chips": 1, "isl": 2000, "osl": 300}


class TestDeepSeeksDay:
    """open-infra-index, day 6 (2025-03-01): 226.75 nodes of 8 H800 on average at 2 dollars a GPU-hour."""

    def test_what_it_costs(self) -> None:
        hour = next(row for row in FACTS.rows["h800-sxm", "usd_per_hour"] if "accounting" in row.condition)
        assert fleet_usd_per_day(226.75 * 8, hour.value) == 87_072.0

    def test_what_it_would_earn(self) -> None:
        price = api_price(FACTS, "deepseek-r1")
        assert price is not None
        assert (price.input, price.cached, price.output) == (0.55, 0.14, 2.19)
        revenue = price.usd(Tokens(cached=3.42e11, input=6.08e11 - 3.42e11, output=1.68e11))
        assert revenue == pytest.approx(562_027, rel=1e-3)
        assert revenue / 87_072 - 1.0 == pytest.approx(5.45, rel=2e-3)  # "a cost profit margin of 545 %"

    @pytest.mark.slow
    def test_what_the_model_and_the_chip_lead_to(self) -> None:
        """Lengths from the mean KV length of 4,989 (test_deepseek_day.py); nothing was fitted to that day."""
        tree = fs.economics(
            model="deepseek-v3", chip="h800-sxm", max_chips=192, engine="sglang", disaggregated=True,
            overlaps=("none", "two-batch"), redundant_experts=(None, 32), isl=4383, osl=1211, cached=3.42 / 6.08,
            utilisation=1.0, tokens_per_day=7.76e11, set={"h800-sxm.usd_per_hour": 2.0}, api_price="deepseek-r1",
        ).as_dict()  # fmt: skip
        assert tree["chips"] / 8 == pytest.approx(226.75, rel=0.3)
        assert tree["usd_per_day"]["value"] == pytest.approx(87_072, rel=0.3)
        assert tree["api"]["usd_per_day"]["value"] == pytest.approx(562_027, rel=0.002)
        assert tree["answer"] == "self-host"


def test_tokens_of_a_request() -> None:
    """Thinking tokens come beside those of the answer and are paid as output."""
    assert tokens_of(2000.0, 300.0, 0.25, 2.0) == Tokens(cached=500.0, input=1500.0, output=900.0)
    price = asked_price(FACTS, "0.5, 0.1, 2")
    assert price.usd(Tokens(cached=1e6, input=2e6, output=3e6)) == pytest.approx(0.1 + 1.0 + 6.0)


PLAIN = Replica(
    chips=8, requests_per_day=1e5, standing_usd=500.0, request_usd=0.001, waiting_kwh=100.0, request_kwh=0.002
)


def test_the_break_even_by_hand() -> None:
    """A replica of 500 dollars a day; each request saves 1.1 - 0.1 cents: 50,000 requests a day pay for it."""
    found = break_even(PLAIN, 0.011, 1.0)
    assert found.first == pytest.approx(50_000)
    assert found.always == pytest.approx(50_000)  # 2 x 500 dollars are saved by 100,000 requests
    assert break_even(PLAIN, 0.005, 1.0).first is None  # 0.4 cents x 100,000 are 400 dollars
    dear = break_even(PLAIN, 0.008, 1.0)  # 0.7 cents: 71,429; n = 3 is the first n with (n + 1) 500 <= 700 n
    assert dear.first == pytest.approx(500 / 0.007)
    assert dear.always == pytest.approx(3 * 500 / 0.007)
    assert break_even(PLAIN, 0.011, 1.0, least=2).first == pytest.approx(100_000)
    assert replicas_for(100_000, PLAIN, 1.0) == 1
    assert replicas_for(100_001, PLAIN, 1.0) == 2
    assert replicas_for(100_001, PLAIN, 0.5) == 3


positive = st.floats(0.1, 1e3, allow_nan=False)


@examples(100)
@given(standing=positive, full=positive, power=st.floats(0.0, 1.0), api=positive, load=st.floats(0.05, 1.0),
       least=st.integers(1, 4), more=st.floats(1.0, 3.0))  # fmt: skip
def test_break_even_is_where_the_staircase_crosses(
    standing: float, full: float, power: float, api: float, load: float, least: int, more: float
) -> None:
    replica = replace(PLAIN, requests_per_day=full, standing_usd=standing, request_usd=power)
    found = break_even(replica, api, load, least)

    def saved(volume: float) -> float:
        return api * volume - replica.usd(volume, replicas_for(volume, replica, load, least))

    if found.first is None or found.always is None:
        assert all(saved(full * step / 7.0) <= 1e-6 * standing * step for step in range(1, 40))
    else:
        assert saved(found.first) == pytest.approx(0.0, abs=1e-6 * api * found.first)
        assert saved(found.first * 0.999) < 0.0
        assert found.always >= found.first
        for step in range(30):
            volume = found.always * (1.0 + 0.21 * step)
            assert saved(volume) >= -1e-6 * api * volume
    dearer = break_even(replica, api * more, load, least).first
    assert found.first is None or (dearer is not None and dearer <= found.first * (1.0 + 1e-9))
    costlier = break_even(replace(replica, standing_usd=standing * more), api, load, least).first
    assert costlier is None or (found.first is not None and costlier >= found.first * (1.0 - 1e-9))


def test_an_answer_adds_up() -> None:
    for price in ("rented", "owned"):
        tree = fs.economics(**SMALL, cached=0.5, thinking=1.0, requests_per_day=20_000, price=price).as_dict()
        kinds = {kind: span["value"] for kind, span in tree["usd_per_million"].items()}
        request = (1000 * kinds["cached"] + 1000 * kinds["input"] + 600 * kinds["output"]) / 1e6
        assert request == pytest.approx(tree["usd_per_request"]["value"])
        assert tree["usd_per_day"]["value"] == pytest.approx(20_000 * request)
        assert sum(step["usd"] for step in tree["steps"]) == pytest.approx(request / 600 * 1e6)
        assert all(step["usd"] >= 0.0 and step["source"] for step in tree["steps"])
        assert sum(tree["power"]["decode_share_by_place"].values()) == pytest.approx(1.0)
        assert all(row["source"] and row["as_of"] for row in tree["assumptions"])
    if price == "owned":
        places = tree["power"]["usd_per_million_output_tokens_by_place"]
        assert sum(places.values()) == pytest.approx(tree["steps"][-2]["usd"])


def test_the_volume_decides() -> None:
    asked = {**SMALL, "api_price": (0.5, 0.1, 1.5)}
    tree = fs.economics(**asked).as_dict()
    assert tree["answer"] == "depends"  # no volume was named
    at = tree["break_even"]["requests_per_day"]["value"]
    always = tree["break_even"]["always_requests_per_day"]["value"]
    assert fs.economics(**asked, requests_per_day=at * 0.99).as_dict()["answer"] == "api"
    assert fs.economics(**asked, requests_per_day=always * 1.01).as_dict()["answer"] == "self-host"
    tokens = fs.economics(**asked, tokens_per_day=always * 1.01 * 2300).as_dict()
    assert tokens["requests_per_day"] == pytest.approx(always * 1.01)
    assert fs.economics(**{**asked, "api_price": (0.001, 0.0, 0.001)}).as_dict()["answer"] == "api"


@pytest.mark.slow
def test_ranges_span_their_corners() -> None:
    found = fs.economics(
        **SMALL, cached=(0.0, 0.8), thinking=(0.0, 3.0), requests_per_day=1e5, api_price=(0.3, 0.1, 0.6)
    )
    rows, tree = found.as_records(), found.as_dict()
    assert len(rows) == 5
    assert (rows[0]["cached_ratio"], rows[0]["thinking_ratio"]) == (0.4, 1.5)
    for name in ("usd_per_request", "api_usd_per_request"):
        span = tree["usd_per_request"] if name == "usd_per_request" else tree["api"]["usd_per_request"]
        assert (span["low"], span["high"]) == (min(row[name] for row in rows), max(row[name] for row in rows))
    assert "replicas" in found._repr_html_()


@pytest.mark.parametrize("price", ["rented", "owned"])
@pytest.mark.parametrize("requests", [50_000.0, *slow(None)])
def test_rows_without_ranges_leave_no_doubt(price: str, requests: float | None) -> None:
    certain = {
        key: tuple(replace(row, low=row.value, high=row.value) for row in rows) for key, rows in FACTS.rows.items()
    }
    asked = {**SMALL, "price": price, "requests_per_day": requests, "api_price": "gemini-2.5-flash"}
    tree = fs.economics(**asked, facts=replace(FACTS, rows=certain)).as_dict()
    assert tree["drivers"] == []
    for name, value in (
        ("usd_per_request", tree["usd_per_request"]["value"]),
        ("break_even_requests_per_day", tree["break_even"]["requests_per_day"]["value"]),
    ):
        assert list(tree["interval"][name].values()) == pytest.approx([value] * 3)


def test_how_sure_and_what_it_depends_on() -> None:
    tree = fs.economics(**SMALL, price="owned", api_price="gemini-2.5-flash").as_dict()
    for span in tree["interval"].values():
        assert span["p10"] < span["p50"] < span["p90"]
    names = [f"{row['name']}.{row['quantity']}" for row in tree["drivers"]]
    assert {"server.utilisation_ratio", "h100-pcie.usd_purchase", "capital.interest_ratio"} == {*names[:2], names[3]}
    for row in tree["drivers"]:
        rises = row["quantity"] not in ("utilisation_ratio", "lifetime_years")
        assert (row["at_high"] >= row["at_low"]) == rises


def test_the_grid_decides_the_carbon_and_not_the_price() -> None:
    us, norway = (fs.economics(**SMALL, requests_per_day=1e4, grid=grid).as_dict() for grid in ("us", "norway"))
    assert us["usd_per_day"] == norway["usd_per_day"]
    assert us["footprint"]["kwh_per_day"] == norway["footprint"]["kwh_per_day"] > 0.0
    grams = us["footprint"]["co2_g_per_million_output_tokens"]["value"]
    assert grams == pytest.approx(us["footprint"]["kwh_per_day"] * 429 / 1e4 / 300 * 1e6)
    litres = us["footprint"]["water_l_per_day"]["value"]
    assert litres == pytest.approx(us["footprint"]["kwh_per_day"] * 0.26e-3 / 0.24e-3, rel=0.01)
    with pytest.raises(MissingFact, match="unknown grid 'mars'; the nearest known"):
        fs.economics(**SMALL, grid="mars")


def test_a_known_model_has_its_price_and_users_rows_add_more(tmp_path: Path) -> None:
    assert fs.economics(**SMALL).as_dict()["api"]["usd_per_million"]["input"] == 0.055
    unknown = {**SMALL, "model": "qwen3-8b"}
    tree = fs.economics(**unknown).as_dict()
    assert (tree["api"], tree["answer"], tree["break_even"]) == (None, None, None)
    heading = "name,quantity,value,low,high,unit,per,condition,kind,source,as_of,note"
    lines = [
        f"api-qwen3-8b,usd_per_million_{kind},{value},,,USD/Mtok,million tokens,,secondary,a price list,2026-11,"
        for kind, value in (("input", 0.2), ("output", 0.6))
    ]
    (tmp_path / "own.csv").write_text("\n".join([heading, *lines, ""]), encoding="utf-8")
    paid = fs.economics(**unknown, facts=tmp_path).as_dict()["api"]
    assert paid["usd_per_million"] == {"cached": 0.2, "input": 0.2, "output": 0.6}
    assert "no discount for cached input is known" in paid["source"]


COMMAND = ["economics", "--model", "llama-3.1-8b", "--chip", "h100-pcie", "--max-chips", "1"]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    main([*COMMAND, "--requests-per-day", "10k", "--cached", "0.2,0.6", "--json"])
    tree = json.loads(capsys.readouterr().out)
    assert tree["schema"] == "flashstill.economics/1"
    assert tree["question"]["cached"] == "0.2,0.6"
    assert len(tree["corners"]) == 3
    main([*COMMAND, "--price", "owned"])
    told = capsys.readouterr().out
    for words in (
        "interest",
        "hours without work",
        "answer: ",
        "g of CO2",
        "assumed:",
        "capital.interest_ratio = 0.08",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--api-price", "0.5,-0.1,2"], "CACHED must be at least 0"),
        (["--api-price", "0.5,2"], "three numbers"),
        (["--api-price", "gemini"], "the nearest known: gemini"),
        (["--utilisation", "0"], "utilisation must be at least 0.01 and at most 1"),
        (["--utilisation", "1.5"], "utilisation must be at least 0.01 and at most 1"),
        (["--utilisation", "1e-300"], "utilisation must be at least 0.01 and at most 1"),
        (["--redundant-experts", "-1"], "redundant_experts must be at least 0, not -1"),
        (["--redundant-experts", ""], "--redundant-experts is ''"),
        (["--chip", ","], "--chip is ','"),
        (["--cached", "0.6,0.2"], "cached is 0.6 to 0.2"),
        (["--cached", "2"], "cached is 2 to 2"),
        (["--thinking", "a"], "--thinking is 'a'"),
        (["--requests-per-day", "-5"], "requests_per_day must be above 0"),
        (["--tokens-per-day", "-5"], "tokens_per_day must be above 0 and at most 1e+20, not -5"),
        (["--requests-per-day", "5", "--tokens-per-day", "5"], "not both"),
        (["--grid", "mars"], "unknown grid"),
        (["--price", "leased"], "unknown price basis"),
        (["--least-replicas", "0"], "least_replicas must be at least 1"),
        (["--set", "h100-pcie.usd_per_hour=-1"], "usd_per_hour"),
    ],
)
def test_nonsense_gets_a_sentence(capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*COMMAND, *options])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"api_price": (1.0, 2.0)}, r"api_price is \(1.0, 2.0\), not"),
        ({"cached": (0.0, 0.5, 1.0)}, "cached is .*, not a number or"),
        ({"thinking": "much"}, "thinking is 'much'"),
        ({"isl": 0, "osl": 0, "tokens_per_day": 1e9}, "isl must be at least 1"),
        ({"max_chips": 0}, "max_chips must be at least 1"),
        ({"requests_per_day": math.nan}, "'requests_per_day' is nan, not a finite number"),
        ({"thinking": (0.0, 900.0)}, "beyond the"),
    ],
)
def test_nonsense_from_python(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fs.economics(**{**SMALL, **given})


def test_a_chip_without_a_price_is_named() -> None:
    rows = {key: row for key, row in FACTS.rows.items() if not (key[0] == "h100-pcie" and key[1].startswith("usd_"))}
    with pytest.raises(BadInput, match=r"no price is known of h100-pcie; give one with set h100-pcie\.usd_per_hour"):
        fs.economics(**SMALL, facts=replace(FACTS, rows=rows))


def test_the_model_is_needed_and_must_fit(capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (
        (["economics"], 2),
        (["economics", "--model", "deepseek-v3", "--chip", "h100-pcie", "--max-chips", "1"], 3),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == code
    assert "needs --model" in capsys.readouterr().err


@pytest.mark.slow
def test_the_chip_is_chosen_among_those_that_can_be_had() -> None:
    rented = fs.economics(model="llama-3.1-70b", isl=1000, osl=200, requests_per_day=1e6).as_dict()
    for chip in ("h100-sxm", "a100-80g", "tpu-v6e"):
        dear = fs.economics(model="llama-3.1-70b", isl=1000, osl=200, requests_per_day=1e6, chip=chip).as_dict()
        full = [tree["configuration"]["usd_per_million_output_tokens"] for tree in (rented, dear)]
        assert full[0] <= full[1] * (1.0 + 1e-9)
    owned = fs.economics(model="llama-3.1-70b", isl=1000, osl=200, price="owned").as_dict()
    assert ": estimate" not in owned["price_basis"]
    row = FACTS.get(owned["chip"], "usd_purchase")
    assert row.high <= 3.0 * row.low
    assert not math.isnan(owned["usd_per_request"]["value"])


def test_the_bound_holds_where_only_thinking_makes_an_answer_longer() -> None:
    """An answer of one token has no time per output token; with thinking it has."""
    asked = Hosting(model="llama-3.1-8b", osl=1, max_tpot_s=0.05)
    model = load_architecture("llama-3.1-8b")
    assert scenario_of(asked, model, 0.0, 0.0).max_tpot_s is None
    assert scenario_of(asked, model, 0.0, 3.0).max_tpot_s == 0.05


@pytest.mark.slow
class TestHours:
    """One hour of a chip, by whatever command it is asked about."""

    def test_a_chip_for_nothing_is_used_well(self) -> None:
        paid, free = (fs.economics(**SMALL, set={"h100-pcie.usd_per_hour": usd}).as_dict() for usd in (2.0, 0.0))
        assert free["configuration"]["batch"] == paid["configuration"]["batch"]
        assert free["usd_per_request"]["value"] == 0.0

    @pytest.mark.parametrize("utilisation", [0.35, 1.0])
    def test_an_owned_hour_is_told_at_the_load_that_is_told(self, utilisation: float) -> None:
        found = fs.economics(**SMALL, price="owned", utilisation=utilisation).as_dict()
        chosen = found["configuration"]
        hours = chosen["chips"] / chosen["output_tokens_per_s"] / 3600.0
        assert found["usd_per_chip_hour"] * hours * 300 == pytest.approx(found["usd_per_request"]["value"])

    @pytest.mark.parametrize("price", ["rented", "owned", "list"])
    def test_plan_and_economics_agree(self, price: str) -> None:
        found = fs.economics(**SMALL, price=price).as_dict()
        chosen = found["configuration"]
        assert found["usd_per_chip_hour"] == pytest.approx(chosen["usd_per_chip_hour"])
        by_clock = chosen["usd_per_million_output_tokens"] / 1e6 * 300
        load = 1.0 if price == "owned" else found["utilisation_ratio"]
        assert found["usd_per_request"]["value"] == pytest.approx(by_clock / load)

    def test_every_row_is_told_once(self) -> None:
        found = fs.economics(**SMALL, set={"h100-pcie.usd_per_hour": 2.0}).as_dict()
        rows = [(row["name"], row["quantity"]) for row in found["assumptions"]]
        assert len(rows) == len(set(rows))
        assert {("h100-pcie", "idle_w"), ("host-memory", "usd_per_byte")} <= set(rows)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"isl": "x"}, "isl is 'x', not a whole number"),
        ({"osl": 1.5}, "osl is 1.5, not a whole number"),
        ({"max_chips": True}, "max_chips is True, not a whole number"),
        ({"least_replicas": math.nan}, "least_replicas is nan"),
        (
            {"least_replicas": 10**400},
            "least_replicas is a number of about 401 digits, and no number here has more than 300",
        ),
        ({"max_ttft_s": math.inf}, "'max_ttft_s' is inf, not a finite number"),
        ({"disaggregated": "no"}, "disaggregated is 'no', not True or False"),
        ({"grid": None}, "grid is None, not a text"),
        ({"chip": 5}, "chip is 5, not a text or a list"),
        ({"overlaps": None}, "overlaps is None, not a list"),
        ({"redundant_experts": ("a",)}, "redundant_experts\\[0\\] is 'a', not a whole number"),
        ({"model": None}, "model is None, not the name of a model"),
        ({"api_price": 3.0}, "api_price is 3.0, not"),
        ({"thinking": 10**400}, "thinking is a number of about 401 digits, beyond"),
    ],
)
def test_keywords_have_types(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fs.economics(**{**SMALL, **given})


def test_the_energy_of_a_request_is_what_it_draws_beyond_waiting() -> None:
    """Two chips of 700 W, 100 W of them idle, a request a second, at the wall 1.5 times as much."""
    price = HourlyPrice(usd_per_hour=2.0, basis="rented")
    found = replica_of(2, 1.0, 700.0, price, None, 100.0, 1.5)
    assert found.request_kwh == pytest.approx(2 * 600.0 * 1.5 / 3.6e6)
    assert found.waiting_kwh == pytest.approx(2 * 24 * 0.1 * 1.5)
    assert found.kwh(86_400.0, 1) == pytest.approx(2 * 24 * 0.7 * 1.5)  # full all day
