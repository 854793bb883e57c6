"""predict --simulated: the simulation where memory or a step's budget binds, the closed form elsewhere, said which."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

import flashstill as fs
from flashstill.plan.prediction import ENDS
from tests.commands import Cli, refuse
from tests.marks import slow

CASE: dict[str, Any] = {
    "model": "llama-3.1-70b",
    "chip": "h100-sxm",
    "tp": 2,
    "precision": "fp8",
    "isl": 8192,
    "osl": 32,
}


def answer(**more: Any) -> Any:
    return fs.predict(**{**CASE, **more})


def test_where_nothing_binds_the_closed_form_answers() -> None:
    closed, simulated = answer(batch=4), answer(batch=4, simulated=True)
    names = [field.name for field in fields(closed) if field.name != "note"]
    assert [getattr(closed, name) for name in names] == [getattr(simulated, name) for name in names]
    assert simulated.note.endswith("in closed form, as neither memory nor the token budget of a step nor prompts bind")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [({"batch": 64}, "as memory holds 5"), ({"batch": 2, "chunk": 2048}, "prefilled in chunks of at most 2,048"),
     *slow(({"batch": 2, "isl": 20_000}, "prefilled in chunks of at most 8,192"))],
)  # fmt: skip
@pytest.mark.slow
def test_where_something_binds_it_is_simulated(shape: dict[str, int], reason: str) -> None:
    """Tokens per second times the stay of a request is the requests in flight; ends of bands move with the values."""
    closed, found = answer(**shape), answer(**shape, simulated=True)
    assert "simulated (" in found.note
    assert reason in found.note
    assert found.output_tokens_per_s * (found.ttft_s + 31 * found.tpot_s) / 32 == pytest.approx(shape["batch"])
    assert found.watts_per_chip * 2 == pytest.approx(found.joules_per_output_token * found.output_tokens_per_s)
    dollars = found.usd_per_million_output_tokens * found.output_tokens_per_s
    assert dollars == pytest.approx(closed.usd_per_million_output_tokens * closed.output_tokens_per_s)
    assert 1.0 <= found.running <= shape["batch"]
    for name, ends in ENDS.items():
        for end in ends:
            assert getattr(found, end) / getattr(found, name) == pytest.approx(
                getattr(closed, end) / getattr(closed, name)
            )
    assert found.tpot_s == pytest.approx(closed.tpot_s, rel=0.25)


def test_prompts_that_take_most_of_the_time_are_simulated() -> None:
    """Four requests share a replica: none stays shorter than two of its four prompts, and the closed form is slow."""
    case: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm", "isl": 4096, "osl": 5, "batch": 4}
    closed, found = fs.predict(**case), fs.predict(**case, simulated=True)
    assert "prompts take 9" in found.note
    prompt_s = fs.predict(**{**case, "batch": 1, "osl": 1}).ttft_s or 0.0
    stays = [(each.ttft_s or 0.0) + 4.0 * (each.tpot_s or 0.0) for each in (closed, found)]
    assert stays[0] > 1.1 * stays[1] > 2.2 * prompt_s
    assert found.output_tokens_per_s == pytest.approx(20.0 / stays[1])


def test_more_prompts_than_decode_steps_wait_before_they_start() -> None:
    """40 prompts of 8,192 tokens within 31 decode steps: an engine that mixes decodes in each, beside one prompt."""
    closed = answer(batch=40)
    lengths: dict[str, Any] = {"concurrency": 40, "requests": 400, "isl": 9102, "osl": 36, "least_ratio": 0.8}
    found = fs.simulate(**{name: value for name, value in CASE.items() if name not in ("isl", "osl")}, **lengths)
    assert closed.tpot_s == pytest.approx(found.latencies["tpot_s"].mean_s, rel=0.25)
    assert closed.ttft_s == pytest.approx(found.latencies["ttft_s"].mean_s, rel=0.45)


def test_one_token_and_pools_stay_in_closed_form() -> None:
    one = answer(osl=1, batch=64, simulated=True)
    assert "in closed form: requests of one token" in one.note
    apart = answer(osl=64, batch=8, prefill_chips=2, simulated=True)
    assert "in closed form" in apart.note


@pytest.mark.slow
def test_from_the_command_line(cli: Cli) -> None:
    flags = ("--model", "llama-3.1-70b", "--chip", "h100-sxm", "--tp", "2", "--precision", "fp8", "--simulated")
    asked = ("--isl", "8192", "--osl", "16", "--concurrency", "2", "--chunk", "4096")
    told = json.loads(cli("predict", *flags, *asked, "--json").stdout)
    assert "simulated (20 requests)" in told["note"]


def test_it_is_of_one_question(capsys: pytest.CaptureFixture[str]) -> None:
    cases = ("--cases", "x.csv", "--out", "y.csv", "--simulated")
    assert "one question of serving" in refuse(capsys, "predict", *cases)
