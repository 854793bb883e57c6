"""The knee: the closed form beside the event loop, on made-up engines and on real deployments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.simulate import knee as knee_module
from flashstill.simulate import saturated as saturated_module
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.capacity import mix_of
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.saturated import saturated
from flashstill.simulate.saturation import Measured, measured, saturated_rate, student_95
from flashstill.simulate.state import Limits
from flashstill.simulate.tally import TOKENS, TOKENS_OUT
from tests.batching import arrivals, limits, tables
from tests.commands import Cli, refuse
from tests.marks import slow


def lengths(prompt: int, output: int, count: int = 1000) -> Arrivals:
    """Requests of lengths between half of those given and these."""
    numbers = np.random.default_rng(3)
    first, last = (numbers.integers((mean + 1) // 2, mean + 1, count) for mean in (prompt, output))
    return Arrivals(np.zeros(count), first, last, np.zeros(count, dtype=np.int64))


def both(prompt: int, output: int, asked: Limits, replicas: int = 1) -> tuple[float, Measured, str]:
    """Requests per second of a replica in closed form and by simulation, and what binds."""
    requests = lengths(prompt, output)
    form = saturated(tables(), asked, mix_of(requests.prompt, requests.output, requests.cached))

    def serve(pieces: Iterator[Arrivals], seed: int) -> Outcome:
        return run(tables(), asked, pieces, replicas, seed=seed)

    outputs = float(requests.output.mean())
    stay = form.step_s * outputs
    found = saturated_rate(serve, requests, outputs, form.rate * replicas, stay, 500 * replicas, range(2))
    return form.rate * replicas, found, form.binds


@pytest.mark.parametrize(
    ("prompt", "output", "settings", "binds"),
    [
        (40, 40, {}, "sequences"),
        *slow((60, 24, {"sequences": 60, "blocks": 60, "reserves": True}, "memory")),
        *slow((300, 12, {"sequences": 60}, "prefill")),
    ],
)
@pytest.mark.slow
def test_the_closed_form_is_the_throughput_of_a_line_that_never_empties(
    prompt: int, output: int, settings: dict[str, Any], binds: str
) -> None:
    form, found, met = both(prompt, output, limits(**settings))
    assert met == binds
    assert form == pytest.approx(found.value, rel=0.03)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("prefill_first", "running", "again"),
    [
        # room for 100 - 40 prompt tokens in a step: 110 on average of 160, lost over and over 110 / (110/60 + 3/2) = 33
        (False, 40.0, 20 * 100 / (160 * 40) * 33.0),
        # 90 of a step are free, and half of 20 sequences' blocks are not set aside
        (False, 10.0, 20 * 70 / (160 * 10) * 125.0 / (125.0 / 90.0 + 1.5) + 10.0),
        # prompts first: nothing is set aside, and all that was computed of a prompt is lost
        (True, 40.0, 20 * 60 / (160 * 40) * 130.0 + 20.0),
    ],
)
def test_what_preemption_computes_again(prefill_first: bool, running: float, again: float) -> None:
    """Prompts of 160 tokens and answers of 20, with 100 tokens in a step at the most (saturated.py, its table)."""
    mix = mix_of(*(np.full(10, value, dtype=np.int64) for value in (160, 21, 0)))
    assert (mix.prompt, mix.decoded) == (160.0, 20.0)
    asked = limits(tokens=100, prefill_first=prefill_first)
    assert saturated_module._again(asked, mix, running) == pytest.approx(again)


@pytest.mark.parametrize(
    ("seconds_of_a_sequence", "binds"),
    [(0.0, "sequences"), (1e-2, "compute")],
)
def test_a_limit_binds_only_if_more_of_it_helps(seconds_of_a_sequence: float, binds: str) -> None:
    """Steps as long whatever they hold, or that take as long as their sequences one after another."""
    cost = tables(lambda b, s, p, a: (1e-2 + seconds_of_a_sequence * b if b else 0.0) + 1e-9 * p)
    requests = lengths(2, 400)
    mix = mix_of(requests.prompt, requests.output, requests.cached)
    assert saturated(cost, limits(sequences=60), mix).binds == binds


def test_requests_that_no_replica_holds_are_left_out_and_their_share_is_told() -> None:
    """Ten blocks of 16 tokens: 160 tokens fit, 161 do not."""
    rows = [(0.1 * i, 150, 10 + (i % 5 == 0)) for i in range(10)]
    kept, share = knee_module._read([arrivals(rows[:5]), arrivals(rows[5:])], limits(blocks=10))
    assert share == 0.8
    assert kept.output.tolist() == [10] * 8
    assert kept.arrival_s.tolist() == [row[0] for row in rows if row[2] == 10]


def test_every_output_token_is_in_the_time_line() -> None:
    numbers = np.random.default_rng(4)
    rows = [(0.01 * i, int(numbers.integers(1, 500)), int(numbers.integers(1, 9))) for i in range(200)]
    tally = run(tables(), limits(blocks=40), [arrivals(rows)], 2).tally
    assert tally.lines[:, TOKENS].sum() == pytest.approx(tally.totals[TOKENS_OUT], rel=1e-12)


def test_the_interval_is_the_wider_of_batches_and_seeds() -> None:
    """Of batches that agree within a seed and not between seeds, only the seeds count."""
    steady = measured([np.array([9.9, 10.1, 10.0, 10.0])])
    assert steady.high - steady.value == pytest.approx(student_95(3) * np.std([9.9, 10.1, 10, 10], ddof=1) / 2.0)
    apart = measured([np.array([9.0, 9.0]), np.array([11.0, 11.0])])
    assert (apart.value, apart.batches) == (10.0, 4)
    assert apart.high - apart.value == pytest.approx(student_95(1) * np.sqrt(2.0) / np.sqrt(2.0))
    assert student_95(20) == pytest.approx(2.09, abs=0.01)


ASKED = ("simulate", "--model", "qwen3-8b", "--chip", "h100-sxm", "--isl", "64", "--osl", "8", "--sequences", "4")


@pytest.mark.slow
def test_a_knee_needs_no_rate(cli: Cli) -> None:
    """Only the knee without a rate; beside the rest with one; both are the same, and so is the interface's."""
    import flashstill as fs

    asking = (*ASKED, "--knee", "--max-ttft", "60ms", "--json")
    alone = json.loads(cli(*asking).stdout)
    assert "latencies" not in alone
    beside = json.loads(cli(*asking[:-3], "--json", "--rate", "5", "--requests", "50").stdout)
    assert beside["finished"] == 50
    knee = alone["knee"]
    assert {name: knee[name] for name in ("rate", "low", "high")} == {
        name: beside["knee"][name] for name in ("rate", "low", "high")
    }
    asked: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "isl": 64, "osl": 8, "sequences": 4}
    found = fs.knee(**asked, max_ttft_s=0.06, percentile=90.0)
    assert found.rate == knee["rate"]
    assert found.low < found.rate < found.high
    assert found.bounds is not None
    assert found.bounds.rate > knee["bounds"]["rate"]
    assert found.closed_form == pytest.approx(found.rate, rel=0.05)
    assert (found.agrees, found.binds, found.speed) == (True, "sequences", None)
    assert found.bounds.binds == "ttft"
    assert 0.0 < found.bounds.low <= found.bounds.rate <= found.bounds.high <= found.rate
    assert found.as_records()[0]["bounds_rate"] == found.bounds.rate
    assert "<table" in found._repr_html_()
    below, above = (fs.simulate(**asked, rate=each * found.rate, requests=6000) for each in (0.9, 1.1))
    assert below.steady is not None
    assert above.steady is not None
    assert below.steady.is_steady
    assert not above.steady.is_steady
    assert "the engine's limit on running sequences binds" in cli(*ASKED, "--knee").stdout
    tight = fs.knee(**asked, max_ttft_s=1e-4)
    assert tight.bounds is not None
    assert (tight.bounds.rate, tight.bounds.binds) == (0.0, "ttft")
    with pytest.raises(fs.BadInput, match="unknown keyword of knee 'replica'; the nearest known: replicas"):
        fs.knee(**asked, replica=2)


