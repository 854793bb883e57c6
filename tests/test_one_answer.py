"""A question has one answer: explain, predict, plan and a family's report, over random deployments."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cli import main
from flashstill.cost import Load, serve
from flashstill.cost.load import prompts_together
from flashstill.cost.phases import batch_step, decode_step
from flashstill.economics import BASES, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan
from flashstill.hardware.software import software_of
from flashstill.parallel import Layout
from flashstill.plan import Explanation, explain, resolve
from flashstill.plan.case import Case
from flashstill.plan.deployment import AS_PUBLISHED
from flashstill.plan.grid import price_grid
from flashstill.plan.launch import pick
from flashstill.plan.predict import completed, predict
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.space import SearchSpace
from flashstill.plan.tables import candidates, priced
from tests.deployments import CHIPS, FACTS, deployed, explained, random_case
from tests.marks import slow

FEW, MANY = 16, 2000


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9)


def ask(model: str, chip: str, **more: Any) -> Prediction:
    (answer,) = predict(FACTS, [Case.of(model=model, chip=chip, **more)])
    return answer


def step_of(case: Case, batch: int | None = None) -> Explanation:
    """`explain` for the deployment of a case, at the context at which serving decodes on average."""
    scenario, deployment = case
    context = scenario.isl + scenario.osl // 2
    asked = Scenario(model=scenario.model, batch=batch or scenario.batch, context=context)
    return explain(FACTS, asked, deployment)


def check(case: Case, searching: bool) -> bool:
    """Everything that must hold of a case; whether it was answered with all its requests running."""
    (answer,) = predict(FACTS, [case])
    if not answer.fits:
        assert answer.reason
        return False
    whole = completed(FACTS, case)
    requests_times_tokens(case, answer)
    never_slower_without_an_engine(whole, answer)
    if case.deployment.has_prefill_pool:
        pools_as_predicted(case, whole, answer)
        return True
    if answer.running is None or answer.running < case.scenario.batch:
        return False
    explained_as_predicted(case, whole, answer)
    planned_as_predicted(whole, answer, searching)
    return True


def requests_times_tokens(case: Case, answer: Prediction) -> None:
    """Little's law: tokens/s x the seconds that a request stays = requests x their tokens."""
    assert answer.output_tokens_per_s is not None
    assert answer.ttft_s is not None
    assert (answer.tpot_s is None) == (case.scenario.osl == 1)
    stay = answer.ttft_s + (case.scenario.osl - 1) * (answer.tpot_s or 0.0)
    assert answer.output_tokens_per_s * stay == near(case.scenario.batch * case.scenario.osl)


def never_slower_without_an_engine(case: Case, answer: Prediction) -> None:
    """In every time and in the rate. An engine that prefills before it decodes buys first tokens with slower others,
    so first tokens are compared between engines that mix both in their steps; and there with a little room, as the
    prompts of slower answers come less often, and wait less for each other. Through a pipeline a prompt by itself takes
    its way a little sooner than one with sequences that decode: times and rates of either kind are compared there.
    Where a power limit binds, joules decide, and products that an engine runs in 0.9 of the time of those timed alone
    are active for less of it: a thousandth of room."""
    names = ("none", "vllm", "sglang", "trtllm")
    alone, *others = predict(FACTS, [case.but(engine=name) for name in names])
    for engine, other in zip(names[1:], others, strict=True):
        if alone.running != other.running:
            continue  # more room, more requests at a time: another question
        mixes = software_of(FACTS, engine).mixed_ratio == software_of(FACTS, "none").mixed_ratio
        staged = not mixes and (case.deployment.pp or 1) > 1
        for name in ("decode_step_s",) if staged else ("ttft_s", "tpot_s", "decode_step_s")[not mixes :]:
            ours, theirs = getattr(alone, name), getattr(other, name)
            room = 0.08 if name == "ttft_s" else 1e-3
            assert ours is None or ours <= theirs * (1 + room), name
        rate = (alone.output_tokens_per_s or 0.0) * (1 + 1e-3)
        assert staged or rate >= (other.output_tokens_per_s or 0.0)


