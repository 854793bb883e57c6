"""The pages of answers about money: their figures, every number, nothing unescaped, nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flashstill.cli import main
from flashstill.errors import BadInput
from flashstill.report.answers import render_answer, write_answer_page
from flashstill.report.money import driven_by, flat, others, table, words
from flashstill.report.money_curves import ranged
from flashstill.report.sections import render_sections
from tests.answers import ASIC, HOSTILE, capacity, driver, interval


def test_the_page_of_a_chip_shows_its_figures() -> None:
    page = render_answer(ASIC)
    assert page.count("<svg") == 6
    for text in (
        "What moves the break-even", "50 mJ",
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


def test_the_page_of_a_fleet_shows_the_night_release_and_what_would_mend_it() -> None:
    page = render_answer(capacity(72))
    assert page.count("<svg") == 5  # the plan, its mean day, demand, a dual, users against training
    for text in (
        "27.5",
        "Train next: 400 chips at hour 0 of the mean day, 200 at hour 8.", "more chips: h200-sxm 12", "hour 72",
        "not in this plan", "1 demands or deadlines cannot be kept", "12,346", "greatest, at hour 1", "12.5",
    ):  # fmt: skip
        assert text in page
    assert not re.search(r"<script|https?:|alert\('", page)


def test_a_year_of_a_fleet_is_a_small_page() -> None:
    page = render_answer(capacity(8760))
    assert len(page) < 150_000
    assert "mean from hour" in page
    assert "busy chips, least and greatest" in page


def test_long_steps_have_no_mean_day_of_one_step() -> None:
    assert "The mean day" not in render_answer(capacity(20, 24.0))
    assert "The mean day" in render_answer(capacity(20, 6.0))


def family() -> dict[str, Any]:
    def member(name: str) -> dict[str, Any]:
        return {
            "name": name, "parameters": 7e10, "active_parameters": 7e10, "tokens": 1.5e13, "share": 0.5,
            "tokens_per_day": 1e11, "run": {"usd": 1.5e7}, "signals": {"usd": 1e5}, "expected_loss": 1.7,
            "served": {"on": "8 x h100-sxm", "usd_per_million_tokens": 1.25}, "expected_loss_on_labels": None,
            "usd_per_million_tokens": {"serving": 1.25, "total": 1.5},
        }  # fmt: skip

    crossing = {"tokens_per_day": 1.34e9, "verdict": "pays above", "band": interval(8e8, 1.3e9, None)}
    student = {
        **member(HOSTILE),
        "break_even": {
            "against_teacher": crossing,
            "against_scratch": {"its_part": {"tokens_per_day": None, "verdict": "always", "band": None}},
        },
        "curves": [
            {"tokens_per_day": 10.0**power, "usd_per_million_tokens": {
                "student": 1.0 + 10.0 ** (9 - power), "student_with_prerequisite": 1.0 + 10.0 ** (10 - power),
                "teacher": 2.0, "scratch": None}}
            for power in range(3, 18)
        ],
        "should_distil": {"answer": "distil (sure)", "distil": True, "gain_nats": 0.05, "notes": ["unverified"]},
        "should_distil_reason": "",
        "generations": [{"number": 1, "pro_parameters": 2e12, "reaches": True, "price_ratio": None}],
    }  # fmt: skip
    return {
        "schema": "flashstill.economics/1", "family": HOSTILE, "unit": "output tokens", "tokens_per_day": 2e11,
        "usd_per_million_tokens": {"serving": 1.25, "prerequisite": 0.25, "total": 1.5},
        "waterfall": [{"name": "serving", "value": 1.25, "is_total": False},
                      {"name": "training", "value": 0.25, "is_total": False},
                      {"name": "a million tokens", "value": 1.5, "is_total": True}],
        "prerequisite": {"usd": 1.5e7, "share_of_usd": 1 / 6}, "teacher": member("pro"), "students": [student],
        "law": {"name": "a-law", "source": "a paper about it"}, "measured": None, "notes": [],
        "usd_per_million_tokens_band": interval(1.25, 1.5, 2.0), "drivers": [driver(HOSTILE, 1.25, 2.0)],
    }  # fmt: skip


def test_the_page_of_a_family_shows_its_break_even_points() -> None:
    page = render_answer(family())
    assert page.count("<svg") == 3
    for text in (
        "$1.50 ($1.25 to $2)",
        "pays above 1.34B a day (800M to never)", "pays from 1.34B", "16.7%", "$15M", "Distil (sure).", "unverified",
        "a-law: a paper about it", "2T", "always",
    ):  # fmt: skip
        assert text in page
    assert not re.search(r"<script|https?:|alert\('", page)
    assert "same quality on labels</text>" not in page  # a curve without a value is left out


def span(low: float | None, value: float | None, high: float | None) -> dict[str, float | None]:
    return {"low": low, "value": value, "high": high}


def hosting(api: bool = True) -> dict[str, Any]:
    prices = {"cached": span(None, None, None), "input": span(0.1, 0.2, 0.3), "output": span(1.0, 2.0, 4.0)}
    charged = {
        "usd_per_million": {"cached": 0.1, "input": 0.5, "output": 2.5}, "source": HOSTILE, "as_of": "2026-01",
        "usd_per_request": span(0.002, 0.004, 0.008), "usd_per_day": None,
    }  # fmt: skip
    return {
        "schema": "flashstill.economics/1", "question": {"model": HOSTILE}, "model": HOSTILE, "chip": "h100-sxm",
        "answer": "depends", "configuration": {"chips": 4, "batch": 64}, "usd_per_chip_hour": 3.2, "chips": 8,
        "price_basis": HOSTILE, "requests_per_day": 1e6, "usd_per_million": prices,
        "usd_per_request": span(0.001, 0.002, 0.003), "usd_per_day": span(1e3, 2e3, 3e3),
        "api": charged if api else None,
        "break_even": {"requests_per_day": span(2e4, 5e4, None)} if api else None,
        "corners": [{"cached_ratio": 0.5, "replicas": 2}],
        "steps": [{"name": "rent", "usd": 1.5, "source": "a price"}, {"name": HOSTILE, "usd": 0.5, "source": "b"}],
        "power": {"joules_per_output_token": 2.0, "decode_share_by_place": {"weights": 0.75, "kv": 0.25},
                  "usd_per_million_output_tokens_by_place": None},
        "curve": [{"requests_per_day": 10.0**power, "self_usd_per_day": span(1e3, 2e3, 3e3),
                   **({"api_usd_per_day": span(1.0, 2.0, 3.0)} if api else {})} for power in range(3, 8)],
        "assumptions": [{"name": "facility", "quantity": "pue_ratio", "value": 1.2, "source": HOSTILE}],
        "footprint": {"grid": "us", "sources": [HOSTILE]}, "notes": [HOSTILE],
        "interval": {"usd_per_request": interval(0.0015, 0.0021, 0.0033)}, "drivers": [driver(HOSTILE, 0.001, 0.004)],
    }  # fmt: skip


def test_the_page_of_hosting_shows_prices_by_kind_beside_the_api() -> None:
    page = render_answer(hosting())
    assert page.count("<svg") == 4
    for text in (
        "$0.0021 ($0.0015 to $0.0033)",
        "$2 ($1 to $4)", "none", "$0.004 ($0.002 to $0.008)", "it depends on the volume or the ranges",
        "50k (20k to never)", "pays from 50k", "75.0%", "rent: a price",
    ):  # fmt: skip
        assert text in page
    assert not re.search(r"<script|https?:|alert\('", page)
    alone = render_answer(hosting(api=False))
    assert alone.count("<svg") == 4
    assert "API" not in alone


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


def test_columns_of_words_stand_to_the_left_and_of_numbers_to_the_right() -> None:
    rows = [
        {"run": "a", "teacher": "", "served_on": "8 x h100-sxm, fp8", "usd": 1e6, "range": "2 to 4.3", "is": "no"},
        {"run": "b", "teacher": "a", "served_on": "1 x h100-sxm", "usd": -2.5, "range": "0.5 ± 0.1", "is": "12 s"},
    ]  # fmt: skip
    section = table("Runs", rows)
    assert dict(zip(section.headings, section.of_words, strict=True)) == {
        "run": True, "teacher": True, "served on": True, "$": False, "range": False, "is": False
    }  # fmt: skip
    page = render_sections("t", "", [section])
    assert '<th class="text">teacher</th>' in page
    assert '<td class="text">1 x h100-sxm</td>' in page
    assert "<td>0.5 ± 0.1</td>" in page


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


@pytest.mark.slow
def test_capacity_writes_its_page_also_where_not_all_can_be_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out = tmp_path / "plan.toml", tmp_path / "page.html"
    plan.write_text(
        'horizon_hours = 4\nchips = [{name = "a", count = 2, usd_per_hour = 1}]\n[[products]]\nname = "<b>chat"\n'
        'model = "llama-3.1-8b"\ninput_tokens = 10\noutput_tokens = 10\npeak_requests_per_s = 30\n'
        "tokens_per_s_per_chip = {a = 100}\n"
    )
    with pytest.raises(SystemExit) as stop:
        main(["capacity", str(plan), "--out", str(out)])
    assert stop.value.code == 3
    page = out.read_text(encoding="utf-8")
    assert "1 demands or deadlines cannot be kept" in page
    assert "more chips: a 1" in page
    assert "<b>" not in page
    assert "Page:" in capsys.readouterr().err


def test_out_is_the_name_of_a_page() -> None:
    from flashstill.cli.paging import _is_page  # the callback of --out

    context: Any = None
    assert _is_page(context, context, Path("a.HTML")) == Path("a.HTML")
    with pytest.raises(BadInput, match=r"ends in \.html, not 'a\.csv'"):
        _is_page(context, context, Path("a.csv"))
