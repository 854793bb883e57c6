"""The commands of the years ahead: what they print, their documents, their pages, and a back-test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import flashstill as fs
from flashstill.arch import load_architecture
from flashstill.cli import main
from flashstill.codesign.backtest import COMPARED, chip_vector, compared, distance, lines
from flashstill.codesign.proposals import searched
from flashstill.errors import BadInput
from flashstill.facts import Machine, load

FACTS = load()
CAME = ("b200", "tpu-v7")
ARRAYS = ("arrays", "--model", "gpt2", "--tokens", "197")
CEILING = (
    "ceiling", "--model", "llama-3.1-8b", "--chip", "b200", "--memory", "hbm4,sram", "--sync", "1us,0",
    "--context", "1k",
)  # fmt: skip
TRENDS = ("trends", "--year", "2025", "--as-of", "2022", "--against", "b200,tpu-v7")


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    main([*words, "--json"])
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_the_command_line_says_what_python_says(capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, *ARRAYS)
    assert told["schema"] == "flashstill.arrays/1"
    answer = fs.arrays(model="gpt2", tokens=197)
    assert told["rows"] == answer.as_records()
    assert told["best_edge"] == answer.best.edge == 64
    told = document(capsys, *CEILING)
    limit = fs.ceiling(model="llama-3.1-8b", chip="b200", memory=["hbm4", "sram"], sync_s=[1e-6, 0.0], context=1000)
    assert told["rows"] == limit.as_records()
    assert told["reached"] == len(limit.reached)
    told = document(capsys, *TRENDS)
    answer_ = fs.trends(year=2025, as_of=2022, against=CAME)
    assert told["roadmap"] == json.loads(json.dumps(answer_.plan.as_dict()))
    assert told["back_test"]["guesses"] == [guess.as_dict() for guess in answer_.guesses]
    assert {record["driver"] for record in answer_.as_records()} == set(told["roadmap"]["chips"])


@pytest.mark.parametrize("words", [ARRAYS, CEILING, TRENDS])
def test_tables_and_pages(words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    main([*words, "--out", str(out)])
    printed = capsys.readouterr().out
    assert {"arrays": "64 x 64", "ceiling": "tokens/s at 1,000", "trends": "back-test"}[words[0]] in printed
    page = out.read_text(encoding="utf-8")
    assert "<svg" in page
    assert "<table" in page
    assert {"arrays": "Energy x delay", "ceiling": "Tokens a second", "trends": "Years of a doubling"}[words[0]] in page


def test_trend_lines_of_2022_against_what_came() -> None:
    """Each quantity's own line, extrapolated to 2025: half of B200's FLOP/s and bandwidth, and of its watts."""
    guesses = {guess.name: guess for guess in compared(FACTS, lines(FACTS, 2025, 2022), CAME)}
    every = guesses["all makers, each quantity's own line"]
    assert every.nearest == pytest.approx(0.96, abs=0.02)
    assert guesses["NVIDIA, each quantity's own line"].nearest == pytest.approx(0.23, abs=0.02)
    assert guesses["Google, each quantity's own line"].nearest == pytest.approx(2.67, abs=0.05)
    assert guesses["NVIDIA, as in its newest year"].nearest == pytest.approx(1.10, abs=0.02)


def test_distances() -> None:
    came = chip_vector(FACTS, "b200")
    assert distance(came, came) == 0.0
    assert distance({key: value * 2.0 for key, value in came.items()}, came) == pytest.approx(1.0)
    assert distance({**came, COMPARED[0]: came[COMPARED[0]] * 4.0}, came) == pytest.approx(1.0)  # sqrt(2^2 / 4)


@pytest.mark.slow
def test_the_chips_proposed_for_2025_with_rows_of_2022() -> None:
    """The design is nearer to B200 and TPU v7 than the lines of all makers; NVIDIA's own line is nearer still.

    The search is nearer than Google's line alone: at the power limit the voltage falls with the clock, so that it
    takes more multipliers than a maker would sell at their full clock. Said before it was run: for GPT-3 (the model of
    then whose shape is published), 512 tokens in and 128 out, 16 in flight (the defaults), without bounds; 16-bit
    dense FLOP/s. By the designs of `asic`, and by the search.
    """
    answer = fs.trends(year=2025, as_of=2022, against=CAME, model="gpt-3")
    guesses = {guess.name: guess for guess in answer.guesses}
    line = guesses["all makers, each quantity's own line"]
    for how in ("designed", "searched"):
        proposed = guesses[f"{how} for gpt-3"]
        for name in CAME:
            assert (proposed.distances[name] < line.distances[name]) == (how == "designed")
            assert proposed.distances[name] < guesses["Google, each quantity's own line"].distances[name]
            assert proposed.distances[name] > guesses["NVIDIA, each quantity's own line"].distances[name]  # a miss
    assert guesses["designed for gpt-3"].nearest == pytest.approx(0.73, abs=0.05)
    assert guesses["searched for gpt-3"].nearest == pytest.approx(1.14, abs=0.05)


@pytest.mark.slow
def test_what_came_later_changes_no_proposal() -> None:
    """A chip of 2023 with ten times the numbers, and cheaper wafers of today."""
    model = load_architecture("opt-66b")
    rows = [replace(row, name="later", value=row.value * 10, high=row.high * 10) for row in FACTS.of("h100-sxm")]
    machine = Machine(name="later", title="Later", maker="NVIDIA", chip_class="gpu", year=2023)
    cheaper = replace(FACTS.get("node-3", "usd_per_wafer"), value=10.0, low=10.0)
    cooler = replace(FACTS.get("cooling", "package_w"), value=9000.0, high=9000.0)
    later = FACTS.with_machine(machine, rows).with_rows([cheaper, cooler])
    assert searched(later, model, 2025, 2022, 512, 128) == searched(FACTS, model, 2025, 2022, 512, 128)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("ceiling", "--model", "llama-3.1-8b", "--chip", "b200", "--sync", "fast"), "no amount in s"),
        (("arrays", "--model", "gpt2", "--tokens", "197", "--edge", "big"), "no whole number"),
        (("trends", "--year", "2025", "--model", "gpt-3"), "name the chips that came"),
        (("trends", "--year", "20285"), "between 1990 and 2100"),
    ],
)
def test_a_mistake_is_one_sentence(words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


def test_one_array_of_each_edge_has_no_number_of_multipliers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["arrays", "--model", "gpt2", "--tokens", "9", "--one-array", "--multipliers", "16384"])
    assert stop.value.code == 2
    assert "--multipliers does not bear on --one-array" in capsys.readouterr().err


def test_contexts_that_nobody_asks_for_fit_the_model() -> None:
    rows = fs.ceiling(model="gpt2", chip="b200", memory="hbm4", sync_s=0.0).rows
    assert [row.context for row in rows] == [1024]


def test_a_chip_that_lacks_a_number_is_no_target() -> None:
    with pytest.raises(BadInput, match="at least"):
        fs.ceiling(model="llama-3.1-8b", chip="b200", context=[])


def test_what_is_named_twice_is_one_row_and_nobody_wants_nothing() -> None:
    limit = fs.ceiling(model="gpt2", chip="b200", memory=["hbm4", "hbm4"], sync_s=[1e-6, 1e-6], context=[100, 100])
    assert len(limit.rows) == 1
    assert [row.edge for row in fs.arrays(model="gpt2", tokens=9, edge=[64, 32, 64]).rows] == [64, 32]
    for wanted in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(BadInput, match="wanted must be above 0"):
            fs.ceiling(model="gpt2", chip="b200", wanted=wanted)
