"""Prefill and decoding on pools of their own: balance of the pools, the transfer between them, and their search."""

from __future__ import annotations

import math
from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.cost import Load
from flashstill.cost.disaggregated import Pools, serve_apart, transfer
from flashstill.cost.phases import batch_step, prefill_step
from flashstill.errors import BadInput
from flashstill.hardware import chip_from_facts
from flashstill.parallel import Layout
from flashstill.plan.case import Case
from flashstill.plan.predict import completed, predict
from flashstill.plan.prediction import Prediction
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import Configuration, SearchSpace
from tests.deployments import FACTS
from tests.round import round_chip, round_conditions
from tests.small import grouped, small_model

GIVEN: dict[str, Any] = {"model": "qwen3-32b", "chip": "h100-sxm", "tp": 4, "isl": 2000, "osl": 500, "concurrency": 64}


def ask(**more: Any) -> Prediction:
    (answer,) = predict(FACTS, [Case.of(**{**GIVEN, **more})])
    return answer


def test_the_transfer_by_hand() -> None:
    """tp 1 sends to tp 4, which holds a part each: 2 layers x 2 x g heads x e values of 2 bytes a token."""
    model, conditions = small_model(), round_conditions(round_chip())
    pools = Pools(prefill=Layout(), instances=1.0, decode=Layout(tp=2.0))
    moved, seconds = transfer(model, conditions, pools, 1000.0)
    whole = 1000 * 2 * model.kv_values_per_token
    assert moved == pytest.approx(whole)
    chip, calibration = conditions.chip, conditions.calibration
    rate = chip.topology.link_bytes_per_s * calibration.link_efficiency
    assert pools.chips <= chip.system.domain_chips
    assert float(seconds) == pytest.approx(calibration.hop_s + whole / rate)
    # Sixteen chips of two domains: over the network, from two chips, half of the heads each.
    wide = Pools(prefill=Layout(tp=2.0), instances=7.0, decode=Layout(tp=2.0))
    _, seconds = transfer(model, conditions, wide, 1000.0)
    rate = chip.system.scale_out_bytes_per_s * calibration.link_efficiency
    assert float(seconds) == pytest.approx(calibration.hop_s + whole / 2 / rate)
    assert grouped().kv_heads >= 2


def test_the_balance_by_hand() -> None:
    """With prefill to spare, b = N - X F; with little, X is what the prefill pool can do."""
    model, conditions = small_model(), round_conditions(round_chip())
    load = Load(isl=500.0, osl=101.0, concurrency=40.0)
    wide = Pools(prefill=Layout(), instances=1000.0, decode=Layout())
    served = serve_apart(model, conditions, wide, load)
    step = batch_step(model, conditions, Layout(), float(served.batch), 550.5)
    assert float(served.tpot_s) == float(step.seconds)
    rate = float(served.output_tokens_per_s) / 101.0
    assert rate == pytest.approx(float(served.batch) / (100.0 * float(step.seconds)), rel=0.02)
    _, travel = transfer(model, conditions, wide, 500.0)
    alone = prefill_step(model, conditions, Layout(), 1.0, 500.0)
    software = conditions.software
    expected = software.first_s + software.first_ratio * float(alone.seconds) + float(travel)
    assert float(served.ttft_s) == pytest.approx(expected, rel=0.02)
    assert float(served.batch) == pytest.approx(40.0 - rate * float(served.ttft_s), rel=0.02)
    many = Load(isl=500.0, osl=101.0, concurrency=4000.0)
    few = Pools(prefill=Layout(), instances=1.0, decode=Layout(dp=7.0))
    limited = serve_apart(model, conditions, few, many)
    passed = prefill_step(model, conditions, Layout(), 4000.0, 500.0)
    _, travel = transfer(model, conditions, few, 500.0)
    most = min(4000.0 / float(passed.seconds), 1.0 / float(travel))
    assert float(limited.output_tokens_per_s) == pytest.approx(most * 101.0, rel=0.01)


def test_more_prefill_never_slows() -> None:
    answers = [ask(prefill_tp=2, prefill_instances=number, concurrency=256) for number in (1, 2, 4, 8)]
    rates = [answer.output_tokens_per_s or 0.0 for answer in answers]
    firsts = [answer.ttft_s or 0.0 for answer in answers]
    assert rates == sorted(rates)
    assert firsts == sorted(firsts, reverse=True)
    assert "the prefill pool limits the throughput" in answers[0].note
    assert "limits" not in answers[-1].note
    busy = [answer.prefill_busy_share or 0.0 for answer in answers]
    assert busy == sorted(busy, reverse=True)


def test_decoding_is_not_delayed() -> None:
    together, apart = ask(), ask(prefill_tp=4)
    assert (apart.tpot_s or 0.0) < (together.tpot_s or 0.0)
    assert apart.tpot_s == apart.decode_step_s
    assert apart.kv_transfer_s is not None
    assert together.kv_transfer_s is None
    stay = (apart.ttft_s or 0.0) + 499 * (apart.tpot_s or 0.0)
    assert (apart.output_tokens_per_s or 0.0) * stay == pytest.approx(64 * 500)


