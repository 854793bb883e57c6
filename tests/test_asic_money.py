"""The money of a chip of one's own: by hand, against a quadrature, and that everything moves the right way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.asic.money import Programme
from flashstill.asic.nre import rewiring_usd
from flashstill.asic.terms import OURS, RATE, THEIRS
from flashstill.asic.unit import owned_package
from flashstill.asic.verdict import drivers_of, two_for_two, verdict
from flashstill.economics.bill_of_materials import bill_of_materials
from flashstill.economics.draws import Draws, Values
from flashstill.economics.tco import annuity
from flashstill.facts import load
from flashstill.units import DAYS_PER_YEAR
from tests.asic_stand_in import alternative, decision, stand_in
from tests.marks import examples

FACTS = load()
VARIANTS = ("sram", "hbm", "hardwired")
PLAIN = Programme(
    once_usd=1e8, alternative_usd=4e-4, price_fall=0.0, token_fall=0.0, served_ratio=1.0, bought_usd=5e-4,
    replaced_usd=0.0, running_usd=1e-4, rewiring_usd=0.0, start_years=2.0, service_years=5.0, interest=0.0,
)  # fmt: skip


def test_a_worked_decision_without_interest() -> None:
    """A token a day saves 4e-4 - 1e-4 dollars a year for 5 years, less 5e-4 of chips: 1e-3; 1e8 / 1e-3 = 1e11."""
    assert PLAIN.break_even() == pytest.approx(1e11)
    assert PLAIN.net_usd(3e11) == pytest.approx(2e8)
    asic, other = PLAIN.usd_per_million(1e11)
    assert asic == pytest.approx(other)  # at the break-even both cost the same
    assert other == pytest.approx(4e-4 / DAYS_PER_YEAR * 1e6)
    assert PLAIN.usd_per_million(2e11)[0] == pytest.approx((1e8 / 2e11 + 5e-4 + 5e-4) / (5 * DAYS_PER_YEAR) * 1e6)
    # 2e11 tokens a day save 6e7 a year, and cost 1e8 + 1e8
    assert PLAIN.payback_years(2e11) == pytest.approx(2.0 + 2e8 / 6e7)
    assert PLAIN.payback_years(9e10) == math.inf


def test_a_hard_wired_programme_by_hand() -> None:
    """Chips again with every model: 2e-4 a year; masks 1e6 a year; nine tenths of the time served."""
    wired = replace(PLAIN, bought_usd=0.0, replaced_usd=1.5e-4, rewiring_usd=1e6, served_ratio=0.9)
    saved = 0.9 * 3e-4 - 1.5e-4  # a year, of a token a day
    assert wired.break_even() == pytest.approx((1e8 + 5e6) / (5 * saved))


def by_quadrature(terms: Programme, volume: float) -> float:
    years = np.linspace(terms.start_years, terms.start_years + terms.service_years, 20_001)
    gained = terms.served_ratio * terms.alternative_usd * np.exp(-(terms.price_fall + terms.token_fall) * years)
    rate = volume * (gained - terms.served_ratio * terms.running_usd - terms.replaced_usd) - terms.rewiring_usd
    # it stops for good when going on costs more, which it does at most once
    worth = np.trapezoid(np.maximum(rate, 0.0) * np.exp(-terms.interest * years), years)
    return float(worth - terms.once_usd - volume * terms.bought_usd)


def test_a_token_a_day_on_the_alternative_by_quadrature() -> None:
    """Its price falls and is discounted; the day's tokens stay as they are, however the chip's own model ages."""
    terms = replace(PLAIN, price_fall=0.3, token_fall=0.2, interest=0.1)
    years = np.linspace(2.0, 7.0, 20_001)
    worth = np.trapezoid(4e-4 * np.exp(-0.4 * years), years)
    assert terms.alternative_present_usd == pytest.approx(float(worth), rel=1e-6)


SPANS = {
    "once_usd": (1e6, 1e9), "alternative_usd": (1e-5, 1e-2), "price_fall": (0.0, 0.5), "token_fall": (0.0, 0.3),
    "served_ratio": (0.0, 1.0), "bought_usd": (0.0, 1e-2), "replaced_usd": (0.0, 1e-3), "running_usd": (1e-7, 1e-3),
    "rewiring_usd": (0.0, 1e8), "start_years": (0.5, 5.0), "service_years": (1.0, 8.0), "interest": (0.0, 0.3),
}  # fmt: skip
RAISES = (
    "once_usd", "price_fall", "token_fall", "bought_usd", "replaced_usd", "running_usd", "rewiring_usd", "start_years",
)  # fmt: skip
LOWERS = ("alternative_usd", "served_ratio", "service_years")
"""terms that raise or lower the break-even; `start_years` with what is spent once at its present value"""
share = st.floats(0.0, 1.0)
places = st.tuples(*[share] * len(SPANS))


def programme(at: Sequence[Values | float]) -> Programme:
    spans = zip(SPANS.items(), at, strict=True)
    return Programme(**{name: low + (high - low) * place for (name, (low, high)), place in spans})


def check_direction(before: Programme, changed: str, step: Values | float) -> None:
    value, high = getattr(before, changed), SPANS[changed][1]
    after = replace(before, **{changed: value + (high - value) * step})
    first, second = before.break_even(), after.break_even()
    larger, smaller = (second, first) if changed in RAISES else (first, second)
    with np.errstate(invalid="ignore"):
        assert ((larger >= smaller * (1.0 - 1e-6)) | ~np.isfinite(larger)).all(), changed


def check_volume(terms: Programme, volume: Values | float, more: Values | float) -> None:
    pays = np.asarray(terms.net_usd(volume)) > 0.0
    assert (np.asarray(terms.net_usd(volume * more))[pays] > 0.0).all()
    middle = terms.break_even()
    known = np.isfinite(middle) & (middle < 1e25)
    assert not (pays & (middle > volume * 1.000001)).any()
    around = np.where(known, middle, 1.0)
    assert (np.asarray(terms.net_usd(around * 1.001))[known] > 0.0).all()
    assert (np.asarray(terms.net_usd(around * 0.999))[known] < 0.0).all()
    asic, other = terms.usd_per_million(around * 1.001)
    assert (asic[known] < other[known]).all()


@examples(60)
@given(at=places, changed=st.sampled_from(RAISES + LOWERS), step=share)
def test_every_term_moves_the_break_even_the_right_way(at: tuple[float, ...], changed: str, step: float) -> None:
    check_direction(programme(at), changed, step)


@examples(30)
@given(at=places, volume=st.floats(1e8, 1e15), more=st.floats(1.0, 1e4))
def test_more_volume_never_makes_a_chip_stop_paying(at: tuple[float, ...], volume: float, more: float) -> None:
    terms = programme(at)
    check_volume(terms, volume, more)
    near = 1e-3 * float(terms.once_usd)
    assert terms.net_usd(volume) == pytest.approx(by_quadrature(terms, volume), rel=1e-3, abs=near)


@pytest.mark.slow
@pytest.mark.parametrize("changed", RAISES + LOWERS)
def test_all_of_it_over_2000_draws(changed: str) -> None:
    random = np.random.default_rng(len(changed))
    terms = programme(tuple(random.random((len(SPANS), 2000))))
    check_direction(terms, changed, random.random(2000))
    check_volume(terms, 10.0 ** random.uniform(8, 15, 2000), 10.0 ** random.uniform(0, 4, 2000))


UP = (
    "node-5.usd_design", "node-5.usd_mask_set", "node-5.usd_per_wafer", "node-5.defects_per_cm2",
    "asic.unit_price_ratio", "asic.usd_bring_up", "asic.usd_ip_host", "asic.usd_ip_links", "asic.respins",
    "asic.respin_mask_ratio", "asic.respin_design_ratio", "asic.respin_years", "asic.fab_years", "asic.bring_up_years",
    "board.usd_per_w", "board.usd_host", "package.usd_test", "alternative.price_decline_ratio",
    "rented.utilisation_ratio", "facility.usd_per_kwh", "facility.pue_ratio", "building.usd_per_w",
    "network.capital_share_ratio", f"{THEIRS}.{RATE}", "asic-KIND.design_ratio", "asic-KIND.software_ratio",
    "asic-KIND.design_years", "asic-hardwired.rewire_years", "asic-hardwired.usd_rewire", "hbm3e.usd_per_byte",
    "cowos.usd_per_mm2", "asic.usd_ip_memory",
)  # fmt: skip
DOWN = (
    "h100-sxm.usd_per_hour", "model.life_years", "server.lifetime_years", "server.utilisation_ratio",
    f"{OURS}.{RATE}", "asic-KIND.successor_ratio", "cowos.bond_yield_ratio", "organic.bond_yield_ratio",
)  # fmt: skip
"""fact rows that raise or lower the break-even against a rented chip"""


def check_rows(count: int, seed: int) -> None:
    """Each row moved within its range from `count` random states of all the others."""
    for variant in VARIANTS:
        asked = decision(FACTS, variant)
        rows = Draws(facts=asked.facts, count=count, seed=seed)
        before = asked.programme(rows).break_even()
        spread = np.random.default_rng(seed)
        for target in UP + DOWN:
            name, _, quantity = target.replace("KIND", variant).rpartition(".")
            if (name, quantity) not in rows.drawn:
                continue
            row = asked.facts.get(name, quantity)
            moved = Draws(facts=asked.facts, count=count, seed=seed, drawn=dict(rows.drawn))
            least = rows.drawn[name, quantity]
            moved.drawn[name, quantity] = least + (row.high - least) * spread.random(count)
            after = asked.programme(moved).break_even()
            with np.errstate(invalid="ignore"):
                rises = (after >= before * (1.0 - 1e-9)) | ~np.isfinite(after)
                falls = (after <= before * (1.0 + 1e-9)) | ~np.isfinite(before)
            assert (rises if target in UP else falls).all(), (variant, target)


def test_every_row_moves_the_break_even_the_right_way() -> None:
    check_rows(16, 0)


@pytest.mark.slow
def test_every_row_moves_it_the_right_way_over_2000_draws() -> None:
    check_rows(2000, 1)


def test_the_rule_of_asic_clouds_comes_out_of_a_sweep() -> None:
    """NRE below about half of the alternative's cost at twice the cost per token; 1 - 1/r in general (Khazraee 2017).

    Volumes and cost ratios are swept; the largest share of the alternative's cost that could be spent once is found.
    """
    for ratio in (1.25, 2.0, 4.0, 8.0):
        terms = replace(PLAIN, bought_usd=0.0, running_usd=PLAIN.alternative_usd / ratio)
        volumes = np.logspace(9, 14, 20_001)
        paid = np.asarray(terms.net_usd(volumes)) > 0.0
        bill = volumes * terms.alternative_present_usd  # what the alternative costs
        found = terms.once_usd / bill[paid][0]
        assert found == pytest.approx(1.0 - 1.0 / ratio, rel=2e-3)
        rule = two_for_two(terms, float(volumes[paid][0]))
        assert (rule.cost_ratio, rule.threshold) == pytest.approx((ratio, 1.0 - 1.0 / ratio))
        assert rule.as_dict()["pays"]
        assert not two_for_two(terms, float(volumes[~paid][-1])).as_dict()["pays"]
        if ratio == 2.0:
            assert found == pytest.approx(0.5, rel=2e-3)


def test_the_cost_of_a_design_by_hand() -> None:
    """5 nm, hard-wired: 449 M, of which 0.43 software; 0.25 of the hardware, 0.1 of the software; 11 M of licences."""
    parts = decision(FACTS, "hardwired").nre(FACTS).parts()
    hardware = 449e6 * 0.57 * 0.25
    assert parts["hardware"] == pytest.approx(hardware)
    assert parts["software"] == pytest.approx(449e6 * 0.43 * 0.1)
    assert parts["licences"] == 11e6
    assert parts["masks"] == 17e6
    assert parts["respins"] == pytest.approx(0.4 * 17e6 + 0.08 * hardware)
    assert parts["bring_up"] == 15e6
    assert rewiring_usd(stand_in("hardwired", chips=3), FACTS) == pytest.approx(2e6 + 3 * 0.02 * 17e6)
    assert rewiring_usd(stand_in("sram"), FACTS) == 0.0
    assert decision(FACTS, "hbm").nre(FACTS).parts()["licences"] == 23e6


def test_a_hard_wired_chip_dies_with_its_model() -> None:
    wired, hbm = decision(FACTS, "hardwired").schedule(FACTS), decision(FACTS, "hbm").schedule(FACTS)
    assert wired.chip_years == wired.model_years == 1.5
    assert hbm.chip_years == hbm.service_years == 5.0
    assert wired.served_ratio == pytest.approx(1.0 - 0.2 / 1.5)
    assert hbm.served_ratio == 1.0
    assert hbm.lead_years == pytest.approx(1.35 + 0.33 + 0.33 + 1.0 * 0.5)
    short = FACTS.edited(["model.life_years=0.15"])  # gone before its chips are there
    found = verdict(decision(short, "hardwired"), 1e15, 64)
    assert not found.pays
    assert found.break_even == {"p10": None, "p50": None, "p90": None}
    assert found.asic_usd["p50"] is None
    assert found.alternative_usd["p50"] is not None
    asked = decision(short, "hardwired")
    rule = two_for_two(asked.programme(asked.facts), 1e15).as_dict()
    assert rule == {"alternative_over_asic_cost": None, "once_over_alternative_cost": None, "threshold": None,
                    "pays": False}  # fmt: skip


def test_the_terms_of_a_decision_by_hand() -> None:
    """A chip of 500 W with HBM at 6,000 tokens/s against an H100 at 3,000, rented at $3.20 and busy for 0.9 of it."""
    asked = decision(FACTS, "hbm")
    terms, interest = asked.programme(asked.facts), math.log(1.08)
    hours = 365.25 / (3600 * 6000.0)
    package = float(bill_of_materials(FACTS, asked.design.package).usd) * 1.15 + 0.82 * 500.0 + 1500.0
    with_network = package / (1.0 - 0.19)
    assert terms.start_years == pytest.approx(2.51)
    assert terms.bought_usd == pytest.approx(hours * with_network / (8766 * 0.7) * 1.08**-2.51)
    assert terms.alternative_usd == pytest.approx(365.25 / (3600 * 3000.0) * 3.2 / 0.9)
    assert (terms.replaced_usd, terms.rewiring_usd, terms.served_ratio) == (0.0, 0.0, 1.0)
    assert terms.token_fall == pytest.approx(-math.log(0.97) / 1.5)
    parts = asked.nre(asked.facts).parts()
    design = parts["hardware"] + parts["software"] + parts["licences"]
    early, late = ((1.0 - math.exp(-interest * years)) / (interest * years) for years in (1.35, 1.16))
    later = (parts["respins"] + parts["bring_up"]) * late
    assert terms.once_usd == pytest.approx(design * early + 1.08**-1.35 * (parts["masks"] + later))
    # building: 500 W x the server's 1.6 x $10 a watt over 12 years, paid through each year and not at its end;
    # power: 400 W, and 80 W while it waits
    ratio = FACTS.value("npu", "server_power_ratio")
    building = 500.0 * ratio * 10.0 * annuity(0.08, 12.0) * interest / 0.08 / (8766 * 0.7)
    power = (400.0 + 80.0 * 0.3 / 0.7) * ratio * 1.1 * 0.0826 / 1000.0
    assert terms.running_usd == pytest.approx(hours * (building + power))
    wired = decision(FACTS, "hardwired")
    again = wired.programme(wired.facts)
    assert again.bought_usd == 0.0
    assert again.rewiring_usd == pytest.approx((2e6 + 0.02 * 17e6) * interest / (1.0 - 1.08**-1.5))
    twice = FACTS.edited(["asic.respins=2"])
    assert decision(twice, "hbm").nre(twice).parts()["respins"] == pytest.approx(2.0 * parts["respins"])


def test_a_fleet_stops_when_others_are_cheaper() -> None:
    """At 40 % a year less, and 10 % less of each year's tokens, what is saved is used up before the end."""
    falling = replace(PLAIN, price_fall=0.4, token_fall=0.1, interest=0.05, start_years=1.0)
    assert falling.stop_years(1e12) == pytest.approx(math.log(4.0) / 0.5)
    assert falling.net_usd(1e12) == pytest.approx(by_quadrature(falling, 1e12), rel=1e-3)
    wired = replace(falling, rewiring_usd=5e7, served_ratio=0.9, replaced_usd=2e-5)
    assert wired.stop_years(1e12) == pytest.approx(math.log(0.9 * 4e-4 / (0.9e-4 + 2e-5 + 5e7 / 1e12)) / 0.5)
    assert wired.net_usd(1e12) == pytest.approx(by_quadrature(wired, 1e12), rel=1e-3)


