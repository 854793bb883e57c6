"""Requests whose lengths vary: the closed form against moments, limits and simulation."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import flashstill
from flashstill.cost.drain import run_per_steady
from flashstill.cost.lengths import decoding_tokens, held_deviation, long_request_tokens, reserved_tokens
from flashstill.cost.load import Load, chunks_of
from flashstill.errors import BadInput
from flashstill.simulate.traffic import Traffic, generated
from tests.commands import Cli

STACK: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm", "tp": 1, "engine": "vllm"}


@pytest.mark.parametrize("cv", [0.3, 0.58, 1.0, 1.5])
def test_moments_are_those_of_drawn_lengths_seen_at_random_moments(cv: float) -> None:
    numbers = np.random.default_rng(0)
    isl, osl = (numbers.gamma(1.0 / cv**2, mean * cv**2, 2_000_000) for mean in (700.0, 300.0))
    age = numbers.random(len(osl)) * osl  # a request is met with a weight of its answer, at any of its tokens
    mean = np.average(isl + age, weights=osl)
    deviation = np.average((isl + age - mean) ** 2, weights=osl) ** 0.5
    assert decoding_tokens(700.0, 300.0, cv) == pytest.approx(mean, rel=0.01)
    assert held_deviation(700.0, 300.0, cv, cv) == pytest.approx(deviation, rel=0.02)
    assert reserved_tokens(700.0, 300.0, cv) == pytest.approx(np.average(isl + osl, weights=osl), rel=0.01)
    assert np.mean(isl + osl > long_request_tokens(700.0, 300.0, cv, cv)) < 0.025


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0])
def test_attention_works_as_much_as_over_prompts_that_vary(cv: float) -> None:
    load = Load(isl=1000.0, osl=100.0, concurrency=8.0, isl_cv=cv)
    chunk = chunks_of(load, 1.0)
    pairs = chunk.length * (chunk.past + chunk.length / 2.0)
    assert pairs == pytest.approx(1000.0**2 * (1.0 + cv**2) / 2.0)  # E[n^2 / 2]


def test_longer_prompts_find_more_in_a_cache_and_compute_more() -> None:
    """cached_ratio is a share of every prompt: E[n_c (n_p + n_c/2)] for n_c = 0.6 n and n_p = 0.4 n."""
    load = Load(isl=1000.0, osl=100.0, concurrency=8.0, isl_cv=0.5, cached=400.0)
    chunk = chunks_of(load, 1.0)
    pairs = chunk.length * (chunk.past + chunk.length / 2.0)
    assert pairs == pytest.approx(1000.0**2 * (0.6 * 0.4 + 0.6**2 / 2.0) * (1.0 + 0.5**2))


@pytest.mark.parametrize("speculative", [False, True])
def test_equal_lengths_are_answered_as_if_nothing_were_said(speculative: bool) -> None:
    draft: dict[str, Any] = {"draft": "llama-3.2-1b"} if speculative else {}
    loads: list[dict[str, Any]] = [
        {"batch": 7},
        {"batch": 900, "isl": 3000},
        {"batch": 64, "burst_share": 1.0},
        {"batch": 64, "chunk": 300},
    ]
    for load in loads:
        said = flashstill.predict(**STACK, **load, **draft, isl_cv=0.0, osl_cv=0.0)
        assert said.as_dict() == flashstill.predict(**STACK, **load, **draft).as_dict()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_run_of_nearly_equal_lengths_takes_what_one_of_equal_ones_does(share: float) -> None:
    equal, nearly = (
        flashstill.predict(**STACK, batch=64, burst_share=share, isl_cv=cv, osl_cv=cv) for cv in (0.0, 1e-4)
    )
    for name in ("output_tokens_per_s", "ttft_s", "tpot_s", "joules_per_output_token"):
        assert getattr(nearly, name) == pytest.approx(getattr(equal, name), rel=2e-3), name


def test_the_longest_of_exponential_answers_is_as_expected() -> None:
    # all at once, a token takes as long whatever is in flight: the run is as long as the longest, H_n mean answers
    for requests in (2.0, 8.0, 64.0, 1024.0):
        expected = np.sum(1.0 / np.arange(1, int(requests) + 1))
        found = run_per_steady(100.0, 1.0, 1.0, requests, 0.0, 1.0, (1.0, 1.0, 1.0))
        assert found == pytest.approx(expected, rel=1e-3)


def test_a_run_has_an_end_only_if_it_begins_with_a_burst_and_answers_vary() -> None:
    for cv, share, running in ((0.0, 0.5, 64.0), (1.0, 0.0, 64.0), (1.0, 0.5, 1.0)):
        assert run_per_steady(100.0, cv, share, running, 0.3, 1.0, (0.2, 0.5, 1.0)) == 1.0


@pytest.mark.parametrize(("running", "share", "cv"), [(2, 0.1, 1.0), (4, 0.1, 1.0), (64, 0.02, 3.0), (64, 0.01, 3.0)])
def test_few_requests_and_wide_spreads_scatter_before_the_end(running: int, share: float, cv: float) -> None:
    """No run ends before the mean of what is left: those too varied to be in step have scattered."""
    asked = {**STACK, "isl": 512, "osl": 256, "osl_cv": cv}
    predicted = flashstill.predict(**asked, batch=running, burst_share=share).output_tokens_per_s
    runs = [
        flashstill.simulate(**asked, concurrency=running, requests=round(running / share), spacing_s=1e-3, seed=seed)
        for seed in range(8)
    ]
    assert predicted == pytest.approx(np.mean([run.output_tokens_per_s for run in runs]), rel=0.1)


@pytest.mark.parametrize("share", [1e-300, 1e-6, 0.1, 1.0])
@pytest.mark.parametrize("cv", [1e-160, 1e-9, 1e-3, 3.0])
def test_a_run_takes_longer_with_its_end_whatever_varies_little_or_much(share: float, cv: float) -> None:
    """Warnings are errors here: no term may divide nothing by nothing, of one request and a rounding error as well."""
    running = np.array([np.nextafter(1.0, 2.0), 1.0 + 1e-9, 2.0, 3.0, 1e6])
    found = run_per_steady(100.0, cv, share, running, 0.0, 1.0, (1.0, 1.0, 1.0))
    assert np.all(np.isfinite(found))
    assert np.all(np.asarray(found) >= 1.0 - 1e-6)


def test_a_long_request_is_within_the_context_for_every_command() -> None:
    """Beyond its context of 8192 tokens a model gets no request, so that no room is needed for it."""
    asked = flashstill.Scenario(model="llama-3-8b", isl=4000, osl=4000, isl_cv=3.0, osl_cv=3.0, batch=1)
    used = flashstill.Deployment(chip="l4", engine="vllm")
    equal = flashstill.Scenario(model="llama-3-8b", isl=4000, osl=4000, batch=1)
    assert flashstill.predict(asked, used).deployment.chips == flashstill.predict(equal, used).deployment.chips == 1
    assert flashstill.explain(asked, used).as_records()[0]["fits"]
    assert long_request_tokens(4000.0, 5000.0, 3.0, 3.0, 8192.0) == 9000.0


def test_a_load_that_goes_on_keeps_littles_law() -> None:
    varied = flashstill.predict(**STACK, batch=64, burst_share=0.0, isl_cv=1.0, osl_cv=1.0)
    assert varied.tpot_s is not None
    assert varied.ttft_s is not None
    stay = varied.ttft_s + (1024 - 1) * varied.tpot_s
    assert varied.output_tokens_per_s == pytest.approx(64 * 1024 / stay, rel=1e-12)


def test_longer_answers_stay_longer_so_that_fewer_requests_fit() -> None:
    equal, varied = (flashstill.predict(**STACK, batch=600, osl_cv=cv) for cv in (0.0, 1.0))
    assert varied.sequences_fit is not None
    assert equal.sequences_fit is not None
    assert varied.sequences_fit == pytest.approx(equal.sequences_fit * (1024 + 512) / (1024 + 1024), rel=1e-6)
    assert varied.running is not None
    assert equal.running is not None
    assert varied.running < equal.running


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
@pytest.mark.parametrize(("cv", "share"), [(0.58, 0.1), (0.58, 0.0), (1.0, 0.0), (0.58, 0.25), (0.8, 1.0)])
def test_closed_form_and_simulation_agree(model: str, cv: float, share: float) -> None:
    stack = {**STACK, "model": model, "isl": 512, "osl": 256}
    requests = round(64 / share) if share else 64 * 40
    predicted = flashstill.predict(**stack, batch=64, burst_share=share, isl_cv=cv, osl_cv=cv)
    runs = [
        flashstill.simulate(**stack, concurrency=64, requests=requests, isl_cv=cv, osl_cv=cv, spacing_s=1e-3, seed=seed)
        for seed in range(6)
    ]
    rate = np.mean([run.output_tokens_per_s for run in runs])
    joules = np.mean([run.joules_per_output_token for run in runs])
    tpot = np.mean([run.latencies["tpot_s"].mean_s for run in runs])
    assert predicted.output_tokens_per_s == pytest.approx(rate, rel=0.15 if share == 1.0 else 0.08)
    assert predicted.joules_per_output_token == pytest.approx(joules, rel=0.12)
    if share < 1.0:  # in a burst the shortest answers wait for all prompts, over few tokens
        assert predicted.tpot_s == pytest.approx(tpot, rel=0.08)


def test_search_and_predict_price_varied_lengths_alike() -> None:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "isl_cv": 0.8, "osl_cv": 0.9, "burst_share": 0.3}
    found = flashstill.search(**asked, chips="h100-sxm", max_chips=2, batches=(16, 64), tiers=("memory",))
    for row in found.front:
        used = {name: getattr(row, name) for name in ("tp", "pp", "ep", "dp", "precision", "kv_precision")}
        answer = flashstill.predict(**asked, chip="h100-sxm", batch=row.batch, **used)
        assert answer.output_tokens_per_s == pytest.approx(row.output_tokens_per_s, rel=1e-6)
        assert answer.joules_per_output_token == pytest.approx(row.joules_per_output_token, rel=1e-6)


def test_drawn_lengths_have_the_mean_and_variation_asked_for_and_repeat_by_seed() -> None:
    traffic = Traffic(rate=10.0, requests=200_000, isl=400, osl=200, isl_cv=1.0, osl_cv=0.5)
    piece = next(generated(traffic, 3))
    for drawn, mean, cv in ((piece.prompt, 400, 1.0), (piece.output, 200, 0.5)):
        assert drawn.mean() == pytest.approx(mean, rel=0.01)
        assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.01)
        assert drawn.min() >= 1
    again = next(generated(traffic, 3))
    assert np.array_equal(piece.output, again.output)


def test_short_lengths_that_vary_much_keep_their_mean() -> None:
    traffic = Traffic(rate=10.0, requests=200_000, isl=10, osl=2, isl_cv=3.0, osl_cv=3.0)
    piece = next(generated(traffic, 3))
    assert piece.prompt.min() == piece.output.min() == 1
    assert piece.prompt.mean() == pytest.approx(10.0, rel=0.05)
    assert piece.output.mean() == pytest.approx(2.0, rel=0.05)
    assert piece.prompt.std() == pytest.approx(30.0, rel=0.05)


def test_lengths_of_one_token_do_not_vary() -> None:
    for name in ("isl", "osl"):
        asked: dict[str, Any] = {name: 1, f"{name}_cv": 0.5}
        with pytest.raises(BadInput, match=f"{name} is 1, below which no length is, .* leave {name}_cv out"):
            flashstill.predict(**STACK, **asked)
        with pytest.raises(BadInput, match=f"leave {name}_cv out"):
            Traffic(rate=1.0, **asked)
    assert flashstill.predict(**STACK, osl=1, isl_cv=0.5).fits


@pytest.mark.parametrize("value", [-0.1, 3.5, float("nan")])
def test_what_is_no_variation_is_refused(value: float) -> None:
    with pytest.raises(BadInput, match="osl_cv must lie between 0 and 3"):
        flashstill.predict(**STACK, osl_cv=value)
    with pytest.raises(BadInput, match="osl_cv must lie between 0 and 3"):
        Traffic(rate=1.0, osl_cv=value)


def test_lengths_vary_in_one_way_only() -> None:
    with pytest.raises(BadInput, match="leave osl_cv out"):
        Traffic(rate=1.0, osl_cv=0.5, least_ratio=0.8)
    with pytest.raises(BadInput, match="isl_cv has no effect with agents"):
        Traffic(agents=2, isl_cv=0.5)


def test_the_commands_take_them(cli: Cli) -> None:
    shared = ["--model", "llama-3.1-8b", "--chip", "h100-sxm", "--isl-cv", "1", "--osl-cv", "0.7", "--json"]
    predicted = json.loads(cli("predict", "--concurrency", "64", *shared).stdout)
    assert predicted["question"]["osl_cv"] == 0.7
    simulated = json.loads(cli("simulate", "--concurrency", "16", "--requests", "64", *shared).stdout)
    assert simulated["output_tokens_per_s"] > 0
