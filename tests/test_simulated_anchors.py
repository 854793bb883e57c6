"""Served rows simulated at the protocol of their benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flashstill.facts import load
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.validation.anchors.launched import (
    ClosedLoop,
    as_launched,
    closed_loop,
    gathered_prompts,
    gathering_steps,
)
from flashstill.validation.anchors.packed import SHIPPED, unpacked
from flashstill.validation.anchors.serving import SERVING, Served, served
from flashstill.validation.calibration.doubtful import credible
from flashstill.validation.comparison import FITTED, LEFT_OUT, Comparison
from flashstill.validation.picture import picture, quantile_cells
from flashstill.validation.simulated import compare_simulated, departures, simulated_rows

FACTS = load()
LOOP = ClosedLoop(concurrency=4, isl=1024, osl=64, least_ratio=0.8, requests=40, step_tokens=None)
ROW = Served(
    case=Case.of(
        model="llama-3.1-70b", chip="h100-sxm", tp=4, precision="fp8", isl=922, osl=58, concurrency=4, engine="vllm",
        burst_share=0.1,
    ),
    tpot_s=0.012,
    ttft_s=0.11,
    loop=LOOP,
)  # fmt: skip


def test_how_rows_were_loaded() -> None:
    """InferenceX draws lengths from 0.8 of the nominal ones; one prompt of a sweep joins a step."""
    row = {"kind": "InferenceX nightly dump", "isl": "1024", "osl": "8192", "concurrency": "16", "backend": "vllm"}
    drawn = closed_loop(row)
    assert (drawn.requests, drawn.step_tokens, drawn.isl) == (160, None, 1024)
    assert drawn.least_ratio == pytest.approx(0.8)
    equal = closed_loop({**row, "kind": "aiconfigurator team sweep"})
    assert (equal.least_ratio, equal.step_tokens) == (1.0, 1024 + 16)
    assert closed_loop({**row, "kind": "aiconfigurator team sweep", "backend": "sglang"}).step_tokens is None


def test_how_long_scripts_let_prompts_wait_for_each_other() -> None:
    """Twenty steps for the first of those gathered, and half of that for those that come meanwhile."""
    assert gathering_steps(1e-6) == pytest.approx(0.9 * 20.0, rel=1e-3)
    assert gathering_steps(1e6) == pytest.approx(0.9 * 10.0, rel=1e-3)
    # By trial of arrivals at random, 0.07 a step: each waits until 20 steps after the first that found nobody waiting.
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(1.0 / 0.07, 100_000))
    waited, ends = [], -1.0
    for at in arrivals:
        ends = at + 20.0 if at > ends else ends
        waited.append(ends - at)
    assert gathering_steps(0.07) == pytest.approx(0.9 * np.mean(waited), rel=0.01)
    # Those that one wait ends for are prefilled together: how many others the mean request has beside it.
    _, together = np.unique(np.array(waited) + arrivals, return_counts=True)
    others = np.sum(together * (together - 1.0)) / np.sum(together)
    assert gathered_prompts(0.07) == pytest.approx(0.9 * others, rel=0.02)


def test_a_first_token_waits_for_prompts_gathered_with_it() -> None:
    """The row and load of TensorRT-LLM's script: its prompts say how many; others take their seconds to the first."""
    script = {
        "kind": "InferenceX nightly dump", "model": "meta-llama/Llama-3.1-70B", "gpu": "h100_sxm", "backend": "trtllm",
        "isl": "1024", "osl": "1024", "tp_size": "4", "concurrency": "36", "precision": "fp8",
    }  # fmt: skip
    mean = 36 / (0.9 * 1024) * 20.0
    assert closed_loop(script).gathered == pytest.approx(0.9 * mean * (2.0 + mean) / (1.0 + mean))
    assert closed_loop({**script, "tp_size": "8"}).gathered == 0.0
    assert closed_loop({**script, "osl": "8192"}).gathered == 0.0
    rows = [replace(ROW, loop=replace(LOOP, gathered=gathered)) for gathered in (0.0, 1.0, 2.0)]
    none, one, two = (found for found in simulated_rows(FACTS, rows) if found is not None)
    assert two.ttft_s - one.ttft_s == pytest.approx(one.ttft_s - none.ttft_s, rel=1e-6)
    # A prompt of 922 tokens on 4 chips: 2 x 70e9 x 922 operations at up to 4 x 1979 TFLOP/s are 16 ms at the least.
    assert 0.016 < one.ttft_s - none.ttft_s < 0.06
    assert one.tpot_s == none.tpot_s