def test_a_bought_alternative_keeps_the_price_of_its_day() -> None:
    terms = {basis: decision(FACTS, "hbm", versus=alternative(FACTS, basis=basis)) for basis in ("rented", "owned")}
    rented, owned = (terms[basis].programme(terms[basis].facts) for basis in ("rented", "owned"))
    assert owned.price_fall == 0.0
    assert rented.price_fall == pytest.approx(-math.log(1.0 - 0.17))
    bought = replace(FACTS.edited(["alternative.price_decline_ratio=0"]))
    flat = decision(bought, "hbm", versus=alternative(bought, basis="owned"))
    assert owned.alternative_usd == pytest.approx(
        flat.programme(flat.facts).alternative_usd * (1.0 - 0.17) ** owned.start_years
    )


def test_a_chip_that_is_its_own_alternative_is_worth_nothing() -> None:
    """The same package at the same price, life and power on both sides, bought on the same day: it saves nothing.

    One side buys it at its service, the other pays instalments.  With those of the years' ends counted as if they came
    through the year, the alternative would cost i / ln(1 + i) - 1 = 3.9 % more than itself, and a chip without any
    advantage would pay from some volume on.
    """
    ratio = FACTS.value("npu", "server_power_ratio")
    facts = FACTS.edited(
        [f"gpu.server_power_ratio={ratio}", "asic-hbm.successor_ratio=1", "alternative.price_decline_ratio=0"]
    )
    design = stand_in("hbm")
    own = owned_package(facts, design, facts)
    numbers = {"power_limit_w": own.limit_w, "idle_w": own.idle_w, "usd_purchase": own.purchase_usd}
    rows = []
    for quantity, number in numbers.items():
        row, value = facts.get("h200-sxm", quantity), float(number)
        condition = "system" if quantity == "usd_purchase" else row.condition
        rows.append(replace(row, value=value, low=value, high=value, condition=condition))
    facts = facts.with_rows(rows)
    versus = alternative(facts, chip="h200-sxm", basis="owned", tokens_per_s=6000.0)
    versus = replace(versus, configuration=replace(versus.configuration, watts_per_chip=400.0))
    asked = decision(facts, "hbm", versus=versus)
    terms = asked.programme(asked.facts)
    nothing = replace(terms, once_usd=0.0)
    chips = 1e15 * float(terms.bought_usd)
    assert float(nothing.net_usd(1e15)) == pytest.approx(0.0, abs=1e-9 * chips)
    assert float(terms.net_usd(1e15)) == pytest.approx(-float(terms.once_usd), rel=1e-3)


