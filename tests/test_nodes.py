"""Layouts over several nodes: published all-reduces, the stages of a pipeline, and bands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flashstill.cost.links import link_cost
from flashstill.cost.phases import sends
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.parallel import Exchange, Layout
from flashstill.plan.bands import SEVERAL_NODES
from flashstill.plan.predict import Case, predict
from tests.round import round_conditions
from tests.small import small_model

FACTS = load()


@pytest.mark.parametrize(
    ("chip", "group", "size", "microseconds"),
    [  # two GB10 are one domain, whose link is the same RDMA
        ("h20", 16, 256, 46.7),  # NVIDIA/nccl issue 1244
        ("gb10", 2, 16384, 31.7),  # NVIDIA/dgx-spark-playbooks pull 103
        ("gb10", 4, 48e3, 59.0),  # local-inference-lab/vllm pull 295: 54 to 64
        ("h100-sxm", 16, 4096, 75.4),  # NVIDIA/nccl issue 1453, on a network found slow
        ("a100-80g", 2, 64, 19.4),  # NVIDIA/nccl-tests issue 150, one GPU a node
    ],
)
def test_published_all_reduces_between_nodes_are_met_within_a_factor_of_two(
    chip: str, group: float, size: float, microseconds: float
) -> None:
    machine = chip_from_facts(FACTS, chip)
    stride = 8.0 if group == 2 and chip == "a100-80g" else 1.0
    exchange = Exchange(name="sum", kind="all-reduce", count=1, bytes=size, group=group, stride=stride, tier="tensor")
    predicted = 1e6 * float(link_cost(machine, machine.calibration, exchange, "vllm").seconds)
    assert 0.5 < predicted / microseconds < 1.75


def test_each_stage_of_a_pipeline_is_a_step_of_the_engine() -> None:
    """4 stages with 2 ms of the engine each: the step has 2 ms already, and the three that follow add 6 ms."""
    conditions = replace(round_conditions(), software=replace(NO_SOFTWARE, step_s=2e-3))
    layout = Layout(tp=2.0, pp=4.0)
    alone, slower = (sends(small_model(), each, layout, 8.0) for each in (round_conditions(), conditions))
    assert float(slower.seconds - alone.seconds) == pytest.approx(6e-3)


def test_a_replica_on_several_nodes_may_be_slower_than_one_on_a_node() -> None:
    """Twice the chips: the upper end of latencies grows by the ratio, and the lower one of rates."""
    case = Case.of(model="deepseek-r1", chip="h100-sxm", engine="sglang", isl=128, osl=1024, concurrency=1)
    answers: Any = predict(FACTS, [case.but(chip="h200-sxm", tp=8), case.but(tp=16)])
    one, two = answers
    assert SEVERAL_NODES not in str(one.band_basis)
    assert str(two.band_basis).endswith(SEVERAL_NODES)
    narrow: Any = predict(FACTS.edited(["band.several_nodes_ratio=1"]), [case.but(tp=16)])[0]
    ratio = FACTS.value("band", "several_nodes_ratio")
    assert two.tpot_high_s == pytest.approx(narrow.tpot_high_s * ratio)
    assert two.ttft_high_s == pytest.approx(narrow.ttft_high_s * ratio)
    assert two.output_tokens_per_s_low == pytest.approx(narrow.output_tokens_per_s_low / ratio)
    assert (two.tpot_low_s, two.ttft_low_s) == (narrow.tpot_low_s, narrow.ttft_low_s)
    # 23.2 ms: tenstorrent/tt-inference-server issue 356.
    assert two.tpot_low_s < 23.2e-3 < two.tpot_high_s


def test_a_pool_or_experts_on_several_nodes_count() -> None:
    case = Case.of(model="deepseek-v3", chip="h100-sxm", engine="sglang", isl=1000, osl=1000, concurrency=64)
    spread, within = predict(FACTS, [case.but(tp=1, dp=32, ep=32), case.but(chip="gb200", tp=1, dp=32, ep=32)])
    assert str(spread.band_basis).endswith(SEVERAL_NODES)
    assert SEVERAL_NODES not in str(within.band_basis)


def test_mixtures_on_a_stack_that_was_not_measured_may_take_more_joules() -> None:
    """Experts keep a GPU busy without moving much: 530 W of an H100 at 8 in flight (ML.ENERGY)."""
    edited, ratio = FACTS.edited(["band.routed_joules_ratio=1"]), FACTS.value("band", "routed_joules_ratio")
    for model, expected in (("qwen3-coder-480b-a35b", ratio), ("gemma-3-27b", 1.0)):
        case = Case.of(model=model, chip="b200", engine="vllm", isl=512, osl=256, concurrency=16, tp=8)
        wide, narrow = (predict(facts, [case])[0] for facts in (FACTS, edited))
        assert wide.joules_per_output_token_high is not None
        assert narrow.joules_per_output_token_high is not None
        assert wide.joules_per_output_token_high == pytest.approx(narrow.joules_per_output_token_high * expected)
        assert wide.joules_per_output_token_low == narrow.joules_per_output_token_low