def pools_as_predicted(case: Case, whole: Case, answer: Prediction) -> None:
    """The decode pool's step is that of the sequences which decode, and everything filled in changes nothing."""
    (again,) = predict(FACTS, [whole])
    assert again == answer
    found, running = resolve(FACTS, *case), answer.running
    assert running is not None
    step = batch_step(found.model, found.conditions, found.layout, running, case.scenario.mean_tokens)
    assert float(step.seconds) == near(answer.decode_step_s)
    assert running <= case.scenario.batch
    assert answer.prefill_busy_share is not None
    assert 0 < answer.prefill_busy_share <= 1
    paid = hourly_price(FACTS, found.chip.name, "rented")
    rate, watts = answer.output_tokens_per_s or 0.0, answer.watts_per_chip
    usd = usd_per_million_tokens(paid, 1.0, float(found.all_chips), rate, watts)
    assert usd == near(answer.usd_per_million_output_tokens)


def explained_as_predicted(case: Case, whole: Case, answer: Prediction) -> None:
    if case.scenario.osl == 1:
        return
    found, told = step_of(case), step_of(whole).as_dict()
    assert found.resolved.degrees == resolve(FACTS, *case).degrees
    assert found.as_dict() == told
    assert explain(FACTS, *case).as_dict() == told
    assert told["seconds"] == near(answer.decode_step_s)
    assert told["joules_per_token"]["total"] == near(answer.decode_joules_per_token)
    assert told["usd_per_million_tokens"] == near(answer.decode_usd_per_million_tokens)
    assert told["price_basis"] == answer.price_basis
    price = hourly_price(FACTS, found.resolved.chip.name)
    for usd, watts in (
        (told["usd_per_chip_hour"], told["watts_per_chip"]),
        (answer.usd_per_chip_hour, answer.watts_per_chip or 0.0),
    ):
        assert usd == price.at(watts).usd_per_hour  # an owned chip's hour pays for the power of its own question
    assert told["tokens_per_s"] * told["seconds"] == near(case.scenario.batch)
    assert found.perfect_seconds <= told["seconds"] * (1 + 1e-9)
    assert float(found.cost.timed_joules) >= 0.999 * told["chips"] * found.resolved.chip.idle_w * told["seconds"]
    falls_with_the_batch(whole, found)
    reported_as_explained(whole, found)


def reported_as_explained(case: Case, found: Explanation) -> None:
    """A family's report prices the same deployment by a grid of batches."""
    batch, told = case.scenario.batch, found.as_dict()
    rows = price_grid(FACTS, [found.resolved.model], [case.deployment], [batch, 1], int(found.context))
    row = next(row for row in rows if (row.phase, row.batch) == ("decode", batch))
    assert (row.chip, row.chips, row.precision) == (told["chip"], told["chips"], told["precision"])
    # vector units round the powers of several batches at once otherwise than those of one, in the last digit
    assert (row.seconds, row.tokens_per_s) == near((told["seconds"], told["tokens_per_s"]))
    assert row.joules_per_token == near(told["joules_per_token"])
    assert row.wall_joules_per_token == near(told["wall_joules_per_token"])
    assert row.usd_per_million_tokens == near(told["usd_per_million_tokens"])
    assert row.price_basis == told["price_basis"]
    assert row.watts_per_chip == near(told["watts_per_chip"])
    assert row.bound == told["bound"]


def falls_with_the_batch(case: Case, found: Explanation) -> None:
    """Joules per token never rise with the batch while weights dominate."""
    try:
        twice = step_of(case, 2 * case.scenario.batch)
    except FlashstillError:
        return
    joules = twice.joules_per_token
    if joules["weights"] > joules["total"] / 2.0:
        assert joules["total"] <= found.joules_per_token["total"] * (1 + 1e-9)


def planned_as_predicted(case: Case, answer: Prediction, searching: bool) -> None:
    """The same layout among the candidates of a search, whose points are priced on another path."""
    used, scenario = case.deployment, case.scenario
    degrees = [used.tp, used.pp, used.ep, used.dp, used.redundant_experts]
    if not all(degree and degree & (degree - 1) == 0 for degree in degrees[:4]):
        return
    found = resolve(FACTS, *case)
    chips = found.degrees.chips
    if chips > 64 or (found.degrees.dp > 1 and not found.model.routed):
        return
    chosen = candidates(*layouts_of(found.model, chips, (used.redundant_experts,)), (scenario.batch,))
    same = np.equal(chosen.degrees[:, :, 0].T, np.array(degrees, dtype=np.float64)).all(axis=1)
    (at,) = np.flatnonzero(same)
    load = Load(
        isl=float(scenario.isl), osl=float(scenario.osl), concurrency=scenario.batch, burst_share=scenario.burst_share,
        cohort=scenario.cohort,
    )  # fmt: skip
    pace = priced(found.model, found.conditions, chosen, load).pace
    assert float(np.asarray(pace.output_tokens_per_s)[at, 0]) == answer.output_tokens_per_s
    assert float(np.asarray(pace.ttft_s)[at, 0]) == answer.ttft_s
    assert float(np.asarray(pace.tpot_s)[at, 0]) == (answer.tpot_s or 0.0)
    # A search adds up the joules of all levels before it takes the share of the stages that work: the last bit differs.
    joules = float(np.asarray(pace.joules_per_output_token)[at, 0])
    assert joules == pytest.approx(answer.joules_per_output_token, rel=1e-14)
    if searching and used.sampling == "greedy" and used.weights_in == used.kv_in:
        on_or_behind_the_front(case, answer)


