"""Experts over numbers of chips that do not divide them, their balance, and two micro-batches that overlap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost.footprint import chip_weight_bytes
from flashstill.errors import BadInput
from flashstill.parallel import Layout, busiest_rank, layout_reason, least_redundant, popular_load
from flashstill.parallel.balance import busiest_load
from flashstill.parallel.local import split_experts
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.space import Configuration, SearchSpace
from flashstill.validation.anchors.moe_at_scale import compare_moe_at_scale
from flashstill.validation.comparison import NOT_FITTED
from flashstill.workload import EVEN, Experts, Widths, expert_copy_parameters
from tests.commands import SHARED
from tests.deployments import FACTS, explained

DEEPSEEK = load_architecture("deepseek-v3")
LAYER = Experts(
    name="experts", tokens=100.0, experts=8, chosen=2, local_experts=8.0, width=10, ffn_width=20, matrices=3, skew=1.0
)


def published(**more: Any) -> Case:
    """DeepSeek-V3's decode unit: 144 GPUs, 256 experts and 32 copies, two slots on each GPU."""
    given = {"isl": 4096, "osl": 1024, "concurrency": 18432, "tp": 1, "dp": 144, **more}
    return Case.of(model="deepseek-v3", chip="h800-sxm", **given)


def test_the_fewest_redundant_experts() -> None:
    """DeepSeek-V3 2024, section 3.4: 320 GPUs decode, 64 with copies; SGLang on 72 and 48: 288 slots, 4 and 6 each."""
    assert {ep: least_redundant(DEEPSEEK, ep) for ep in (1, 32, 48, 72, 144, 256, 288, 320)} == {
        1: 0, 32: 0, 48: 32, 72: 32, 144: 32, 256: 0, 288: 32, 320: 64,
    }  # fmt: skip
    for ep in (48, 72, 144, 288):
        assert layout_reason(DEEPSEEK, 1, 1, ep, ep, 32) is None
    assert layout_reason(DEEPSEEK, 1, 1, 32, 32, 32) is None


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"redundant_experts": 30},
            "256 \\+ 30 redundant experts, ep 144; the nearest number of redundant experts is 32",
        ),
        ({"redundant_experts": 0}, "the nearest number of redundant experts is 32"),
        ({"redundant_experts": -1}, "redundant_experts must be at least 0, not -1"),
        ({"dp": 2, "redundant_experts": 1000}, "more redundant experts than ep can use: 1000; .* there are 256"),
        ({"ep": 100}, "ep does not divide tp x dp: ep 100, 144 chips; the nearest that does is 72"),
        ({"dp": 1, "tp": 8, "overlap": "two-batch"}, "dp is 1, so that no token is sent to experts; take dp 2"),
        ({"engine": "trtllm", "overlap": "two-batch"}, "engines that can: vllm, sglang, none"),
        ({"overlap": "three-batch"}, "unknown overlap 'three-batch'"),
        ({"model": "qwen3-32b", "dp": 2, "overlap": "two-batch"}, "qwen3-32b has no routed experts"),
        ({"model": "qwen3-32b", "dp": 2, "redundant_experts": 2}, "redundant experts without experts"),
    ],
)
def test_refusals_name_the_nearest(given: dict[str, Any], sentence: str) -> None:
    (answer,) = predict(FACTS, [published().but(**given)])
    assert not answer.fits
    with pytest.raises(BadInput, match=sentence):
        raise BadInput(answer.reason)


def test_copies_take_memory() -> None:
    """144 GPUs with 2 slots of 288: 32 copies of one expert of each layer more, over all of them."""
    widths = Widths(weight=1.0, experts=1.0, exact=2.0)
    without, beside = Layout(dp=144.0, ep=144.0), Layout(dp=144.0, ep=144.0, redundant=32.0)
    more = chip_weight_bytes(DEEPSEEK, widths, beside) - chip_weight_bytes(DEEPSEEK, widths, without)
    one = 3 * 7168 * 2048 * sum(layer.count for layer in DEEPSEEK.layers if layer.ffn.experts)
    assert expert_copy_parameters(DEEPSEEK) == one
    assert more == pytest.approx(32 * one / 144)


def test_the_busiest_group_by_hand() -> None:
    """Two groups of 8 experts: half of 8 draws of p = 1/i, without replacement; 16 pairs drawn of 32 by Poisson."""
    popularity = 1.0 / np.arange(1, 9)
    popularity /= popularity.mean()
    quantile = 0.5894557  # of (2 - 3/8)/(2 + 1/4)
    variance = popularity.var() / 4 * 4 / 7
    assert popular_load(8, 1.0, 2) == pytest.approx(1 + quantile * variance**0.5)
    expected = 1 + quantile * (variance + 0.5 / 16) ** 0.5
    assert busiest_load(LAYER, 16.0, 2.0) == pytest.approx(expected)
    # One group has everything; even routing and a balanced layout have no busiest.
    assert busiest_load(LAYER, 16.0, 1.0) == 1.0
    assert busiest_load(replace(LAYER, skew=EVEN), 16.0, 2.0) == 1.0
    assert split_experts(LAYER, Layout(ep=2.0, dp=2.0, balanced=True)).load == 1.0


def test_a_balancer_by_hand() -> None:
    """3 experts of popularity 1, 1/2, 1/3 and one copy, 2 groups of 2: (1/2, 1/3) and (1/2, 1/2) of 11/6."""
    assert popular_load(3, 1.0, 2, 1) == pytest.approx(1.0 / (11 / 12))


