"""Numbers that seven faults changed without a test noticing, each worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flashstill.arch import load_architecture
from flashstill.cost import Load, Precisions
from flashstill.cost.closed_form import Paces, closed_form
from flashstill.cost.footprint import chip_weight_bytes
from flashstill.cost.kernels import matmul
from flashstill.cost.links import link_cost
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.hardware import chip_from_facts, software_of
from flashstill.hardware.calibration import PERFECT, Collective, Kernel
from flashstill.parallel import Exchange, Layout
from flashstill.plan.case import Case
from flashstill.plan.predict import predict
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario
from flashstill.plan.search import search
from flashstill.plan.space import SearchResult, SearchSpace
from flashstill.workload import Matmul
from tests.round import round_chip, round_conditions

FACTS = load()


@pytest.mark.parametrize(
    ("tp", "pp", "dp", "expected"),
    [
        # Qwen3-30B-A3B: 48 layers x 128 experts x 3 matrices x 2048 x 768 = 28,991,029,248 routed parameters of
        # 30,532,122,624; the other 1,541,093,376 are repeated in every replica.  Two bytes each.
        (1, 1, 1, 2 * 30_532_122_624),
        (2, 1, 4, 2 * (1_541_093_376 / 2 + 28_991_029_248 / 8)),
        (1, 2, 8, 2 * (1_541_093_376 / 2 + 28_991_029_248 / 16)),
    ],
)
def test_experts_are_spread_over_replicas(tp: int, pp: int, dp: int, expected: float) -> None:
    layout = Layout(tp=float(tp), pp=float(pp), ep=float(tp * dp), dp=float(dp))
    found = chip_weight_bytes(load_architecture("qwen3-30b-a3b"), Precisions().widths, layout)
    assert float(found) == pytest.approx(expected, rel=1e-12)


def searched(batches: tuple[int, ...], facts: Any = FACTS, **bounds: Any) -> SearchResult:
    """One chip, one layout: as many configurations as batches."""
    scenario = Scenario(model="llama-3.1-8b", **{"isl": 1000, "osl": 1000, **bounds})
    space = SearchSpace(chips=("h100-sxm",), max_chips=1, batches=batches, tiers=("memory",), engine="vllm")
    return search(facts, scenario, space)


def test_search_refuses_the_first_batch_that_does_not_fit() -> None:
    case = Case.of(model="llama-3.1-8b", chip="h100-sxm", isl=1000, osl=1000, concurrency=1, engine="vllm", tp=1)
    (alone,) = predict(FACTS, [case])
    assert alone.sequences_fit is not None
    # 1,500 tokens of 2 x 8 heads x 128 x 2 bytes x 32 layers on average
    assert alone.cache_room_bytes == pytest.approx(alone.sequences_fit * 1500 * 131_072)
    most = int(alone.sequences_fit)
    found = searched((most, most + 1, 2 * most))
    assert (found.evaluated, found.feasible, found.infeasible) == (3, 1, {NOT_FITTING: 2})


@pytest.mark.parametrize("name", ["isl", "osl"])
def test_search_refuses_no_tokens(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} must be at least 1, not 0"):
        searched((1,), **{name: 0})


@pytest.mark.parametrize(("room", "feasible"), [(1.99, 0), (2.01, 1), (2.99, 1)])
def test_search_refuses_what_does_not_fit_at_its_end(room: float, feasible: int) -> None:
    """A request of 1,000 + 1,000 tokens needs room for 2,000, though it holds 1,500 on average; two from 3,000."""
    case = Case.of(model="llama-3.1-8b", chip="h100-sxm", isl=1000, osl=1000, engine="vllm", tp=1)
    (alone,) = predict(FACTS, [case])
    size, share = chip_from_facts(FACTS, "h100-sxm").memory.visible_bytes, software_of(FACTS, "vllm").usable_ratio
    assert alone.cache_room_bytes is not None
    less = size - (alone.cache_room_bytes - room * 1000 * 131_072) / share
    tight = FACTS.edited([f"h100-sxm.memory_bytes={less:.0f}"])
    if feasible:
        found = searched((1, 2), tight)
        assert (found.feasible, found.infeasible) == (feasible, {NOT_FITTING: 1})
    else:
        with pytest.raises(InfeasiblePlan) as stop:
            searched((1, 2), tight)
        assert stop.value.reasons == {NOT_FITTING: 2}


@pytest.mark.parametrize(
    ("bound", "figure", "reason"),
    [
        ("max_ttft_s", "ttft_s", "ttft above the bound"),
        ("max_tpot_s", "tpot_s", "tpot above the bound"),
        ("min_tokens_per_s", "output_tokens_per_s", "throughput below the bound"),
    ],
)
def test_search_keeps_to_each_bound(bound: str, figure: str, reason: str) -> None:
    batches = (1, 4, 16, 64)
    case = Case.of(model="llama-3.1-8b", chip="h100-sxm", isl=1000, osl=1000, engine="vllm", tp=1)
    figures = [
        float(getattr(answer, figure)) for answer in predict(FACTS, [case.but(concurrency=batch) for batch in batches])
    ]
    assert figures == sorted(figures)
    middle = (figures[1] + figures[2]) / 2.0  # two are on one side of it, two on the other
    found = searched(batches, **{bound: middle})
    assert (found.feasible, found.infeasible) == (2, {reason: 2})
    kept = {point.batch for point in found.front}
    assert kept <= ({16, 64} if bound.startswith("min") else {1, 4})
    # The bound itself is kept to.
    assert searched(batches, **{bound: figures[2]}).feasible == (2 if bound.startswith("min") else 3)


@pytest.mark.parametrize(
    ("model", "chip", "engine", "basis", "rows", "power"),
    [
        ("llama-3.1-8b", "h100-sxm", "trtllm@1.0", "stack measured", "stack measured", 1),
        ("llama-3.1-8b", "h200-sxm", "trtllm@1.0", "combination not measured", "combination not measured", 1),
        ("llama-3.2-1b", "h100-sxm", "vllm", "new model", "new model", 1),
        ("llama-3.1-8b", "l40s", "vllm", "new chip", "new chip", 1),
        ("llama-3.2-1b", "l40s", "vllm", "new model and chip", "new model and chip", 1),
        ("llama-3.2-1b", "l40s", "sglang", "new model and chip", "new model and chip", 1),
        ("llama-3.2-1b", "maia-100", "vllm", "class not measured", "new model and chip", 2),
    ],
)
def test_the_band_is_that_of_what_is_new(model: str, chip: str, engine: str, basis: str, rows: str, power: int) -> None:
    """Each quantity has the band of its basis; of a class that nobody measured, in logs wider by a row's ratio."""
    facts = FACTS.edited(["band.other_class_ratio=2"])
    (found,) = predict(facts, [Case.of(model=model, chip=chip, engine=engine, tp=1)])
    assert found.band_basis == basis
    for name, figure, low, high in (
        ("tpot", found.tpot_s, found.tpot_low_s, found.tpot_high_s),
        ("ttft", found.ttft_s, found.ttft_low_s, found.ttft_high_s),
        (
            "output_rate",
            found.output_tokens_per_s,
            found.output_tokens_per_s_low,
            found.output_tokens_per_s_high,
        ),
    ):
        # NVIDIA's chips have bands of their own where anything is new, no narrower than the engine's; of first tokens
        # where it is the chip.
        of_class = chip == "l40s" or (name != "ttft" and rows != "stack measured" and power == 1)
        owners = [f"engine-{engine}"] + ["gpu-nvidia"] * of_class
        ends = [
            picked(facts.get(owner, f"{name}_{side}", rows).value for owner in owners)
            for side, picked in (("low", min), ("high", max))
        ]
        assert ends[0] < 1.0 < ends[1]
        assert figure is not None
        assert [low, high] == pytest.approx([figure * end**power for end in ends])
    assert found.joules_per_output_token is not None
    assert found.joules_per_output_token_low is not None
    assert found.joules_per_output_token_high is not None
    assert found.joules_per_output_token_low < found.joules_per_output_token < found.joules_per_output_token_high