def on_or_behind_the_front(case: Case, answer: Prediction) -> None:
    """Of a search over this chip, batch, formats, memory and engine: the same figures, or something no worse."""
    scenario, used = case
    space = SearchSpace(
        chips=(used.chip,), max_chips=used.chips or 1, batches=(scenario.batch,), precisions=(used.precision or "",),
        kv_precisions=(used.kv_precision,), tiers=(used.weights_in or "",), engine=used.engine,
        redundant_experts=(used.redundant_experts,), overlaps=(used.overlap,),
    )  # fmt: skip
    if scenario.batch < (used.dp or 1):
        return  # a search leaves empty groups out
    ours = (
        answer.tpot_s or 0.0,
        -(answer.output_tokens_per_s or 0.0) / (used.chips or 1),
        answer.joules_per_output_token or 0.0,
        answer.usd_per_million_output_tokens or 0.0,
    )
    no_worse = False
    for point in search(FACTS, scenario, space).front:
        theirs = (
            point.tpot_s or 0.0,
            -point.tokens_per_s_per_chip,
            point.joules_per_output_token,
            point.usd_per_million_output_tokens or 0.0,
        )
        if (point.tp, point.pp, point.ep, point.dp) == (used.tp, used.pp, used.ep, used.dp):
            assert (point.redundant_experts, point.overlap) == (used.redundant_experts, used.overlap)
            assert (point.tpot_s, point.ttft_s) == (answer.tpot_s, answer.ttft_s)
            assert point.output_tokens_per_s == answer.output_tokens_per_s
            # an owned chip's dollars contain its joules
            assert point.usd_per_million_output_tokens == pytest.approx(answer.usd_per_million_output_tokens, rel=1e-14)
            assert point.joules_per_output_token == pytest.approx(answer.joules_per_output_token, rel=1e-14)
        no_worse |= all(their <= our + 1e-12 * abs(our) for our, their in zip(ours, theirs, strict=True))
    assert no_worse, "predict found what the front of the search misses"


def check_many(count: int, seed: int, folder: Path, search_every: int) -> None:
    draw = random.Random(seed)
    answered = 0
    for number in range(count):
        case = random_case(draw, folder)
        try:
            answered += check(case, number % search_every == 0)
        except AssertionError as error:
            raise AssertionError(f"case {number} of seed {seed}: {case}") from error
    assert answered > count / 4


@pytest.mark.slow
def test_random_deployments(tmp_path: Path) -> None:
    check_many(FEW, 17, tmp_path, 8)


@pytest.mark.slow
def test_two_thousand_random_deployments(tmp_path: Path) -> None:
    check_many(MANY, 2026, tmp_path, 1)


