"""Dies, yields and bills of material against worked cases and published figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.economics.bill_of_materials import INTERPOSER, Die, Package, bill_of_materials
from flashstill.economics.draws import Draws
from flashstill.economics.wafers import (
    Wafer,
    dies_per_wafer,
    wafer_of,
    yield_with_spares,
)
from flashstill.errors import BadInput
from flashstill.facts import load
from tests.marks import examples

PLAIN = Wafer(diameter_mm=300.0, edge_mm=3.0, scribe_mm=0.0)
H100 = Package(
    dies=(Die(node_nm=4, width_mm=26.0, height_mm=31.3, units=144, needed=132, units_ratio=0.6),),
    memory="hbm3", memory_bytes=80e9, stacks=5,
)  # fmt: skip
B200 = Package(
    dies=(Die(node_nm=4, width_mm=26.0, height_mm=30.8, count=2, units=80, needed=74, units_ratio=0.6),),
    memory="hbm3e", memory_bytes=192e9, stacks=8,
)  # fmt: skip


def test_dies_are_counted_by_placement() -> None:
    """26 x 31.3 mm: 67, where the usual formulas give 60 to 71; 10 x 10 mm: 626, one more than coarser searches."""
    assert dies_per_wafer(26.0, 31.3, PLAIN) == dies_per_wafer(31.3, 26.0, PLAIN) == 67
    assert dies_per_wafer(10.0, 10.0, PLAIN) == 626
    assert dies_per_wafer(400.0, 1.0, PLAIN) == 0
    assert [dies_per_wafer(side, side, PLAIN) for side in (4.0, 140.0, 207.0)] == [4106, 1, 1]


@examples(30)
@given(width=st.floats(5.0, 60.0), height=st.floats(5.0, 60.0), x=st.floats(0.0, 1.0), y=st.floats(0.0, 1.0))
def test_no_placement_holds_more_dies(width: float, height: float, x: float, y: float) -> None:
    reach = np.arange(-60, 61)
    left, low = (x + reach) * width, (y + reach) * height
    far_x, far_y = (np.maximum(np.abs(at), np.abs(at + side)) for at, side in ((left, width), (low, height)))
    inside = int((far_x[:, None] ** 2 + far_y[None, :] ** 2 <= 147.0**2).sum())
    # offsets along the height are tried in steps, between which a row may come in
    assert inside <= dies_per_wafer(width, height, PLAIN) + 1


def negative_binomial(mean_defects: float, clustering: float) -> float:
    return float((1.0 + mean_defects / clustering) ** -clustering)


def test_yields_of_the_worked_cases() -> None:
    """A die of which every unit must work; clustering of 1,000 is close to Poisson's exp(-0.814) = 0.443."""
    for clustering, worked in ((3.0, 0.487), (10.0, 0.457), (1000.0, 0.443)):
        assert yield_with_spares(0.814, clustering, 12, 12, 0.5) == pytest.approx(worked, abs=1e-3)


@examples(60)
@given(defects=st.floats(0.01, 3.0), clustering=st.floats(0.5, 500.0), share=st.floats(0.0, 1.0))
def test_spares(defects: float, clustering: float, share: float) -> None:
    """No spares: the negative binomial. More spares never lose dies; all spares leave what is not a unit."""
    ratios = [yield_with_spares(defects, clustering, 12, needed, share) for needed in (12, 11, 9, 0)]
    assert ratios[0] == pytest.approx(negative_binomial(defects, clustering), rel=2e-3)
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(negative_binomial(defects * (1.0 - share), clustering), rel=2e-3)


def test_many_yields_at_once() -> None:
    defects = np.linspace(0.0, 2.0, 1000)
    many = np.asarray(yield_with_spares(defects, 3.0, 144, 132, 0.6))
    assert many[700] == pytest.approx(yield_with_spares(float(defects[700]), 3.0, 144, 132, 0.6), rel=1e-4)


@pytest.mark.parametrize(("package", "low", "high"), [(H100, 3_000.0, 3_600.0), (B200, 5_700.0, 7_300.0)])
def test_bills_of_material(package: Package, low: float, high: float) -> None:
    """H100: 3,320 dollars (Silicon Analysts, Raymond James); B200: 5,700 to 7,300, 6,400 (Epoch AI)."""
    facts = load()
    assert low < bill_of_materials(facts, package).usd < high
    drawn = bill_of_materials(facts, package, Draws(facts=facts, count=20_000)).usd
    tenth, ninetieth = np.percentile(drawn, [10, 90])
    published = {5: 3_320.0, 8: 6_400.0}[package.stacks]
    assert tenth < published < ninetieth


def test_a_bill_by_hand() -> None:
    """Bonds hold in half of the cases: a die and a stack are placed well in a quarter, three are lost a package."""
    facts = load().edited([f"{INTERPOSER}.bond_yield_ratio=0.5"])
    package = Package(dies=(Die(node_nm=5, width_mm=10.0, height_mm=10.0),), memory="hbm3", memory_bytes=16e9, stacks=1)
    bill = bill_of_materials(facts, package)
    wafer, value = facts.value("node-5", "usd_per_wafer"), facts.value
    mm2 = 100.0 + value("hbm", "stack_mm2")
    assert bill.dies_usd == pytest.approx(
        wafer
        / dies_per_wafer(10.0, 10.0, wafer_of(facts))
        / negative_binomial(value("node-5", "defects_per_cm2"), value("defect", "clustering_ratio"))
    )
    assert bill.memory_usd == pytest.approx(16e9 * value("hbm3", "usd_per_byte"))
    assert bill.package_usd == pytest.approx(mm2 * value(INTERPOSER, "usd_per_mm2"))
    assert bill.lost_usd == pytest.approx(3.0 * (bill.dies_usd + bill.memory_usd + bill.package_usd))
    assert bill.usd == pytest.approx(4.0 * (bill.usd - bill.test_usd - bill.lost_usd) + value("package", "usd_test"))


def test_what_cannot_be_made() -> None:
    facts = load()
    with pytest.raises(BadInput, match="divide it into chiplets"):
        bill_of_materials(facts, Package(dies=(Die(node_nm=5, width_mm=40.0, height_mm=30.0),)))
    with pytest.raises(BadInput, match="fits a wafer of 25 mm"):
        bill_of_materials(
            facts.edited(["wafer.diameter_mm=25"]), Package(dies=(Die(node_nm=5, width_mm=20, height_mm=20),))
        )
    with pytest.raises(BadInput, match="or none of them"):
        bill_of_materials(facts, Package(dies=(Die(node_nm=5, width_mm=10.0, height_mm=10.0),), memory="hbm3"))
    with pytest.raises(BadInput, match="cannot need 5 of 4"):
        yield_with_spares(0.1, 3.0, 4, 5, 0.5)
    with pytest.raises(BadInput, match="above 0 mm"):
        dies_per_wafer(0.0, math.inf, PLAIN)
