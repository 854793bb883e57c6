"""The pages of answers about money: their figures, every number, nothing unescaped, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flashstill.errors import BadInput
from flashstill.report.answers import render_answer, write_answer_page
from flashstill.report.money import driven_by, flat, others, ranged, table, words

HOSTILE = "<script>alert('x')</script>\"&"


def interval(low: float | None, middle: float | None, high: float | None) -> dict[str, float | None]:
    return {"p10": low, "p50": middle, "p90": high}


def driver(name: str, low: float | None, high: float | None) -> dict[str, Any]:
    return {
        "name": name, "quantity": "wafer_usd", "unit": "USD", "value": 2.0, "low": 1.0, "high": 3.0, "kind": "estimate",
        "source": f"a source of {name}", "first": 0.25, "first_error": 0.01, "total": 0.3, "total_error": 0.01,
        "at_low": low, "at_high": high,
    }  # fmt: skip


def variant(factor: float = 1.0) -> dict[str, Any]:
    return {
        "pays": True, "probability_that_it_pays": 0.8, "variant": "sram", "node": "n5", "dies": 64,
        "break_even_tokens_per_day": interval(1e11 * factor, 4e11 * factor, None),
        "usd_per_million_tokens": {"asic": 0.2, "alternative": 0.5},
        "usd_per_million_tokens_interval": {"asic": interval(0.1, 0.2, 0.4), "alternative": interval(0.3, 0.5, 0.8)},
        "nre_usd": 4e8, "nre_usd_interval": interval(3e8, 4e8, 6e8), "net_present_usd": interval(-1e8, 9e8, 2e9),
        "nre": {"parts_usd": {"hardware": 3e8, "masks": 1e8}, "rewiring_usd_per_model": 3e6},
        "package": {
            "dies": 300.0, "packaging": 200.0, "bill_of_materials": 500.0, "bought": 900.0, "with_board": 1500.0,
        },
        "joules_per_token": {"arithmetic": 0.05, "weights": 0.1},
        "drivers": [driver("n5", 1e9, 5e8), driver(HOSTILE, None, 7e8)],
        "curve": [
            {"tokens_per_day": volume, "asic": interval(1e10 / volume, 4e10 / volume, 9e10 / volume),
             "alternative": interval(0.3, 0.5, 0.8)}
            for volume in (1e10, 1e11, 1e12)
        ],
        "as_share_of_training_run": [{"training_usd": 1e7, "nre_ratio": interval(30.0, 40.0, 60.0)}],
        "schedule": {"design_years": 2.25},
        "notes": [HOSTILE],
    }  # fmt: skip


ASIC: dict[str, Any] = {
    "schema": "flashstill.asic/1", "version": "1", "question": {"model": HOSTILE, "volume": 2e12},
    "edits": [{"row": HOSTILE, "value": 1.0}], **variant(), "variants": {"sram": variant(), HOSTILE: variant(2.0)},
}  # fmt: skip


def test_the_page_of_a_chip_shows_its_figures() -> None:
    page = render_answer(ASIC)
    assert page.count("<svg") == 5
    for text in (
        "400B (100B to never)", "800B (200B to never)", "$0.20 ($0.10 to $0.40)", "break-even 400B", "$400M",
        "40x", "0.250 ± 0.010", "a source of n5", "maker&#39;s margin", "2.25",
    ):  # fmt: skip
        assert text in page


def test_everything_is_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    write_answer_page(out, ASIC)
    page = out.read_text(encoding="utf-8")
    assert not re.search(r"<script|https?:|alert\('", page)
    assert "default-src 'none'" in page
    assert len(page) < 200_000


def test_an_answer_without_a_page_of_its_own_is_shown_in_full() -> None:
    document = {
        "schema": "flashstill.other/1", "question": {"a": {"b": 1}}, "usd_per_hour": 2.5,
        "rows": [{"x": 1.25, "y": [1]}],
        "inner": {"life_years": 6.0}, "empty": [], "none": None,
    }  # fmt: skip
    page = render_answer(document)
    for text in ("$ per hour", "$2.50", "1.25", "life (years)", "a: b"):
        assert text in page
    assert "empty" not in page


def test_keys_and_values_as_words() -> None:
    assert [words(key) for key in ("usd_per_million_tokens", "nre_usd", "ttft_s", "dies", "life_years")] == [
        "$ per million tokens", "nre ($)", "ttft (s)", "dies", "life (years)",
    ]  # fmt: skip
    assert flat({"a": {"usd": 3.0, "b": [{"c": 1}]}, "d": None}) == [("a: $", "$3"), ("a: b", "1 entries")]
    assert ranged(None) == ranged(interval(None, None, None)) == "never"


def test_a_long_table_is_thinned_and_says_so() -> None:
    section = table("rows", [{"x": number} for number in range(1000)])
    assert len(section.rows) == 334
    assert section.text == "One row in 3 of 1,000."


def test_sections_that_are_shown_are_not_shown_twice() -> None:
    assert others({"schema": "s", "a": {"b": 1}}, ["a"]) == []


def test_a_tornado_lists_all_rows_with_sources_and_needs_a_base() -> None:
    rows = [driver(f"row {number}", 1.0, 2.0 + number) for number in range(30)]
    section = driven_by(rows, 1.5, "a figure")
    assert section is not None
    assert [len(section.rows), len(section.sources)] == [30, 30]
    assert section.rows[0][0].startswith("row 29")
    assert driven_by(rows, None, "a figure") is None
    assert driven_by([], 1.0, "a figure") is None


def test_out_is_the_name_of_a_page() -> None:
    from flashstill.cli.paging import _is_page  # the callback of --out

    context: Any = None
    assert _is_page(context, context, Path("a.HTML")) == Path("a.HTML")
    with pytest.raises(BadInput, match=r"ends in \.html, not 'a\.csv'"):
        _is_page(context, context, Path("a.csv"))