@pytest.mark.parametrize(
    ("model", "chip", "chips"),
    [("gpt-oss-120b", "h200-sxm", 8), *slow(("deepseek-v3", "h200-sxm", 8), ("qwen3-32b", "b200", 2))],
)
def test_commands_agree(capsys: pytest.CaptureFixture[str], model: str, chip: str, chips: int) -> None:
    """The flags alone: no layout, format or engine is said, and all four commands mean the same deployment."""

    def told(command: str, *more: str) -> Any:
        main([command, "--model", model, "--chip", chip, "--chips", str(chips), *more, "--json"])
        return json.loads(capsys.readouterr().out)

    step = told("explain", "--batch", "16", "--context", "1536")
    served = told("predict", "--concurrency", "16", "--isl", "1024", "--osl", "1024")
    assert (step["precision"], step["engine"]) == (AS_PUBLISHED, "vllm")
    assert step["seconds"] == near(served["decode_step_s"])
    assert step["joules_per_token"]["total"] == near(served["decode_joules_per_token"])
    assert step["usd_per_million_tokens"] == near(served["decode_usd_per_million_tokens"])
    assert step["usd_per_million_tokens"] < served["usd_per_million_output_tokens"]
    shape = load_architecture(model)
    row = next(row for row in price_grid(FACTS, [shape], [chip], [16], 1536) if row.phase == "decode")
    if row.chips == chips:
        assert (row.seconds, row.usd_per_million_tokens) == (
            near(step["seconds"]),
            near(step["usd_per_million_tokens"]),
        )
        assert row.joules_per_token["total"] == near(step["joules_per_token"]["total"])
    space = SearchSpace(chips=(chip,), max_chips=chips, batches=(16,), tiers=("memory",))
    degrees = (step["layout"]["tp"], step["layout"]["pp"], step["layout"]["ep"], step["layout"]["dp"])
    for point in search(FACTS, Scenario(model=model), space).front:
        if (point.tp, point.pp, point.ep, point.dp) == degrees:
            assert point.usd_per_million_output_tokens == near(served["usd_per_million_output_tokens"])
            assert point.tpot_s == near(served["tpot_s"])
            assert point.joules_per_output_token == near(served["joules_per_output_token"])


class TestABatchSmallerThanThePipeline:
    CASE = Case.of(
        model="llama-3.1-8b", chip="tpu-v5p", weights_in="sram", kv_in="sram", concurrency=1, isl=64, osl=128, chips=256
    )

    def test_one_sequence_is_one_sequence(self) -> None:
        found = step_of(self.CASE)
        told = found.as_dict()
        made, cost = found.resolved, found.cost
        assert (made.degrees.tp, made.degrees.pp) == (32, 8)
        assert told["tokens_per_s"] * told["seconds"] == near(1.0)
        # All chips wait for the time of the step; the work is that of one sequence, however many stages there are.
        assert float(cost.timed_joules) >= 256 * made.chip.idle_w * told["seconds"] * (1 - 1e-9)
        full = decode_step(made.model, made.conditions, made.layout, 1.0, 128.0)
        assert float(cost.seconds) == near(float(full.seconds))
        assert float(cost.work_joules) == near(float(full.work_joules) / 8.0)
        assert float(cost.macs) == near(float(full.macs) / 8.0)
        assert "1 of 8 pipeline stages works at a time" in told["note"]

    def test_it_takes_as_long_as_a_full_pipeline_and_each_token_costs_more(self) -> None:
        one, full = (step_of(self.CASE, batch) for batch in (1, 8))
        assert float(one.cost.seconds) == near(float(full.cost.seconds))
        assert float(one.cost.timed_joules) == near(float(full.cost.timed_joules))
        assert float(one.cost.work_joules) == near(float(full.cost.work_joules) / 8.0)
        assert one.as_dict()["usd_per_million_tokens"] == near(8.0 * full.as_dict()["usd_per_million_tokens"])

    @pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
    def test_empty_groups_cost_and_are_told(self, model: str) -> None:
        few, many = (ask(model, "h100-sxm", tp=1, dp=dp, concurrency=4, isl=128, osl=256) for dp in (4, 64))
        assert few.usd_per_million_output_tokens is not None
        assert many.usd_per_million_output_tokens is not None
        assert many.usd_per_million_output_tokens > 8 * few.usd_per_million_output_tokens
        assert (many.joules_per_output_token or 0.0) > 4 * (few.joules_per_output_token or 0.0)
        assert "60 of 64 data-parallel groups have no sequence" in many.note
        assert "data-parallel" not in few.note

    def test_chips_without_links_stand_alone(self) -> None:
        lone = {key: rows for key, rows in FACTS.rows.items() if key != ("h100-sxm", "link_bytes_per_s")}
        facts = dataclasses.replace(FACTS, rows=lone)
        model = load_architecture("llama-3.1-8b")
        for degree in ({"tp": 2}, {"pp": 2}, {"chips": 4}):
            (answer,) = predict(facts, [Case.of(model=model.name, chip="h100-sxm", **degree)])
            assert "no links between them" in answer.reason
            with pytest.raises(InfeasiblePlan, match="no links between them"):
                deployed(facts, model, "h100-sxm", 1, 512, **degree)
        replicas = deployed(facts, model, "h100-sxm", 4, 512, dp=4)
        assert replicas.chips == 4

    def test_a_fleet_that_no_network_joins(self) -> None:
        answer = ask("llama-3.1-8b", "h100-sxm", dp=1_000_000)
        assert not answer.fits
        assert "1,000,000 chips are more than any network connects" in answer.reason