def test_between_two_models_others_are_rented() -> None:
    """A wired chip of 0.2 of 1.5 years without chips, against bought H100: for 13 % of the time an H200 is rented.

    Its rent is the mean of five years from 2.26 on of $3.99 / 0.9, which falls by 17 % a year, at 8 % interest, by
    quadrature; what the bought chips would have cost in that time is saved.  Without a rent they stand all the time,
    so that the wired chip saves nothing.  Against a rent nothing changes.
    """
    owned, rented = alternative(FACTS, basis="owned"), alternative(FACTS, chip="h200-sxm", tokens_per_s=4000.0)
    asked = decision(FACTS, "hardwired", versus=owned)
    asked = replace(asked, facts=asked.facts.with_rows([rented.row]))
    with_rent, alone = replace(asked, waiting=rented).programme(asked.facts), asked.programme(asked.facts)
    years = np.linspace(2.26, 7.26, 20_001)
    worth = 1.08**-years
    rent = float(np.trapezoid(worth * 0.83**years, years) / np.trapezoid(worth, years)) * rented.row.value / 0.9
    rent_usd = 365.25 / (3600 * 4000.0) * rent
    waits = 0.2 / 1.5
    bought = float(with_rent.alternative_usd)
    assert rent_usd > bought
    chips = float(with_rent.replaced_usd) - waits * (rent_usd - bought)
    assert float(alone.replaced_usd) == pytest.approx(chips + (1.0 - waits) * bought, rel=1e-6)
    assert alone.break_even() == math.inf
    own = owned_package(asked.facts, asked.design, asked.facts)
    package = own.purchase_usd / (1.0 - 0.19) * 365.25 / (3600 * 6000.0) / (8766 * 0.7)
    assert chips == pytest.approx(package * math.log(1.08) / (1.0 - 1.08**-1.5), rel=1e-6)
    against_a_rent = decision(FACTS, "hardwired")
    same = replace(against_a_rent, waiting=rented)
    assert float(same.programme(same.facts).replaced_usd) == float(
        against_a_rent.programme(against_a_rent.facts).replaced_usd
    )