def test_kernels_alone_are_not_surer_than_an_engine_on_chips_of_a_class_that_nobody_measured() -> None:
    """Their band has both that of engines over their kernels and that of a new engine, widened alike."""
    (found,) = predict(FACTS, [Case.of(model="llama-3.2-1b", chip="maia-100", engine="none", tp=1)])
    power = FACTS.value("band", "other_class_ratio")
    assert found.tpot_s is not None
    for side, end, picked in (("low", found.tpot_low_s, min), ("high", found.tpot_high_s, max)):
        both = (FACTS.value("engine-none", f"tpot_{side}"), FACTS.get("engine", f"tpot_{side}", "new engine").value)
        assert end == pytest.approx(found.tpot_s * picked(both) ** power)
    assert found.tpot_low_s is not None
    assert found.tpot_low_s < found.tpot_s


def test_tiles_and_waves() -> None:
    """100 x 320 outputs are dealt to 10 units: 20 tiles of 64 x 32 in two waves, or 10 of 64 x 64 in one.

    Either is 10 units x 4,096 outputs; a depth of 65 is 128 in steps of 64; each unit at half of its rate.
    """
    kernel = Kernel(compute_efficiency=1.0, unit_efficiency=0.5, memory_efficiency=1.0, floor_s=0.0)
    product = Matmul(name="m", rows=100.0, columns=320.0, depth=65.0)
    timing = matmul(round_chip(), product, kernel, 1e12, 0.0)
    assert float(timing.compute_s) == pytest.approx(2 * 10 * 4096 * 128 / 0.5e12)
    # One more column than five tiles of 64 hold, and one more row: 3 x 6 = 18 of 64 x 64 and 3 x 11 = 33 of 64 x 32
    # take 2 and 4 waves, 2 x 6 = 12 of 128 x 64 two, 2 x 3 = 6 of 128 x 128 one, all of 64 x 128 (9) one: the least.
    wider = matmul(
        round_chip(),
        replace(product, rows=129.0, columns=321.0, depth=64.0),
        kernel,
        1e12,
        0.0,
    )
    assert float(wider.compute_s) == pytest.approx(2 * 10 * 64 * 128 * 64 / 0.5e12)