class TestOneOutputToken:
    def test_it_has_no_time_per_token_after_the_first(self, capsys: pytest.CaptureFixture[str]) -> None:
        main(["predict", "--model", "qwen3-32b", "--chip", "h100-sxm", "--tp", "2", "--osl", "1", "--json"])
        told = json.loads(capsys.readouterr().out)
        assert told["fits"] is True
        assert [told[name] for name in ("tpot_s", "tpot_low_s", "tpot_high_s", "decode_step_s")] == [None] * 4
        assert told["output_tokens_per_s"] * told["ttft_s"] == near(16.0)

    def test_it_is_a_prefill_and_nothing_else(self) -> None:
        one, two = (ask("qwen3-32b", "h100-sxm", tp=2, osl=osl) for osl in (1, 2))
        assert one.joules_per_output_token is not None
        assert two.joules_per_output_token is not None
        assert one.joules_per_output_token < 2 * two.joules_per_output_token
        assert two.tpot_s is not None
        assert "no time per output token" in one.note

    @pytest.mark.parametrize("stages", [1, 4])
    def test_a_prompt_is_worked_on_once_and_no_faster_than_it_can_be(self, stages: int) -> None:
        found = resolve(FACTS, *Case.of(model="llama-3.1-8b", chip="h100-sxm", pp=stages, osl=1, concurrency=64))
        conditions, load = found.conditions, Load(isl=1024.0, osl=1.0, concurrency=64.0)
        served = serve(found.model, conditions, found.degrees.layout, load)
        prompts = prompts_together(conditions, load, found.degrees.layout.local_batch(64.0))
        # As many prompts as stages are under way in the time of a pass, and each of them is worked on once.
        assert float(served.output_tokens_per_s) * float(served.prefill.seconds) <= stages * float(prompts) * (1 + 1e-9)
        alone = serve(found.model, conditions, Layout(), load).prefill
        waited = float(served.prefill.timed_joules) / (stages * float(prompts))
        work = float(served.joules_per_output_token) - waited
        together = float(prompts_together(conditions, load, 64.0))
        assert work == pytest.approx(float(alone.work_joules) / together, rel=0.02)

    def test_stages_prefill_side_by_side_while_answers_are_decoded(self) -> None:
        one, four = (
            ask("llama-3.1-8b", "h100-sxm", tp=1, pp=stages, isl=4096, osl=8, concurrency=64 * stages)
            for stages in (1, 4)
        )
        assert one.output_tokens_per_s is not None
        assert four.output_tokens_per_s == pytest.approx(4.0 * one.output_tokens_per_s, rel=0.05)
        assert four.joules_per_output_token == pytest.approx(one.joules_per_output_token, rel=0.05)

    def test_in_a_plan(self) -> None:
        asked = Scenario(model="qwen3-8b", isl=512, osl=1), SearchSpace(chips=("h100-sxm",), max_chips=2)
        front = search(FACTS, *asked).front
        assert all(point.tpot_s is None for point in front)
        with pytest.raises(
            BadInput, match="no point has a figure for tpot; pick by another of throughput, joules, dollars"
        ):
            pick(front, "tpot")
        with pytest.raises(BadInput, match="no time per token after the first"):
            search(FACTS, dataclasses.replace(asked[0], max_tpot_s=0.1), asked[1])


@pytest.mark.parametrize("chip", ["h100-sxm", *slow("h800-sxm", "b200", "mi300x", "tpu-v5p", "groq-lp30")])
@pytest.mark.parametrize(
    ("model", "tp", "dp"),
    [("deepseek-v3", 4, 32), *slow(("llama-3.1-70b", 8, 1), ("qwen3-30b-a3b", 1, 8), ("gpt-oss-120b", 8, 1))],
)
def test_no_engine_is_never_slower(model: str, chip: str, tp: int, dp: int) -> None:
    for concurrency in (8, 512):
        case = Case.of(model=model, chip=chip, tp=tp, dp=dp, concurrency=concurrency)
        (answer,) = predict(FACTS, [case])
        if answer.fits:
            never_slower_without_an_engine(case, answer)