def test_a_verdict_has_a_volume_below_and_one_above() -> None:
    for variant in ("hbm", "hardwired"):
        asked = decision(FACTS, variant, tokens_per_s=20_000.0)
        middle = verdict(asked, 1e12, 128).break_even["p50"]
        assert middle is not None
        low, high = verdict(asked, middle * 0.99, 128), verdict(asked, middle * 1.01, 128)
        assert (low.pays, high.pays) == (False, True)
        assert low.probability <= high.probability
        assert 0.4 < high.probability < 0.6
        assert low.break_even == high.break_even
        p10, p90 = high.break_even["p10"], high.break_even["p90"]
        assert p10 is not None
        assert p90 is None or p10 < middle < p90


def test_drivers_name_their_rows_and_sources() -> None:
    found = drivers_of(decision(FACTS, "hbm", tokens_per_s=20_000.0), 1e13)
    totals = [driver["total"] for driver in found]
    assert totals == sorted(totals, reverse=True)
    by_name = {(driver["name"], driver["quantity"]): driver for driver in found}
    rent = by_name["h100-sxm", "usd_per_hour"]
    assert rent["at_low"] < rent["at_high"]  # a dearer alternative makes the chip worth more
    assert rent["break_even_at_low"] > rent["break_even_at_high"]
    assert all(len(driver["source"]) >= 10 for driver in found)
    assert sum(driver["first"] for driver in found) < 1.2


def test_terms_are_all_of_a_programme() -> None:
    assert {field.name for field in fields(Programme)} == set(SPANS)