def test_a_full_decode_pool_keeps_requests_waiting() -> None:
    answer = ask(tp=2, isl=8000, concurrency=400, prefill_tp=2, prefill_instances=16)
    assert answer.running == pytest.approx(answer.sequences_fit)
    assert "the decode pool's memory is full" in answer.note


@pytest.mark.parametrize(("chip", "tp", "pp"), [("groq-lp30", 64, 8), ("wse-3", 1, 4), ("h100-sxm", 1, 8)])
@pytest.mark.parametrize("batch", [1, 64])
def test_no_chip_of_two_pools_draws_less_than_it_waits_with(chip: str, tp: int, pp: int, batch: int) -> None:
    """The decode pool steps all the time and the other one's pauses are counted, so that no floor is needed here.

    With one request both pools hardly do anything else: what they draw beyond waiting is less than a quarter.
    """
    case = {
        "model": "llama-3.1-70b", "chip": chip, "chips": tp * pp, "tp": tp, "pp": pp, "precision": "fp8",
        "concurrency": batch, "isl": 1024, "osl": 1024, "prefill_chips": tp * pp, "prefill_tp": tp, "prefill_pp": pp,
    }  # fmt: skip
    (answer,) = predict(FACTS, [Case.of(**case)])
    waiting, drawn = chip_from_facts(FACTS, chip).waiting_w, answer.as_dict()["watts_per_chip"]
    assert drawn >= waiting * (1.0 - 1e-6)
    if batch == 1:
        assert drawn <= 1.25 * waiting


def test_everything_is_filled_in() -> None:
    whole = completed(FACTS, Case.of(**GIVEN, prefill_chips=4)).deployment
    assert (whole.prefill_tp, whole.prefill_pp, whole.prefill_ep, whole.prefill_dp) == (4, 1, 1, 1)
    assert (whole.prefill_redundant_experts, whole.prefill_instances) == (0, 1)
    deepseek = Case.of(
        model="deepseek-v3", chip="h800-sxm", tp=1, dp=144, concurrency=4096, isl=4096, osl=512, prefill_tp=1,
        prefill_dp=32, prefill_redundant_experts=32, prefill_instances=4,
    )  # fmt: skip
    (answer,) = predict(FACTS, [deepseek])
    assert answer.fits, answer.reason
    assert completed(FACTS, deepseek).deployment.prefill_ep == 32


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"prefill_tp": 3}, "prefill pool: tp does not divide the heads"),
        ({"prefill_chips": 4, "prefill_tp": 3}, "prefill pool: tp x pp x dp = 3 chips, but chips is 4"),
        ({"prefill_tp": 0}, "prefill_tp must be at least 1"),
        ({"prefill_tp": 1, "osl": 1}, "with one output token nothing is decoded; leave the prefill pool out"),
        ({"prefill_tp": 1, "chip": "tpu-v5e", "topology": "4x4", "tp": None}, "leave one of them out"),
    ],
)
def test_refusals(more: dict[str, Any], sentence: str) -> None:
    answer = ask(**more)
    assert not answer.fits
    with pytest.raises(BadInput, match=sentence):
        raise BadInput(answer.reason)


def test_a_search_splits_the_chips() -> None:
    space = SearchSpace(chips=("h100-sxm",), max_chips=16, batches=(16, 128), tiers=("memory",), disaggregated=True)
    scenario = Scenario(model="qwen3-32b", isl=4000, osl=500, max_ttft_s=3.0)
    points = search(FACTS, scenario, space).front
    split = [point for point in points if point.prefill_instances]
    assert split
    for point in split:
        assert point.chips == point.tp * point.pp * point.dp + point.prefill_instances * point.prefill_chips <= 16
        (answer,) = predict(FACTS, [case_of(point)])
        assert (answer.tpot_s, answer.ttft_s) == (point.tpot_s, point.ttft_s)
        assert answer.output_tokens_per_s == point.output_tokens_per_s
        assert answer.joules_per_output_token == pytest.approx(point.joules_per_output_token, rel=1e-12)
        assert math.isclose(answer.usd_per_million_output_tokens or 0.0, point.usd_per_million_output_tokens or 0.0)
    with pytest.raises(BadInput, match="with one output token nothing is decoded"):
        search(FACTS, Scenario(model="qwen3-32b", osl=1), space)


def case_of(point: Configuration) -> Case:
    names = (
        "tp", "pp", "ep", "dp", "precision", "engine", "prefill_tp", "prefill_pp", "prefill_ep", "prefill_dp",
        "prefill_instances",
    )  # fmt: skip
    given = {name: getattr(point, name) for name in names}
    return Case.of(model="qwen3-32b", chip="h100-sxm", isl=4000, osl=500, concurrency=point.batch, **given)


def test_architectures_are_loaded_once() -> None:
    model = load_architecture("qwen3-32b")
    assert ask(model=model, prefill_tp=2) == ask(prefill_tp=2)
