"""Amounts as people write them."""

from __future__ import annotations

import pytest

from flashstill.units import figures, parse_amount, short_count, show


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("6.7TB/s", "B/s", 6.7e12),
        ("6.7 TB/s", "B/s", 6.7e12),
        ("3350 GB/s", "B/s", 3.35e12),
        ("80GB", "B", 8e10),
        ("80GiB", "B", 80 * 2**30),
        ("1.5B", "1", 1.5e9),
        ("$2B", "USD", 2e9),
        ("143771MiB", "B", 143771 * 2**20),
        ("20ms", "s", 0.02),
        ("20 us", "s", 2e-5),
        ("20µs", "s", 2e-5),
        ("2m", "s", 2e-3),
        ("1.5min", "s", 90.0),
        ("4k", "1", 4e3),
        ("4K", "1", 4e3),
        ("1.25M", "1", 1.25e6),
        ("40%", "1", 0.4),
        ("989 TFLOP/s", "FLOP/s", 9.89e14),
        ("2PFLOPS", "FLOP/s", 2e15),
        ("1e15", "FLOP/s", 1e15),
        ("700W", "W", 700.0),
        ("1.2kW", "W", 1200.0),
        ("900mW", "W", 0.9),
        ("$2.5", "USD/h", 2.5),
        ("$2.5/h", "USD/h", 2.5),
        ("$30k", "USD", 30e3),
        ("814mm2", "mm2", 814.0),
        ("4nm", "nm", 4.0),
        ("-3", "1", -3.0),
        (".5", "1", 0.5),
    ],
)
def test_amounts_with_units(text: str, unit: str, value: float) -> None:
    assert parse_amount(text, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", "B"), ("TB/s", "B/s"), ("nan", "1"), ("inf", "s"), ("1e999", "1"), ("9" * 400, "1"), ("9" * 41, "1"),
        ("4²", "1"), ("٤", "1"), ("4k4", "1"), ("4kk", "1"), ("3TB", "B/s"), ("3 W", "s"), ("1_000", "1"),
        ("0x10", "1"), ("1,000", "1"), ("5 GHz", "B"), ("3m", "1"), ("3e308k", "1"), ("--3", "1"), ("$3", "s"),
    ],
)  # fmt: skip
def test_what_is_no_amount(text: str, unit: str) -> None:
    assert parse_amount(text, unit) is None


def test_counts_in_three_figures() -> None:
    counts = (7, 999.4, 124_439_808, 999_400_000, 999_700_000, 70.55e9, 999.7e9, 1.0264e12)
    assert [short_count(each) for each in counts] == ["7", "999", "124M", "999M", "1B", "70.5B", "1T", "1.03T"]


def test_long_times_are_hours_days_and_years() -> None:
    """135 ks is 37.5 h."""
    shown = {
        999.4: "999 s",
        2391.0: "2,391 s",
        9899.0: "9,899 s",
        135e3: "37.5 h",
        172_800.0: "2 days",
        1e9: "31.7 years",
    }
    assert {seconds: show(seconds, "s") for seconds in shown} == shown
    assert show(-5000.0, "s") == "-5,000 s"


def test_counts_beyond_trillions_and_in_other_figures() -> None:
    assert [short_count(each) for each in (1e15, 1.39e16, 999.9e9)] == ["1,000T", "13,900T", "1T"]
    assert [short_count(each, 2) for each in (477e6, 996e6, 0.0123)] == ["480M", "1B", "0.012"]


def test_no_power_of_ten_stands_where_figures_do() -> None:
    assert [show(each, "B") for each in (999.4e6, 999.7e6, 1e9)] == ["999 MB", "1 GB", "1 GB"]
    assert [show(each, "MWh") for each in (0.0123, 45.8, 999.7, 4581.0, 12345.6)] == [
        "0.0123 MWh", "45.8 MWh", "1,000 MWh", "4,581 MWh", "12,346 MWh",
    ]  # fmt: skip
    assert [figures(each) for each in (0.5, 999.4, 1080.2, -2500.0)] == ["0.5", "999", "1,080", "-2,500"]
