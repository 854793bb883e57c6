"""Trends of dated rows and the roadmap of a year: nothing of later years leaks into an earlier one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashstill.codesign.dated import known_by, latest_quote, quotes
from flashstill.codesign.regression import Point, fitted
from flashstill.codesign.roadmap import NEXT, facts_of, roadmap
from flashstill.codesign.trends import chip_trend, generations
from flashstill.errors import BadInput, MissingFact
from flashstill.facts import Fact, Facts, Machine, load
from flashstill.facts.csv_files import to_csv

FACTS = load()
QUANTITIES = ("flops_per_s", "memory_bytes", "memory_bytes_per_s", "power_limit_w", "die_mm2", "link_bytes_per_s")


def with_later_chip(facts: Facts, year: int) -> Facts:
    """A chip of `year`, a hundred times as good as any."""
    rows = [
        replace(row, name="later", value=row.value * 100.0, low=row.value, high=row.value * 100.0)
        for quantity in QUANTITIES
        for row in facts.rows["h100-sxm", quantity]
    ]
    machine = Machine(name="later", title="Later", maker="Nobody", chip_class="gpu", year=year)
    return facts.with_machine(machine, rows)


def quote(name: str, quantity: str, condition: str, value: float) -> Fact:
    model = FACTS.rows["node-5", "usd_per_wafer_quoted"][0]
    return replace(model, name=name, quantity=quantity, condition=condition, value=value, low=value, high=value)


def test_a_line_through_doublings_is_exact() -> None:
    """2, 4, 8 at one a year: the next is 16, without spread, and the doubling time is one year."""
    trend = fitted("x", "1", [Point(name="a", year=2020 + step, value=2.0 ** (1 + step)) for step in range(3)], 0.8)
    assert trend.at(2023).value == pytest.approx(16.0)
    assert trend.at(2023).high == pytest.approx(16.0)
    assert trend.doubling_years == pytest.approx((1.0, 1.0, 1.0))


def test_the_band_is_the_prediction_interval_of_the_textbook() -> None:
    """Against the formula written out with a quantile of Student's t from tables: t(0.90; 2) = 1.8856."""
    points = [Point(name="a", year=year, value=value) for year, value in ((1, 2.0), (2, 5.0), (3, 7.0), (5, 40.0))]
    logs, years = np.log2([2.0, 5.0, 7.0, 40.0]), np.array([1.0, 2.0, 3.0, 5.0])
    slope, level = np.polyfit(years, logs, 1)
    rest = logs - slope * years - level
    squares = ((years - years.mean()) ** 2).sum()
    half = 1.8856 * math.sqrt((rest**2).sum() / 2.0 * (1.0 + 0.25 + (7.0 - years.mean()) ** 2 / squares))
    spread = fitted("x", "1", points, 0.8).at(7.0)
    assert math.log2(spread.value) == pytest.approx(slope * 7.0 + level)
    assert math.log2(spread.high) == pytest.approx(slope * 7.0 + level + half, rel=1e-4)
    assert math.log2(spread.low) == pytest.approx(slope * 7.0 + level - half, rel=1e-4)


def test_a_trend_of_two_points_or_one_year_is_refused() -> None:
    alike = [Point(name="a", year=2020, value=value) for value in (1.0, 2.0, 3.0)]
    for points in (alike, alike[:2]):
        with pytest.raises(MissingFact, match="needs 3 values of different years"):
            fitted("x", "1", points, 0.8)


@pytest.mark.parametrize("as_of", [2022, 2026])
def test_a_later_chip_changes_no_earlier_answer(as_of: int) -> None:
    later = with_later_chip(FACTS, as_of + 1)
    assert roadmap(later, 2027, as_of) == roadmap(FACTS, 2027, as_of)
    assert facts_of(later, 2027, as_of).rows == facts_of(FACTS, 2027, as_of).rows
    assert roadmap(with_later_chip(FACTS, as_of), 2027, as_of) != roadmap(FACTS, 2027, as_of)


def test_a_later_quote_memory_or_price_changes_no_earlier_answer() -> None:
    before = facts_of(FACTS, 2025, 2022)
    later = FACTS.with_rows(
        [
            *FACTS.rows["node-5", "usd_per_wafer_quoted"],
            quote("node-5", "usd_per_wafer_quoted", "2023", 99_000.0),
            replace(FACTS.get("hbm3e", "stack_bytes_per_s"), value=9e12, high=9e12),
            replace(FACTS.get("hbm3", "usd_per_byte"), value=9e-8, high=9e-8),
            replace(FACTS.get("node-3", "usd_per_wafer"), value=30_000.0, high=30_000.0),
        ]
    )
    assert facts_of(later, 2025, 2022).rows == before.rows
    assert before.value("node-5", "usd_per_wafer") == 16_000.0
    assert facts_of(later, 2025, 2023).value("node-5", "usd_per_wafer") == 99_000.0