def test_how_many_prompts_a_request_follows() -> None:
    """Equal lengths: the one being prefilled and its own; with steps scheduled ahead a third; or those gathered."""
    row = {
        "kind": "aiconfigurator team sweep", "model": "Qwen/Qwen3-32B", "gpu": "h100_sxm", "backend": "vllm",
        "backend_version": "0.12.0", "isl": "1024", "osl": "1024", "tp_size": "4", "concurrency": "36", "precision": "",
    }  # fmt: skip
    assert as_launched(row)["cohort"] == 2.0
    assert as_launched({**row, "backend_version": "0.14.0"})["cohort"] == 3.0
    assert as_launched({**row, "backend": "sglang"})["cohort"] == 2.0
    trtllm = {**row, "backend": "trtllm", "backend_version": "1.0.0rc3"}
    assert as_launched(trtllm)["cohort"] == 3.0
    short = {**trtllm, "model": "meta-llama/Llama-3.1-8B-Instruct"}
    assert as_launched(short)["cohort"] == 1.0
    varied = {**trtllm, "kind": "InferenceX nightly dump", "model": "meta-llama/Llama-3.1-70B", "backend_version": ""}
    assert as_launched({**varied, "osl": "8192"})["cohort"] == 1.0
    # A request ends every 0.9 x 1024 / 36 steps, in 20 of which 0.78 come on top of the first.
    assert as_launched(varied)["cohort"] == pytest.approx(1.0 + 20.0 * 36.0 / 921.6)


def test_one_request_more_than_a_server_runs_waits_for_an_answer() -> None:
    row = {
        "kind": "aiconfigurator team sweep", "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "h100_sxm",
        "backend": "trtllm", "backend_version": "1.0.0rc3", "isl": "1024", "osl": "512", "tp_size": "1",
        "concurrency": "9", "precision": "",
    }  # fmt: skip
    assert as_launched(row)["batching_steps"] == 512 / 8
    assert closed_loop(row).sequences == 8
    assert closed_loop({**row, "backend_version": "1.2.0"}).sequences is None
    # In a simulation the ninth request waits for one of eight answers, which are not delayed themselves.
    alone, short = (replace(ROW, loop=replace(LOOP, concurrency=9, requests=90, sequences=most)) for most in (None, 8))
    free, waiting = simulated_rows(FACTS, [alone, short])
    assert free is not None
    assert waiting is not None
    way_s = 0.02  # out to the client and in again: for so long nobody waits, as the one that comes next is not there
    assert waiting.ttft_s > free.ttft_s + 0.08 * 60 * free.tpot_s - way_s
    assert waiting.tpot_s < 1.05 * free.tpot_s
    assert as_launched({**row, "backend_version": "1.2.0"})["batching_steps"] == 0.0


