"""Prompts in a simulated pipeline: the event loop, whose step is a round of all batches, against its passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.cost.phases import prefill_step
from flashstill.facts import load
from flashstill.parallel import Layout
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import resolve
from flashstill.plan.scenario import Scenario
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import limits_of, requests_of
from flashstill.simulate.tables import extra_cost
from flashstill.simulate.traffic import Traffic, generated
from tests.marks import slow
from tests.pipeline import Means, PassPrices, Pipeline

BUDGET = 2048
ASKED: dict[str, Any] = {"model": "llama-3.1-8b", "chip": "h100-sxm", "engine": "none"}


def both(stages: int, traffic: Traffic) -> tuple[Means, Means]:
    """Pass by pass, and as simulated."""
    deployment = Deployment(chip=ASKED["chip"], pp=stages, engine=ASKED["engine"])
    resolved = resolve(load(), Scenario(model=ASKED["model"], isl=traffic.isl, osl=traffic.osl), deployment)
    requests = next(generated(traffic, 0))
    context = float(requests.prompt.mean() + requests.output.mean() / 2.0)
    prices = PassPrices(resolved, traffic.concurrency or 64, BUDGET, context)
    passes = Pipeline(prices, stages, BUDGET, requests.arrival_s, requests.prompt, requests.output).run()
    given = {name: getattr(traffic, name) for name in ("concurrency", "rate", "requests", "isl", "osl", "least_ratio")}
    found = fs.simulate(
        **ASKED, pp=stages, step_tokens=BUDGET, **{name: value for name, value in given.items() if value is not None}
    )
    first, token = (found.latencies[name].mean_s for name in ("ttft_s", "tpot_s"))
    return passes, Means(first, token, found.output_tokens_per_s)


@pytest.mark.parametrize(
    ("stages", "traffic"),
    [
        (4, {"concurrency": 16, "isl": 2048, "osl": 24, "requests": 160}),
        *slow(
            (1, {"concurrency": 16, "isl": 2048, "osl": 24, "requests": 160}),
            (2, {"concurrency": 32, "isl": 1024, "osl": 64, "requests": 320}),
            (8, {"concurrency": 32, "isl": 1024, "osl": 48, "requests": 320}),
            (4, {"concurrency": 16, "isl": 8192, "osl": 64, "requests": 96}),
            (4, {"rate": 20.0, "isl": 2048, "osl": 32, "requests": 200}),
            (4, {"rate": 4.0, "isl": 8192, "osl": 32, "requests": 100}),
        ),
    ],
)
def test_a_step_is_a_round_of_passes(stages: int, traffic: dict[str, Any]) -> None:
    """Prompts of half a budget to four of them, which take most of the time. One stage is the same to three digits."""
    passes, found = both(stages, Traffic(least_ratio=0.6, **traffic))
    ratios = np.array(found) / np.array(passes)
    print(stages, traffic, ratios)
    assert ratios[1:] == pytest.approx(1.0, abs=0.005 if stages == 1 else 0.15)
    assert ratios[0] == pytest.approx(1.0, abs=0.005 if stages == 1 else 0.25)


@pytest.mark.parametrize("stages", [1, 4])
def test_each_batch_of_a_pipeline_has_the_budget_of_a_pass(stages: int) -> None:
    facts, deployment = load(), Deployment(chip="h100-sxm", pp=stages)
    resolved = resolve(facts, Scenario(model="llama-3.1-8b", isl=1024, osl=64), deployment)
    sizes = requests_of(Traffic(rate=1.0, isl=1024, osl=64), 0)[1]
    limits, _ = limits_of(facts, resolved, Policy(step_tokens=BUDGET), sizes)
    assert limits.tokens == stages * BUDGET


def test_chunks_of_one_prompt_follow_each_other_through_the_stages() -> None:
    """Three chunks of four stages take 3 + 3 stage times; a step without room for more hides what lies behind it."""
    resolved = resolve(
        load(), Scenario(model="llama-3.1-8b", isl=1024, osl=64), Deployment(chip="h100-sxm", pp=4, engine="none")
    )
    whole, under, layout = resolved.model, resolved.conditions, Layout(pp=4.0)
    for chunks, stages in ((1.0, 4.0), (3.0, 6.0), (4.0, 4.0)):
        past = (chunks - 1.0) / 2.0 * BUDGET  # of the chunk in the middle
        chunk_s = float(prefill_step(whole, under, layout, 1.0, float(BUDGET), past=past).seconds)
        tokens = chunks * BUDGET
        seconds, _ = extra_cost(whole, under, layout, 0.0, tokens, tokens / 2.0, 1024.0, 4.0 * BUDGET)
        assert float(seconds) == pytest.approx(stages / 4.0 * chunk_s, rel=1e-9)


@pytest.mark.parametrize("stages", [1, 2, 4])
def test_a_lone_prompt_of_whole_chunks_takes_what_the_closed_form_says(stages: int) -> None:
    """Up to one token short of a full step, which the tables took to be as fast as a full one with others behind it."""
    for tokens in (BUDGET // 2, *(BUDGET * chunks for chunks in range(1, stages)), BUDGET * stages - 1):
        asked = {**ASKED, "pp": stages, "isl": tokens, "osl": 4}
        found = fs.simulate(**asked, concurrency=1, requests=2, step_tokens=BUDGET)
        expected = fs.predict(**asked, batch=1, chunk=BUDGET)
        assert found.latencies["ttft_s"].mean_s == pytest.approx(expected.ttft_s, rel=0.02), tokens