def test_what_a_user_says_of_cooling_and_interposers_is_not_replaced_by_a_trend() -> None:
    own = FACTS.edited(["cooling.package_w=700", "cowos.carrier_mm2=1500"])
    plan, rows = roadmap(own, 2030), facts_of(own, 2030)
    assert (plan.package_w.value, plan.package_mm2.value) == (700.0, 1500.0)
    assert rows.value("cooling", "package_w") == 700.0
    assert rows.value("cowos", "carrier_mm2") == 1500.0
    assert roadmap(own, 2025, 2022) == roadmap(FACTS, 2025, 2022)  # said in a later year


def test_what_was_known_in_2022() -> None:
    known = known_by(FACTS, 2022)
    assert {"h100-sxm", "tpu-v4"} <= set(known.machines)
    assert not {"b200", "tpu-v7", "mi300x"} & set(known.machines)
    assert [name for name, _ in generations(known, 2022)] == ["hbm1", "hbm2", "hbm2e", "hbm3"]
    assert not any(name in ("hbm3e", "hbm4", "hbf", "b200") for name, _ in known.rows)
    plan = roadmap(FACTS, 2025, 2022)
    assert plan.node_nm == 3.0  # announced in 2020 for 2022
    assert NEXT in plan.memories  # no successor of HBM3 was known
    assert plan.memories[NEXT].stack_bytes_per_s.value > known.value("hbm3", "stack_bytes_per_s")
    assert max(machine.year for machine in known.machines.values()) == 2022


def test_the_years_ahead() -> None:
    plan = roadmap(FACTS, 2028)
    assert plan.node_nm == 2.0
    assert {"hbm4e", "hbf", "dram-3d", "lpddr6"} <= set(plan.memories)
    assert not {"hbm5", NEXT} & set(plan.memories)
    assert plan.memories["dram-3d"].stacked
    assert not plan.memories["hbm4e"].stacked
    assert "hbm5" in roadmap(FACTS, 2030).memories
    assert NEXT in roadmap(FACTS, 2036).memories
    near, far = roadmap(FACTS, 2026).package_w, roadmap(FACTS, 2032).package_w
    assert far.high / far.low > near.high / near.low  # a band widens with its distance


def test_an_early_year_leaves_out_what_had_no_price() -> None:
    plan = roadmap(FACTS, 2024, 2020)
    assert plan.node_nm == 3.0  # announced in 2020 for 2023
    assert "lpddr5" not in plan.memories
    assert "left out, as no price was quoted by 2020: lpddr5" in " ".join(plan.notes)
    assert any("no row tells of a process after 2 nm" in note for note in roadmap(FACTS, 2035).notes)
    assert not roadmap(FACTS, 2028).notes


def test_doubling_times_are_fitted_and_have_a_spread() -> None:
    """Compute doubles faster than memory in these rows, as in arXiv 2601.20115; each has a band around it."""
    rate, memory = chip_trend(FACTS, "flops_per_s.16 bits"), chip_trend(FACTS, "memory_bytes_per_s")
    for trend in (rate, memory):
        value, low, high = trend.doubling_years
        assert low < value < high
    assert rate.doubling_years[0] < memory.doubling_years[0]


def test_dates_are_read_from_conditions() -> None:
    offered = quotes(FACTS, "cowos", "carrier_mm2_offered")
    assert (offered[-1].known, offered[-1].true) == (2025, 2027)
    last = latest_quote(FACTS, "node-5", "usd_per_wafer_quoted")
    assert last is not None
    assert last.known == 2022
    assert quotes(FACTS, "node-5", "usd_per_wafer") == ()


@pytest.mark.slow
def test_a_users_own_memory_and_chip_join_a_roadmap(tmp_path: Path) -> None:
    names = ("stack_bytes", "stack_bytes_per_s", "pj_per_bit", "usd_per_byte", "volume_year", "known_year")
    rows = [replace(FACTS.get("hbm5", name), name="hbm-x") for name in names]
    rows[-2:] = [
        replace(row, value=year, low=year, high=year) for row, year in zip(rows[-2:], (2025, 2023), strict=True)
    ]
    (tmp_path / "own.csv").write_text(to_csv(rows), encoding="utf-8")
    own = load([tmp_path])
    assert "hbm-x" in roadmap(own, 2026).memories
    assert "hbm-x" in known_by(own, 2024).of("hbm-x")[0].name
    assert "hbm-x" not in roadmap(own, 2026, 2022).memories
    (tmp_path / "own.csv").write_text(to_csv(rows[1:]), encoding="utf-8")
    with pytest.raises(BadInput, match="hbm-x"):  # nothing says that it is a memory
        load([tmp_path])


def test_impossible_years_are_refused() -> None:
    with pytest.raises(BadInput, match="must be 2024 or later"):
        roadmap(FACTS, 2023, 2024)
    with pytest.raises(BadInput, match="between 1990 and 2100"):
        roadmap(FACTS, 20266)
    with pytest.raises(MissingFact, match="needs 3 values"):
        roadmap(FACTS, 2025, 2017)