def test_formats_are_those_of_the_checkpoint_and_of_the_launch() -> None:
    """fp8 is blocks of it where experts or the checkpoint of a sweep are; TensorRT-LLM there has a cache in fp8."""
    row = {
        "kind": "aiconfigurator team sweep", "model": "Qwen/Qwen3-32B", "gpu": "h100_sxm", "backend": "trtllm",
        "backend_version": "1.0.0rc3", "precision": "fp8", "isl": "1024", "osl": "512", "tp_size": "1",
        "concurrency": "8",
    }  # fmt: skip

    def formats(**changed: str) -> tuple[str | None, str | None]:
        launched = as_launched({**row, **changed})
        return launched["precision"], launched["kv_precision"]

    assert formats() == ("fp8-block", "fp8")
    assert formats(backend_version="1.2.0") == ("fp8", "fp8")
    assert formats(precision="") == (None, None)
    assert formats(backend="vllm", backend_version="0.12.0") == ("fp8", None)
    assert formats(kind="InferenceX nightly dump", moe_quant="fp8_block", backend_version="") == ("fp8-block", None)


def test_a_row_is_simulated_and_compared() -> None:
    found = simulated_rows(FACTS, [ROW, replace(ROW, loop=None)])
    assert found == simulated_rows(FACTS, [ROW, replace(ROW, loop=None)])
    latencies, none = found
    assert none is None
    assert latencies is not None
    closed = predict(FACTS, [ROW.case])[0]
    assert latencies.tpot_s == pytest.approx(closed.tpot_s, rel=0.1)
    assert latencies.ttft_s == pytest.approx(closed.ttft_s, rel=0.35)
    comparisons = {each.quantity: each for each in compare_simulated(FACTS, [ROW])}
    tpot = comparisons["tpot_s, simulated"]
    assert tpot.predicted[0] == latencies.tpot_s
    assert tpot.low is not None
    assert tpot.high is not None
    assert tpot.low[0] / latencies.tpot_s == pytest.approx(closed.tpot_low_s / closed.tpot_s)  # type: ignore[operator]
    rate = comparisons["output_tokens_per_s, simulated"].predicted[0]
    assert rate * (latencies.ttft_s + 57 * latencies.tpot_s) == pytest.approx(4 * 58)


def test_where_first_tokens_leave_their_floor() -> None:
    rows = [
        replace(ROW, ttft_s=measured, loop=replace(LOOP, concurrency=at))
        for at, measured in ((4, 0.1), (8, 0.11), (16, 0.3), (32, 0.9))
    ]
    assert departures(rows, [0.1, 0.1, 0.1, 0.3]) == (1, 1)
    assert departures(rows, [0.1, 0.1, 0.1, 0.1]) == (0, 1)
    assert departures(rows[:3], [0.1, 0.1, 0.1]) == (0, 0)


def test_the_picture_has_its_numbers() -> None:
    line = Comparison(
        anchor=SERVING, quantity="tpot_s", fitted=FITTED, measured=np.array([0.01, 0.02]),
        predicted=np.array([0.01, 0.04]), chip=("a", "a"), engine=("b", "b"),
    )  # fmt: skip
    left = replace(line, quantity="tpot_s, model left out", fitted=LEFT_OUT)
    titles, fitted, other = quantile_cells([line, left])
    assert len(titles) == len(fitted) == len(other)
    assert fitted[:3] == ("time per output token", "fitted", "2")
    assert fitted[-2:] == ("50%", "50%")
    drawn = picture([line, left])
    assert drawn.count("<path") == 2
    assert drawn.count("h0") == 4
    assert "model left out" in drawn
    assert picture([]) == ""
    assert len(quantile_cells([])) == 1


@pytest.mark.slow
def test_anchors_simulated() -> None:
    """A thinned set of the measurements: errors as published in docs/validation.md, with room for the thinning."""
    if not SHIPPED.is_dir():
        pytest.skip("the measurements are in the repository only")
    with unpacked(SHIPPED) as directory:
        rows = credible(FACTS, served(Path(directory)))
    few = [row for row in rows if row.loop is not None and row.loop.concurrency * row.loop.osl < 20_000][::25]
    errors = {each.quantity: np.abs(each.errors) for each in compare_simulated(FACTS, few)}
    assert len(errors["tpot_s, simulated"]) > 20
    assert errors["tpot_s, simulated"].mean() < 0.15
    assert errors["ttft_s, simulated"].mean() < 0.35