def test_an_all_reduce_beyond_the_domain_waits_for_every_doubling_twice() -> None:
    """32 chips in domains of 8: 4 domains are two doublings, there and back: 4 waits of 10 microseconds.

    Inside, a chip sends 2 x 7/8 of 8 GB at 100 GB/s: 0.14 s.  Beyond, 2 x 3/4 of its eighth at 10 GB/s: 0.15 s.
    """
    exchange = Exchange(name="sum", kind="all-reduce", count=1, bytes=8e9, group=32.0, tier="tensor")
    cost = link_cost(round_chip(), replace(PERFECT, scale_out_hop_s=1e-5), exchange)
    assert float(cost.seconds) == pytest.approx(0.14 + 0.15 + 4e-5, rel=1e-9)
    assert (float(cost.inside_bytes), float(cost.beyond_bytes)) == (14e9, 1.5e9)
    gather = link_cost(round_chip(), replace(PERFECT, scale_out_hop_s=1e-5), replace(exchange, kind="all-gather"))
    assert float(gather.seconds) == pytest.approx(0.07 + 0.075 + 2e-5, rel=1e-9)


def test_an_engines_own_all_reduce_ends_at_its_domain() -> None:
    """Eight chips take the engine's 3 us; 16 the library's 18 us and, there and back, one step of 8 us; half the rate
    of 10 GB/s moves the eighth of 1.6 MB that leaves each chip in 40 us."""
    own = Collective(efficiency=1.0, floor_s=3e-6, blend=64.0)
    library = Collective(efficiency=1.0, floor_s=18e-6, blend=64.0, measured=True)
    rows = {("all-reduce", ""): library, ("all-reduce", "vllm"): own}
    calibration = replace(PERFECT, collectives=rows, scale_out_hop_s=8e-6, scale_out_efficiency=0.5)
    exchange = Exchange(name="sum", kind="all-reduce", count=1, bytes=1.6e6, group=8.0, tier="tensor")

    def seconds(group: float, stride: float = 1.0, size: float = 1.6e6) -> float:
        asked = replace(exchange, group=group, stride=stride, bytes=size)
        return float(link_cost(round_chip(), calibration, asked, "vllm").seconds)

    assert seconds(8.0, size=8.0) == pytest.approx(3e-6)
    inside_s = 2 * 7 / 8 * 1.6e6 / 1e11  # 28 us, longer than the floor
    assert seconds(16.0) == pytest.approx(inside_s + 2 * 8e-6 + 4e-5)
    assert seconds(16.0, size=8.0) == pytest.approx(18e-6 + 2 * 8e-6, rel=1e-3)
    assert seconds(2.0, stride=8.0, size=8.0) == pytest.approx(18e-6 + 2 * 8e-6, rel=1e-3)