@pytest.mark.slow
def test_the_knee_of_a_trace_is_a_speed(tmp_path: Path) -> None:
    """Twice the replicas serve the same trace at twice the speed; one longer than the model's context is no part."""
    import flashstill as fs

    path = tmp_path / "trace.csv"
    rows = [f"{0.1 * i},{100 + 7 * (i % 30)},{12 + i % 9}" for i in range(400)] + ["40,900000000,5"]
    path.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows), encoding="utf-8")
    asked: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "trace": path, "sequences": 8}
    one, two = (fs.knee(**asked, replicas=count) for count in (1, 2))
    assert one.speed == pytest.approx(one.rate / 10.0)
    assert two.closed_form == pytest.approx(2.0 * (one.closed_form or 0.0), rel=1e-12)
    assert two.low <= 2.0 * one.high
    assert two.high >= 2.0 * one.low
    assert one.closed_form == pytest.approx(one.rate, rel=0.05)


DEPLOYMENTS = [
    ({"model": "qwen3-8b", "chip": "h100-sxm", "isl": 600, "osl": 99, "least_ratio": 0.5, "sequences": 9}, "sequences"),
    ({"model": "llama-3.1-70b", "chip": "h100-sxm", "tp": 2, "engine": "trtllm", "isl": 5000, "osl": 120}, "memory"),
    ({"model": "llama-3.1-8b", "chip": "tpu-v6e", "isl": 40, "osl": 50, "step_tokens": 512}, "prefill"),
    ({"model": "qwen3-8b", "chip": "b200", "tp": 2, "isl": 2600, "osl": 50}, "compute"),
    ({"model": "qwen3-30b-a3b", "chip": "h200-sxm", "engine": "sglang", "isl": 99, "osl": 9, "least_ratio": 0.3},
     "compute"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "binds"), DEPLOYMENTS)
def test_closed_form_and_simulation_agree(asked: dict[str, Any], binds: str) -> None:
    import flashstill as fs

    found = fs.knee(**asked)
    assert found.binds == binds
    assert found.agrees
    assert found.closed_form == pytest.approx(found.rate, rel=0.03)
    assert not [note for note in found.notes if "disagree" in note]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--concurrency", "8"), "with 8 requests in flight waiting cannot grow without bound; give a rate or a trace"),
        (("--percentile", "100"), "the percentile of the bounds must lie between 0 and 100, not 100"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str) -> None:
    assert sentence in refuse(capsys, *ASKED, "--knee", *flags)