def test_copies_balance() -> None:
    for groups in (32, 48, 72, 144, 288):
        alone = popular_load(256, 0.5, groups)
        loads = [
            popular_load(256, 0.5, groups, redundant)
            for redundant in (-256 % groups + groups, -256 % groups + 2 * groups)
        ]
        assert alone > loads[0] >= loads[1] * 0.98 >= 0.98
    array = np.asarray(
        busiest_load(LAYER, np.array([[1.0], [1e6]]), np.array([1.0, 2.0, 8.0]), np.array([0.0, 2.0, 8.0]))
    )
    assert np.all((array >= 1.0) & (array <= np.array([1.0, 2.0, 8.0])))
    assert np.all(array[0] >= array[1])


def test_energy_is_that_of_the_mean() -> None:
    shard = split_experts(LAYER, Layout(ep=2.0, dp=2.0))
    assert shard.load > 1.0
    assert shard.busiest.flops == pytest.approx(shard.flops * shard.load)


def test_published_layouts_are_answered() -> None:
    cases = [published(), published(dp=72), published(dp=48, concurrency=4800), published(dp=32, redundant_experts=32)]
    for answer in predict(FACTS, cases):
        assert answer.fits, answer.reason
        assert "32 redundant experts beside 256" in answer.note


def test_the_default_is_told_and_the_same() -> None:
    found = explained(FACTS, DEEPSEEK, "h800-sxm", 4608, 4096, tp=1, dp=72)
    assert found.resolved.deployment.redundant_experts == 32
    again = explained(FACTS, DEEPSEEK, "h800-sxm", 4608, 4096, tp=1, dp=72, redundant_experts=32)
    assert again.as_dict() == found.as_dict()


def test_a_search_finds_published_layouts() -> None:
    layouts, _ = layouts_of(DEEPSEEK, 144, (32,))
    assert {(1, 1, ep, ep, 32) for ep in (32, 48, 72, 96, 144)} <= set(layouts)
    space = SearchSpace(
        chips=("h800-sxm",), max_chips=72, batches=(4608,), redundant_experts=(32,), overlaps=("none", "two-batch")
    )
    points = search(FACTS, Scenario(model="deepseek-v3", isl=4096, osl=1024), space).front
    assert {point.redundant_experts for point in points} == {32}
    assert any(point.overlap == "two-batch" for point in points)
    (point, *_) = [point for point in points if point.ep == 72 or point.overlap == "two-batch"]
    (answer,) = predict(FACTS, [case_of(point)])
    assert (answer.tpot_s, answer.ttft_s) == (point.tpot_s, point.ttft_s)


def case_of(point: Configuration) -> Case:
    names = ("chip", "tp", "pp", "ep", "dp", "redundant_experts", "overlap", "precision", "engine")
    return published(concurrency=point.batch, **{name: getattr(point, name) for name in names if name != "chip"})


def test_a_small_batch_has_no_second_half() -> None:
    for batch, differs in ((8, False), (16, True)):
        alone, halves = steps(batch)
        assert (alone != halves) == differs


def steps(batch: int) -> Iterator[float]:
    for overlap in ("none", "two-batch"):
        cost = explained(
            FACTS, load_architecture("qwen3-30b-a3b"), "h100-sxm", batch, 1000, tp=1, dp=8, overlap=overlap
        ).cost
        yield float(cost.seconds)


def test_overlap_hides_what_is_sent() -> None:
    """At a large batch: never faster than computing alone, and the weights are read twice."""
    model = DEEPSEEK
    given: dict[str, Any] = {"tp": 1, "dp": 128, "engine": "none"}
    alone = explained(FACTS, model, "h800-sxm", 128 * 128, 4096, **given).cost
    halves = explained(FACTS, model, "h800-sxm", 128 * 128, 4096, overlap="two-batch", **given).cost
    assert halves.seconds < alone.seconds
    assert halves.shares_s["links"] < alone.shares_s["links"]
    assert halves.joules["weights"] > 1.5 * alone.joules["weights"]
    assert halves.joules["links"] == pytest.approx(alone.joules["links"])


def test_the_busiest_rank_by_hand() -> None:
    """9 requests of a rank whose lengths vary by their mean: a third of the mean, times the quantile for 2 ranks."""
    assert busiest_rank(2, 9.0, 1.0) == pytest.approx(1.0 + 0.5894557 / 3.0)
    assert busiest_rank(1, 9.0, 1.0) == 1.0
    # The experts hold the tokens of all ranks, whose mean is less than that of the busiest.
    shard = split_experts(LAYER, Layout(ep=2.0, dp=2.0, balanced=True, uneven=1.25))
    assert shard.tokens == pytest.approx(100.0 * 2 / 1.25)


def test_expert_parallelism_at_scale(tmp_path: Path) -> None:
    """Eight rows of DeepSeek, none fitted; a day's nodes are those that its rates ask for, and dollars are theirs."""
    assert compare_moe_at_scale(FACTS, tmp_path) == []
    if not (SHARED / "anchors").is_dir():
        pytest.skip("the shared files are not here")
    (found,) = compare_moe_at_scale(FACTS, SHARED / "anchors")
    assert (len(found.predicted), found.unanswered, found.fitted) == (8, 0, NOT_FITTED)
    assert found.predicted[4] == pytest.approx(found.predicted[3] * 8 * 2 * 24)
    assert found.predicted[0] == pytest.approx(found.predicted[6] * 608 / (608 - 342))
    assert float(np.abs(found.errors).mean()) < 0.25
    text = (SHARED / "anchors" / "moe_at_scale.csv").read_text()
    (tmp_path / "moe_at_scale.csv").write_text(text.replace("avg nodes", "mean nodes"))
    with pytest.raises(StopIteration):
        compare_moe_at_scale(FACTS, tmp_path)