def paces() -> Paces:
    """A decode step of 10 ms and 3 J, a prefill of one prompt of 100 ms and 20 J, of which time alone costs 5 J."""
    return Paces(
        step_s=0.01,
        step_joules=3.0,
        mixed_s=0.1,
        mixed_joules=20.0,
        mixed_timed_joules=5.0,
        pass_s=0.1,
        pass_joules=20.0,
        pass_timed_joules=5.0,
        prompts=np.float64(1.0),
    )


def test_the_first_of_the_tokens_comes_from_the_prefill() -> None:
    """One request for 11 tokens: 100 ms of prefill, 10 steps of 10 ms: 11 tokens in 0.2 s; 10 x 3 J + 20 J for 11."""
    conditions, load_of_one = round_conditions(), Load(isl=100.0, osl=11.0, concurrency=1.0)
    pace = closed_form(conditions, Layout(), load_of_one, 1.0, paces())
    assert float(pace.ttft_s) == pytest.approx(0.1)
    assert float(pace.tpot_s) == pytest.approx(0.01)
    assert float(pace.output_tokens_per_s) == pytest.approx(55.0)
    assert float(pace.joules_per_output_token) == pytest.approx(50.0 / 11.0)
    assert float(pace.watts_per_chip) == pytest.approx(50.0 / 0.2)


def test_a_class_with_a_band_of_its_own_has_it_as_it_is() -> None:
    """Its output rate has the inverse band; the time to first token that of what nobody measured."""
    (found,) = predict(FACTS, [Case.of(model="llama-3.2-1b", chip="mi300x", engine="vllm", tp=1)])
    low, high = (FACTS.value("gpu-amd", f"tpot_{side}") for side in ("low", "high"))
    assert found.tpot_s is not None
    assert found.output_tokens_per_s is not None
    assert found.ttft_s is not None
    assert [found.tpot_low_s, found.tpot_high_s] == pytest.approx([found.tpot_s * low, found.tpot_s * high])
    rates = [found.output_tokens_per_s_low, found.output_tokens_per_s_high]
    assert rates == pytest.approx([found.output_tokens_per_s / high, found.output_tokens_per_s / low])
    wider = FACTS.value("band", "other_class_ratio")
    first = FACTS.get("engine-vllm", "ttft_high", "new model and chip").value
    assert found.ttft_high_s == pytest.approx(found.ttft_s * first**wider)
