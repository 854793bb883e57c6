"""What an hour of an owned chip costs, and that it moves the right way with all that it depends on."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.economics import hourly_price
from flashstill.economics.draws import Draws
from flashstill.economics.tco import (
    HourCost,
    OwnedChip,
    Terms,
    annuity,
    owned_chip,
    owned_hour,
    paid_as_it_passes,
    terms_of,
)
from flashstill.economics.token_kinds import KINDS
from flashstill.errors import BadInput
from flashstill.facts import load
from flashstill.plan.deployment import Deployment

FACTS = load()
TERMS = terms_of(FACTS)
CHIP = OwnedChip(purchase_usd=20_000.0, limit_w=700.0, idle_w=100.0, server_power_ratio=1.5)
PLAIN = Terms(
    interest_ratio=0.0, lifetime_years=5.0, utilisation_ratio=1.0, server_capital_ratio=1.5, network_share_ratio=0.2,
    building_usd_per_w=10.0, building_years=10.0, pue_ratio=1.2, usd_per_kwh=0.1,
)  # fmt: skip


def test_a_worked_hour_without_interest() -> None:
    """Sums by hand: 20,000 + 10,000 of server + 30,000 x 0.2 / 0.8 of network over 5 x 8766 h; 1,050 W of building."""
    hour = owned_hour(PLAIN, CHIP, 500.0)
    assert hour.chip_usd == pytest.approx(20_000 / 43_830)
    assert hour.server_usd == pytest.approx(10_000 / 43_830)
    assert hour.network_usd == pytest.approx(7_500 / 43_830)
    assert hour.building_usd == pytest.approx(10_500 / 87_660)
    assert hour.interest_usd == pytest.approx(0.0, abs=1e-12)
    assert hour.power_usd == pytest.approx(0.5 * 1.5 * 1.2 * 0.1)
    assert hour.usd == pytest.approx(sum(hour.parts().values()))


def test_a_loan_is_paid_back() -> None:
    """The balance of a loan of 1 is 0 after the last of its yearly payments: 25.05 % a year at 8 % over 5 years."""
    assert annuity(0.08, 5.0) == pytest.approx(0.250456, abs=1e-6)
    balance = 1.0
    for _ in range(5):
        balance = balance * 1.08 - float(annuity(0.08, 5.0))
    assert balance == pytest.approx(0.0, abs=1e-12)
    assert annuity(0.0, 4.0) == 0.25
    assert np.asarray(annuity(np.array([0.0, 1e-12, 0.08]), 5.0)) == pytest.approx([0.2, 0.2, 0.250456], abs=1e-6)
    dear = owned_hour(replace(PLAIN, interest_ratio=0.08), CHIP, 500.0)
    yearly = 37_500 * annuity(0.08, 5.0) + 10_500 * annuity(0.08, 10.0)
    assert float(dear.usd - dear.power_usd) * 8766 == pytest.approx(yearly)


@pytest.mark.parametrize("interest", [0.0, 0.01, 0.08, 0.5])
def test_hours_paid_as_they_pass_are_worth_the_price(interest: float) -> None:
    """All hours of a life, each discounted by its own day, are worth what was bought on the first day.

    37,500 dollars with server and network, without building and power.  Instalments at the years' ends add up to the
    same if each counts at its year's end; at 8 % they are 3.9 % more if they are taken for hours paid as they pass.
    """
    chip = replace(CHIP, limit_w=0.0, idle_w=0.0)
    hour = owned_hour(replace(PLAIN, interest_ratio=interest), chip, 0.0)
    years = np.linspace(0.0, 5.0, 50_001)
    discounted = float(np.trapezoid(np.exp(-np.log1p(interest) * years), years)) * 8766
    assert paid_as_it_passes(hour, interest) * discounted == pytest.approx(37_500.0, rel=1e-8)
    ends = sum((1.0 + interest) ** -year for year in range(1, 6))
    assert hour.usd * 8766 * ends == pytest.approx(37_500.0)
    powered = owned_hour(replace(PLAIN, interest_ratio=interest), chip, 100.0)
    assert paid_as_it_passes(powered, interest) - paid_as_it_passes(hour, interest) == pytest.approx(
        0.1 * 1.5 * 1.2 * 0.1
    )


def test_a_design_needs_no_network() -> None:
    """5,000 dollars of masks and engineering a package are paid back with interest, and buy no server or switch."""
    terms = replace(PLAIN, interest_ratio=0.08)
    without, with_design = owned_hour(terms, CHIP, 500.0), owned_hour(terms, replace(CHIP, design_usd=5_000.0), 500.0)
    assert with_design.chip_usd - without.chip_usd == pytest.approx(5_000 / 43_830)
    for part in ("server_usd", "network_usd", "building_usd", "power_usd"):
        assert getattr(with_design, part) == getattr(without, part)
    assert (with_design.usd - without.usd) * 8766 == pytest.approx(5_000 * annuity(0.08, 5.0))
    with pytest.raises(BadInput, match="design_usd"):
        owned_hour(PLAIN, replace(CHIP, design_usd=-1.0), 500.0)


def test_hours_that_earn_pay_for_those_that_do_not() -> None:
    """At half the hours every share of capital doubles, and each earned hour pays for one of idling."""
    half, full = (owned_hour(replace(PLAIN, utilisation_ratio=u), CHIP, 500.0) for u in (0.5, 1.0))
    for name in ("chip_usd", "server_usd", "network_usd", "building_usd"):
        assert getattr(half, name) == pytest.approx(2.0 * getattr(full, name))
    assert half.power_usd == pytest.approx(full.power_usd * 600.0 / 500.0)


def test_a_price_that_holds_the_server_buys_it_once() -> None:
    whole = owned_hour(PLAIN, replace(CHIP, price_holds_server=True), 500.0)
    assert whole.server_usd == 0.0
    assert whole.network_usd == pytest.approx(20_000 * 0.25 / 43_830)
    chip = owned_chip(FACTS, "gb200")
    assert chip is not None
    assert chip.price_holds_server


def test_owned_prices_have_this_home() -> None:
    for name in ("h100-sxm", "mi300x", "wse-3"):
        chip = owned_chip(FACTS, name)
        assert chip is not None
        price = hourly_price(FACTS, name, "owned")
        assert price.usd_per_hour == pytest.approx(float(owned_hour(TERMS, chip, chip.limit_w).usd))
        assert price.basis.endswith("over 5 years at 0.08 interest, power at the limit")
    dearer = hourly_price(FACTS.edited(["facility.usd_per_kwh=0.2"]), "mi300x", "owned").usd_per_hour
    assert dearer is not None
    assert dearer > (hourly_price(FACTS, "mi300x", "owned").usd_per_hour or math.inf)


def test_many_draws_at_once_are_what_one_by_one_would_be() -> None:
    draws = Draws(facts=FACTS, count=200)
    chip = owned_chip(FACTS, "mi300x", draws)
    assert chip is not None
    terms = terms_of(draws)
    together = np.asarray(owned_hour(terms, chip, chip.limit_w).usd)
    assert together.shape == (200,)
    for at in (0, 77, 199):
        one = Terms(**{each.name: float(np.asarray(getattr(terms, each.name))[at]) for each in fields(Terms)})
        numbers = ("purchase_usd", "limit_w", "idle_w", "server_power_ratio")
        known: dict[str, Any] = {name: float(np.asarray(getattr(chip, name))[at]) for name in numbers}
        alone = replace(chip, **known)
        assert float(owned_hour(one, alone, alone.limit_w).usd) == pytest.approx(together[at])
    assert np.quantile(together, 0.1) < (hourly_price(FACTS, "mi300x", "owned").usd_per_hour or 0.0)


RISES = (
    "interest_ratio", "server_capital_ratio", "network_share_ratio", "building_usd_per_w", "pue_ratio", "usd_per_kwh",
)  # fmt: skip
FALLS = ("lifetime_years", "building_years", "utilisation_ratio")
OF_THE_CHIP = ("purchase_usd", "limit_w", "idle_w", "server_power_ratio")
ENDS = {
    "interest_ratio": (0.0, 0.3), "lifetime_years": (2.0, 10.0), "utilisation_ratio": (0.1, 1.0),
    "server_capital_ratio": (1.0, 3.0), "network_share_ratio": (0.0, 0.5), "building_usd_per_w": (0.0, 30.0),
    "building_years": (5.0, 30.0), "pue_ratio": (1.0, 2.0), "usd_per_kwh": (0.0, 1.0), "purchase_usd": (0.0, 1e6),
    "limit_w": (1.0, 1e4), "idle_w": (0.0, 1e3), "server_power_ratio": (1.0, 3.0),
}  # fmt: skip


@pytest.mark.parametrize("changed", RISES + FALLS + OF_THE_CHIP)
def test_every_input_moves_the_hour_the_right_way(changed: str) -> None:
    """Over 2,000 draws: dearer electricity, interest, purchase or building never make an hour cheaper; longer lives
    never dearer."""
    numbers = np.random.default_rng(1)
    low: dict[str, Any] = {name: numbers.uniform(*span, 2000) for name, span in ENDS.items()}
    high = {**low, changed: low[changed] + numbers.random(2000) * (ENDS[changed][1] - low[changed])}

    def hour(values: dict[str, Any]) -> HourCost:
        of_the_chip: dict[str, Any] = {name: values[name] for name in OF_THE_CHIP}
        return owned_hour(
            Terms(**{each.name: values[each.name] for each in fields(Terms)}), OwnedChip(**of_the_chip), 300.0
        )

    before, after = np.asarray(hour(low).usd), np.asarray(hour(high).usd)
    tiny = 1e-9 * np.maximum(before, 1.0)
    assert np.all(after <= before + tiny if changed in FALLS else after >= before - tiny)
    assert not np.allclose(before, after)
    assert all(np.all(np.asarray(part) >= -1e-12) for part in hour(high).parts().values())


@pytest.mark.parametrize(
    ("field", "value"),
    [("interest_ratio", -0.01), ("utilisation_ratio", 0.0), ("utilisation_ratio", 1.2), ("lifetime_years", 0.0),
     ("network_share_ratio", 1.0), ("usd_per_kwh", -1.0), ("pue_ratio", 0.9), ("interest_ratio", math.nan)],
)  # fmt: skip
def test_terms_that_cannot_be(field: str, value: float) -> None:
    with pytest.raises(BadInput, match=field):
        terms_of(FACTS, **{field: value})


def test_chips_that_cannot_be() -> None:
    with pytest.raises(BadInput, match="purchase_usd"):
        owned_hour(PLAIN, replace(CHIP, purchase_usd=-1.0), 100.0)
    with pytest.raises(BadInput, match="watts"):
        owned_hour(PLAIN, CHIP, np.array([1.0, math.nan]))


def test_an_owned_hour_pays_for_the_power_that_is_predicted() -> None:
    price, chip = hourly_price(FACTS, "mi300x", "owned"), owned_chip(FACTS, "mi300x")
    assert chip is not None
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "mi300x", "price": "owned"}
    answer = fs.predict(**asked)
    assert answer.watts_per_chip is not None
    assert answer.watts_per_chip < chip.limit_w
    assert answer.usd_per_chip_hour == pytest.approx(float(owned_hour(TERMS, chip, answer.watts_per_chip).usd))
    assert answer.price_basis == price.basis.replace("at the limit", "as predicted")
    assert answer.output_tokens_per_s is not None
    hours = (answer.deployment.chips or 0) / answer.output_tokens_per_s / 3600.0
    assert answer.usd_per_million_output_tokens == pytest.approx(answer.usd_per_chip_hour * hours * 1e6)
    explained = fs.explain(**asked).as_dict()
    assert explained["usd_per_chip_hour"] == pytest.approx(
        float(owned_hour(TERMS, chip, explained["watts_per_chip"]).usd)
    )
    assert fs.predict(model="llama-3.1-8b", chip="h100-sxm").usd_per_chip_hour == 3.2  # a rented hour pays for itself


@pytest.mark.parametrize("cached_ratio", [0.0, 0.5])
@pytest.mark.parametrize(
    "more", [{}, {"prefill_chips": 1, "prefill_instances": 1, "chips": 1}, {"dp": 2, "tp": 1, "model": "mixtral-8x7b"}]
)
def test_tokens_of_each_kind_pay_for_everything_together(cached_ratio: float, more: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h200-sxm", "isl": 2000, "osl": 200, "batch": 32, **more}
    answer = fs.predict(**asked, cached_ratio=cached_ratio)
    kinds = (answer.cached_usd_per_million_tokens, answer.input_usd_per_million_tokens)
    cached, computed = (0.0 if each is None else each for each in kinds)
    assert (answer.cached_usd_per_million_tokens is None) == (cached_ratio == 0.0)
    output = answer.output_usd_per_million_tokens or 0.0
    total = 2000 * cached_ratio * cached + 2000 * (1.0 - cached_ratio) * computed + 200 * output
    assert total == pytest.approx(200 * (answer.usd_per_million_output_tokens or 0.0))
    assert cached < 0.3 * computed < output


def test_plan_splits_its_dollars_as_predict_does() -> None:
    for disaggregated in (False, True):
        found = fs.search(model="qwen3-8b", chips=["h100-sxm"], max_chips=4, batches=[16], isl=2048, osl=512,
                          cached_ratio=0.6, disaggregated=disaggregated)  # fmt: skip
        for point in found.front[::3]:
            layout: dict[str, Any] = {
                name: getattr(point, name) for name in ("chip", "tp", "pp", "dp", "batch", "weights_in", "kv_in")
            }
            if point.prefill_instances:
                names = [name for name in Deployment.__dataclass_fields__ if name.startswith("prefill_")]
                layout |= {name: getattr(point, name) for name in names}
            same = fs.predict(model="qwen3-8b", isl=2048, osl=512, cached_ratio=0.6, **layout)
            for kind in KINDS:
                name = f"{kind}_usd_per_million_tokens"
                assert getattr(point, name) == pytest.approx(getattr(same, name), rel=1e-6), (kind, point)


def test_found_tokens_make_requests_faster_and_cheaper() -> None:
    asked: dict[str, Any] = {
        "model": "llama-3.1-70b",
        "chip": "h100-sxm",
        "chips": 4,
        "isl": 4096,
        "osl": 256,
        "batch": 32,
    }
    rows = [fs.predict(**asked, cached_ratio=share) for share in (0.0, 0.3, 0.6, 0.9, 1.0)]
    for before, after in pairwise(rows):
        assert (after.ttft_s or 0.0) < (before.ttft_s or 0.0)
        assert (after.usd_per_million_output_tokens or 0.0) < (before.usd_per_million_output_tokens or 0.0)
    with pytest.raises(BadInput, match="cached_ratio must lie between 0 and 1"):
        fs.predict(**asked, cached_ratio=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("cached_ratio", [0.0, 0.5, 0.9])
def test_the_closed_form_splits_dollars_as_a_simulation_does(cached_ratio: float) -> None:
    asked: dict[str, Any] = {
        "model": "llama-3.1-8b",
        "chip": "h100-sxm",
        "isl": 2048,
        "osl": 256,
        "cached_ratio": cached_ratio,
    }
    closed = fs.predict(**asked, batch=64, burst_share=0.0)
    found = fs.simulate(**asked, concurrency=64, requests=12 * 64, least_ratio=1.0)
    assert found.usd_per_million is not None
    assert closed.output_tokens_per_s == pytest.approx(found.output_tokens_per_s, rel=0.1)
    assert closed.output_usd_per_million_tokens == pytest.approx(found.usd_per_million["output"], rel=0.2)
    assert closed.input_usd_per_million_tokens == pytest.approx(found.usd_per_million["input"], rel=0.35)