class TestPrices:
    @pytest.mark.parametrize("basis", BASES)
    def test_every_chip_is_priced_on_every_basis_or_says_what_else_it_is(self, basis: str) -> None:
        words = {"rented": "rented", "owned": "owned", "list": "list price"}[basis]
        for chip in CHIPS:
            price = hourly_price(FACTS, chip, basis)
            assert price.usd_per_hour is None or price.usd_per_hour > 0, chip
            assert price.basis.startswith(words) or ", as no " in price.basis, chip
            if price.usd_per_hour is not None:
                assert "20" in price.basis, chip  # the date

    def test_one_basis_for_all_chips_of_a_question(self) -> None:
        space = SearchSpace(chips=("h100-sxm", "h200-sxm", "mi300x"), max_chips=1)
        asked = Scenario(model="qwen3-8b", isl=512, osl=512), space
        rented = search(FACTS, *asked).prices
        assert [rented[name].basis.split(":")[0] for name in ("h100-sxm", "h200-sxm")] == ["rented", "rented"]
        assert rented["mi300x"].basis.startswith("owned, as no rent is known")
        owned = search(FACTS, *asked, "owned").prices
        assert all(price.basis.startswith("owned:") for price in owned.values())

    @pytest.mark.parametrize("basis", BASES)
    def test_commands_take_it(self, capsys: pytest.CaptureFixture[str], basis: str) -> None:
        told = []
        for command in (("explain", "--batch", "1"), ("predict", "--concurrency", "1")):
            main([*command, "--model", "qwen3-8b", "--chip", "h200-sxm", "--price", basis, "--json"])
            told.append(json.loads(capsys.readouterr().out))
        main(
            ["plan", "--model", "qwen3-8b", "--chips-from", "h200-sxm", "--max-chips", "1", "--price", basis, "--json"]
        )
        told += json.loads(capsys.readouterr().out)["front"]
        price = hourly_price(FACTS, "h200-sxm", basis)
        for row in told:
            paid = price.at(row["watts_per_chip"])  # an owned chip's hour pays for the predicted power
            assert (row["usd_per_chip_hour"], row["price_basis"]) == (near(paid.usd_per_hour or 0.0), paid.basis)

    def test_what_an_owner_accounts_is_no_rent(self) -> None:
        assert hourly_price(FACTS, "h800-sxm").usd_per_hour == 3.42
        assert hourly_price(FACTS, "h100-sxm").usd_per_hour != hourly_price(FACTS, "h100-sxm", "list").usd_per_hour

    def test_another_word(self, capsys: pytest.CaptureFixture[str]) -> None:
        for command in (
            ("explain", "--batch", "1", "--chip"),
            ("predict", "--chip"),
            ("plan", "--max-chips", "1", "--chips-from"),
        ):
            with pytest.raises(SystemExit) as stop:
                main([*command, "h200-sxm", "--model", "qwen3-8b", "--price", "leased"])
            assert stop.value.code == 2
            assert "unknown price basis 'leased'" in capsys.readouterr().err

    def test_a_chip_without_a_price_is_answered_without_dollars(self) -> None:
        rows = {
            key: value for key, value in FACTS.rows.items() if not (key[0] == "h200-sxm" and key[1].startswith("usd_"))
        }
        facts = dataclasses.replace(FACTS, rows=rows)
        (answer,) = predict(facts, [Case.of(model="qwen3-8b", chip="h200-sxm")])
        assert answer.fits
        assert (answer.usd_per_million_output_tokens, answer.usd_per_chip_hour) == (None, None)
        assert answer.price_basis == "no price is known"
        model = load_architecture("qwen3-8b")
        told = explained(facts, model, "h200-sxm", 1, 512).as_dict()
        assert told["usd_per_million_tokens"] is None
        assert all(row.usd_per_million_tokens is None for row in price_grid(facts, [model], ["h200-sxm"], [1], 512))
        space = SearchSpace(chips=("h200-sxm", "h100-sxm"), max_chips=1)
        found = search(facts, Scenario(model=model, isl=512, osl=512), space)
        dollars = {point.chip: point.usd_per_million_output_tokens for point in found.front}
        assert dollars["h200-sxm"] is None
        assert dollars["h100-sxm"] is not None  # cheapest in dollars, as the other has none
        assert found.prices["h200-sxm"].usd_per_hour is None

    def test_dollars_have_one_home(self) -> None:
        price = hourly_price(FACTS, "h100-sxm")
        answer = ask("qwen3-8b", "h100-sxm", concurrency=8)
        assert answer.output_tokens_per_s is not None
        same = usd_per_million_tokens(price, 1.0, 1.0, answer.output_tokens_per_s)
        assert answer.usd_per_million_output_tokens == near(same or 0.0)
