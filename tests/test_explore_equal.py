"""The page's figures are those of the command line, to the last digit, in states that nobody chose."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from flashstill.errors import FlashstillError
from flashstill.explore.answers import Answers
from tests.explored import VIEWS, answers, printed, random_query, row_of
from tests.marks import slow

STATES = 50
LEVELS = ("arithmetic", "near_sram", "far_sram", "weights", "kv", "activations", "links", "idle", "active")
Document = dict[str, Any]


@pytest.fixture(scope="module")
def page() -> Answers:
    return answers()


def compare(page: Answers, query: str) -> str:
    """Assert equality in a state; returns what kind of answer it had."""
    view = page.state(query).view
    document = answered(page, query)
    if "error" in document:
        lines = page.kinds[view].command(page.engine.given, page.state(query)).splitlines()
        assert document["error"] in [printed(line).get("error") for line in lines]
        return "refused"
    if [chart["name"] for chart in document["charts"]] == ["reasons"]:
        assert document["command"]
        if view in ("model", "byte", "front", "numbers"):
            told = printed(document["command"].splitlines()[-1])
            assert (told["fits"], told["reason"]) == (False, document["lead"])
        return "infeasible"
    COMPARED[view](document)
    return "equal"


def answered(page: Answers, query: str) -> Document:
    """The view of a query, or the sentence that refuses it."""
    try:
        document: Document = json.loads(page.view_json(page.state(query).view, query))
    except FlashstillError as error:
        return {"error": str(error)}
    return document


def same_step(document: Document, told: Document) -> None:
    """The state's own step, in the tables of both axes."""
    for axis in ("batch", "context"):
        seconds = row_of(document, f"seconds-{axis}", **{axis: told[axis]})
        joules = row_of(document, f"joules-{axis}", **{axis: told[axis]})
        assert seconds["seconds"] == told["seconds"]
        assert seconds["seconds_perfect"] == told["seconds_perfect"]
        assert {name: seconds[f"seconds_{name}"] for name in told["seconds_by"]} == told["seconds_by"]
        assert (seconds["tokens_per_s"], seconds["bound"]) == (told["tokens_per_s"], told["bound"])
        assert joules["joules_per_token"] == told["joules_per_token"]["total"]
        assert {name: joules[f"joules_{name}"] for name in LEVELS}.items() <= told["joules_per_token"].items()
        assert joules["usd_per_million_tokens"] == told["usd_per_million_tokens"]


def model(document: Document) -> None:
    told = printed(document["command"])
    same_step(document, told)
    knee = told["knees"]["arithmetic_dominates_from"]
    assert (f"from batch {knee:,} on" if knee else "at every batch") in document["lead"]
    laid = [word for name, degree in told["layout"].items() for word in (f"--{name.replace('_', '-')}", str(degree))]
    again = printed(document["command"], *laid, "--chips", str(told["chips"]), "--batch", "4")
    assert row_of(document, "seconds-batch", batch=4)["seconds"] == again.get("seconds")


def chips(document: Document) -> None:
    for command, chip in zip(document["command"].splitlines(), document["state"]["chips_from"], strict=True):
        told = printed(command)
        for name, figures in (
            ("time-dollars", ("tpot_s", "tpot_low_s", "tpot_high_s", "ttft_s", "output_tokens_per_s", "bound",
                              "usd_per_million_output_tokens", "usd_per_chip_hour")),
            ("joules", ("joules_per_output_token", "joules_per_output_token_low", "joules_per_output_token_high")),
            ("watts", ("watts_per_chip",)),
        ):  # fmt: skip
            row = row_of(document, name, chip=chip)
            if "error" in told:
                assert row["reason"] == told["error"]
            elif not told["fits"]:
                assert told["reason"] in row["reason"]
            else:
                assert {figure: row[figure] for figure in figures} == {figure: told[figure] for figure in figures}


def front(document: Document) -> None:
    told = printed(document["command"])
    for chart in document["charts"]:
        table = chart["table"]
        assert [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]] == told["front"]


def numbers(document: Document) -> None:
    told = printed(document["command"])
    (pair,) = told["pairs"]
    values = told["parameters"][pair["chip"]]
    for objective, words in (("usd", "dollars"), ("joules", "joules"), ("seconds", "seconds")):
        for name, of in told["elasticities"].items():
            if of[objective] is not None:
                row = row_of(document, words, number=name)
                assert (row["elasticity"], row["value"]) == (of[objective], values[name]["value"])
                assert row["jumps"] == (objective in pair["jumps"][name])


def placement(document: Document) -> None:
    table = document["charts"][0]["table"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    for row in random.Random(len(rows)).sample(rows, 3):
        command = next(line for line in document["command"].splitlines() if f"--chip {row['chip']} " in line)
        told = printed(command, "--model", row["model"], "--chips", str(row["chips"]), "--memory", row["memory"])
        if "seconds" in told:
            figures = [
                told["seconds"],
                told["joules_per_token"]["total"],
                told["usd_per_million_tokens"],
                told["bound"],
            ]
            assert [row["seconds"], row["joules_per_token"], row["usd_per_million_tokens"], row["bound"]] == figures
        else:
            assert row["reason"] == told.get("reason", told.get("error"))


def byte(document: Document) -> None:
    chip, step = (printed(command) for command in document["command"].splitlines())
    energies = chip["pj_per_byte"]
    table = document["charts"][0]["table"]
    for place, segment, picojoules, *_ in table["rows"]:
        assert energies[place][segment] == picojoules
    for level in LEVELS:
        assert row_of(document, "token", level=level)["joules_per_token"] == step["joules_per_token"][level]


COMPARED: dict[str, Callable[[Document], None]] = {
    "model": model, "chips": chips, "front": front, "numbers": numbers, "placement": placement, "byte": byte,
}  # fmt: skip


@pytest.mark.parametrize("view", [*VIEWS[::2], *slow(*VIEWS[1::2])])
def test_a_state_of_each_view(page: Answers, view: str) -> None:
    chips = "chip=tpu-v6e&chips_from=tpu-v6e&models=qwen3-0.6b&model=qwen3-0.6b"
    assert compare(page, f"view={view}&{chips}&batch=7&set=tpu-v6e.memory_bytes_per_s%3D1.7e12") == "equal"


@pytest.mark.slow
def test_values_are_those_of_the_command_line(page: Answers) -> None:
    chance = random.Random(22)
    answered = [
        compare(page, random_query(chance, VIEWS[number % len(VIEWS)], page.engine.catalogue))
        for number in range(STATES)
    ]
    assert answered.count("equal") >= STATES * 0.7
