"""How a model is split over chips where little or nothing is said: 9 heads over 3 cached ones and 5 layers, by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flashstill.arch import Architecture, Attention, FeedForward, Layer, load_architecture
from flashstill.cost.conditions import Conditions
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.hardware import Chip
from flashstill.parallel import Layout, layout_reason
from flashstill.parallel.local import split_experts
from flashstill.plan.deployment import Deployment
from flashstill.plan.layouts import degrees_of, fewest_chips, split, torus_shape
from flashstill.plan.scenario import Occupancy
from flashstill.workload import Experts
from tests.deployments import explained
from tests.round import MEMORY, round_chip, round_conditions, round_torus
from tests.small import model_of, routed_model, small_model


def nine_heads() -> Architecture:
    attention = Attention(heads=9, kv_heads=3, head_width=10)
    layer = Layer(count=5, attention=attention, ffn=FeedForward(width=200, gated=False), norm_parameters=200)
    return model_of(layer)


# 5 layers of (90 + 60) x 100, 90 x 100 and 2 x 200 x 100 weights and 200 of norms; 100 x 1,000 and 100 at the ends
WEIGHTS = 5 * (15_000 + 9_000 + 40_000 + 200) + 100_100
SMALL = Occupancy(sequences=1.0, mean_tokens=1.0, longest_tokens=1.0)


def conditions(most_chips: float, chip: Chip | None = None) -> Conditions:
    """Machines of which `most_chips` hold the weights: 2 bytes each, in 90 % of the memory."""
    memory = dataclasses.replace(MEMORY, visible_bytes=2 * WEIGHTS / 0.9 / most_chips)
    return round_conditions(dataclasses.replace(chip or round_chip(), tiers=(memory,)))


def on_round(**given: Any) -> Deployment:
    return Deployment(chip="round", **given)


def test_exact_numbers_of_chips() -> None:
    """tp is 1, 3 or 9; a pipeline of at most 5 stages takes the rest."""
    found = {chips: split(nine_heads(), chips) for chips in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 18, 27, 45, 46)}
    assert found == {
        1: (1, 1),
        2: (1, 2),
        3: (3, 1),
        4: (1, 4),
        5: (1, 5),
        6: (3, 2),
        7: None,
        8: None,
        9: (9, 1),
        12: (3, 4),
        15: (3, 5),
        18: (9, 2),
        27: (9, 3),
        45: (9, 5),
        46: None,
    }
    assert split(nine_heads(), 6, 2) == (3, 2)
    assert split(nine_heads(), 6, 3) is None


@pytest.mark.parametrize(
    ("needed", "expected"),
    # Powers of two, or the next number that can be split: 1, 2, 4, 9 (for 8), 18 (for 16), 36 (for 32); 64 is too many.
    [(0.9, (1, 1)), (1.5, (1, 2)), (3.0, (1, 4)), (4.5, (9, 1)), (10.0, (9, 2)), (19.0, (9, 4)), (40.0, None)],
)
def test_the_fewest_chips(needed: float, expected: tuple[int, int] | None) -> None:
    given = conditions(needed)
    found = fewest_chips(nine_heads(), given, Deployment(chip="round"), SMALL)
    assert (None if found is None else (found.tp, found.pp)) == expected
    # One chip where none holds it, for whoever checks the memory to refuse.
    degrees = degrees_of(nine_heads(), given, Deployment(chip="round"), SMALL)
    assert (degrees.tp, degrees.pp, degrees.chips) == (
        (*expected, expected[0] * expected[1]) if expected else (1, 1, 1)
    )


def test_all_sequences_or_one() -> None:
    """A token caches 5 layers x 2 x 3 x 10 values of 2 bytes; beside the weights is room for 1,500 of them."""
    memory = dataclasses.replace(MEMORY, visible_bytes=(2 * WEIGHTS + 1.5 * 600 * 1000) / 0.9)
    given = round_conditions(round_chip(tiers=(memory,)))
    for sequences, chips in ((1.0, 1), (2.0, 2), (6.0, 4), (1e9, 1)):
        occupancy = Occupancy(sequences=sequences, mean_tokens=1000.0, longest_tokens=1000.0)
        assert degrees_of(nine_heads(), given, Deployment(chip="round"), occupancy).chips == chips


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"chips": 6}, (3, 2, 1, 1)),
        ({"chips": 6, "dp": 2}, (3, 1, 1, 2)),
        ({"chips": 12, "dp": 2, "pp": 2}, (3, 2, 1, 2)),
        ({"chips": 6, "tp": 3}, (3, 1, 1, 2)),
        ({"chips": 12, "tp": 3, "pp": 2}, (3, 2, 1, 2)),
        ({"tp": 3, "pp": 5}, (3, 5, 1, 1)),
        ({"tp": 3, "dp": 4}, (3, 1, 1, 4)),
        ({"tp": 1, "dp": 131072}, (1, 1, 1, 131072)),
        ({"chips": 8}, "8 chips"),
        ({"chips": 6, "tp": 3, "dp": 1}, "tp x pp x dp = 3 chips, but chips is 6"),
        ({"chips": 7, "tp": 3}, "tp x pp x dp = 3 chips, but chips is 7"),
        ({"chips": 7, "dp": 2}, "pp x dp = 2 does not divide 7 chips"),
        ({"tp": 2}, "tp does not divide the heads"),
        ({"tp": 9, "pp": 6}, "pp exceeds the layers: 6 stages for 5 layers"),
        ({"tp": 1, "ep": 2}, "ep without experts"),
        ({"tp": 1, "dp": 131073}, "131,073 chips are more than any network connects"),
    ],
)
def test_what_is_told(given: dict[str, Any], expected: tuple[int, int, int, int] | str) -> None:
    deployment = Deployment(chip="round", **given)
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected):
            degrees_of(nine_heads(), conditions(0.5), deployment, SMALL)
    else:
        assert degrees_of(nine_heads(), conditions(0.5), deployment, SMALL) == (*expected, 0)


def test_experts_are_whole_where_attention_is_repeated() -> None:
    for given, expected in (
        ({"tp": 2}, (2, 1, 1, 1)),  # cut like everything else
        ({"tp": 2, "dp": 2}, (2, 1, 4, 2)),
        ({"tp": 2, "dp": 2, "ep": 2}, (2, 1, 2, 2)),
        ({"chips": 8, "dp": 4}, (2, 1, 8, 4)),
    ):
        deployment = on_round(**given)
        assert degrees_of(routed_model(), conditions(0.01), deployment, SMALL) == (*expected, 0)


def test_links() -> None:
    """A chip without any serves alone, or as replicas of a dense model; a domain of 8 without a network serves on 8."""
    topology, system = round_chip().topology, round_chip().system
    alone = round_chip(topology=dataclasses.replace(topology, link_bytes_per_s=0.0))
    node = round_chip(system=dataclasses.replace(system, scale_out_bytes_per_s=0.0))
    for chip, given, model, refused in (
        (alone, {"tp": 2}, small_model(), True),
        (alone, {"tp": 1, "dp": 4}, small_model(), False),
        (alone, {"tp": 1, "dp": 4}, routed_model(), True),
        (node, {"tp": 4, "pp": 2}, small_model(), False),
        (node, {"tp": 4, "pp": 2, "dp": 2}, small_model(), False),
        (node, {"tp": 4, "pp": 1, "ep": 8, "dp": 4}, routed_model(), True),
        (node, {"tp": 4, "pp": 1, "dp": 2}, routed_model(), False),
    ):
        deployment = on_round(**given)
        if refused:
            with pytest.raises(InfeasiblePlan, match="links") as stop:
                degrees_of(model, conditions(0.01, chip), deployment, SMALL)
            assert stop.value.reasons == {"no links": 1}
        else:
            degrees_of(model, conditions(0.01, chip), deployment, SMALL)
    # By itself a deployment goes no further than the links do.
    assert fewest_chips(nine_heads(), conditions(3.0, alone), Deployment(chip="round"), SMALL) is None
    assert fewest_chips(nine_heads(), conditions(4.5, node), Deployment(chip="round"), SMALL) is None
    found = fewest_chips(nine_heads(), conditions(3.0, node), Deployment(chip="round"), SMALL)
    assert (found and found.chips) == 4


@pytest.mark.parametrize(
    ("tp", "pp", "ep", "dp", "reason"),
    [
        (4, 2, 8, 2, None),
        (8, 1, 1, 1, "tp does not divide the heads: 4 heads over 8 chips"),
        (3, 1, 1, 1, "tp does not divide the heads: 4 heads over 3 chips"),
        (1, 3, 1, 1, "pp exceeds the layers: 3 stages for 2 layers"),
        (
            1,
            1,
            3,
            3,
            "ep does not divide the experts and their copies: 8 + 0 redundant experts, ep 3; the nearest number of"
            " redundant experts is 1",
        ),
        (1, 1, 4, 2, "ep does not divide tp x dp: ep 4, 2 chips; the nearest that does is 2"),
    ],
)
def test_reasons(tp: int, pp: int, ep: int, dp: int, reason: str | None) -> None:
    assert layout_reason(routed_model(), tp, pp, ep, dp) == reason


def test_key_value_heads() -> None:
    """6 heads over 2 cached ones: 3 chips would cut the two, 6 hold each of them three times."""
    layer = Layer(
        count=2, attention=Attention(heads=6, kv_heads=2, head_width=10), ffn=FeedForward(width=200), norm_parameters=0
    )
    assert layout_reason(model_of(layer), 3, 1, 1, 1) == "tp does not fit the key/value heads: 2 heads over 3 chips"
    assert [layout_reason(model_of(layer), tp, 1, 1, 1) for tp in (1, 2, 6)] == [None] * 3


def test_layouts() -> None:
    layout = Layout(tp=4.0, pp=3.0, ep=2.0, dp=2.0)
    assert (layout.chips, layout.expert_tp) == (24.0, 4.0)
    assert [float(layout.local_batch(batch)) for batch in (1.0, 6.0, 60.0)] == [1.0, 1.0, 10.0]


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        (None, ()),
        ("4x8x4", (8, 4, 4)),
        ("16", (16, 1, 1)),
        ("2X3", (3, 2, 1)),
        ("4x0", "not edges such as"),
        ("4x4x4x4", "4x4x4x4 has 4 axes, but round is a torus of 3"),
        ("16x16x32", "has 8192 chips, but round joins at most 4096"),
        ("16x16x16", (16, 16, 16)),
    ],
)
def test_topologies(topology: str | None, expected: tuple[int, ...] | str) -> None:
    if isinstance(expected, str):
        with pytest.raises(BadInput, match=expected):
            torus_shape(round_torus(), topology)
    else:
        assert torus_shape(round_torus(), topology) == expected
    if topology:
        with pytest.raises(BadInput):
            torus_shape(round_chip(), topology)


def test_a_first_token_has_nothing_before_it() -> None:
    facts, model = load(), load_architecture("llama-3.1-8b")
    assert explained(facts, model, "h100-sxm", 1, 0).as_dict()["context"] == 0
    for batch, context in ((1, -1), (0, 0)):
        with pytest.raises(BadInput, match="batch must be at least 1 and context at least 0"):
            explained(facts, model, "h100-sxm", batch, context)


def test_a_refusal_names_every_memory() -> None:
    facts, model = load(), load_architecture("llama-3.1-70b")
    for weights, cache, told in (
        ("sram", "memory", r"1 x tpu-v5e of \S+ \S+ in sram and \S+ \S+ in memory have room for 0 of 8"),
        ("memory", "memory", r"1 x tpu-v5e of \S+ \S+ in memory have room for 0 of 8"),
    ):
        with pytest.raises(InfeasiblePlan, match=told):
            explained(facts, model, "tpu-v5e", 8, 1024, tp=1, weights_in=weights, kv_in=cache)


def test_pairs_of_experts_elsewhere() -> None:
    """4 groups: with tensor parallelism alone a chip's kernels step over 3/4 of all pairs; none after an all-to-all."""
    routed = Experts(name="e", tokens=8.0, experts=16, chosen=2, local_experts=16.0, width=8, ffn_width=8.0, matrices=3)
    assert split_experts(routed, Layout(tp=4, ep=4)).remote == 12.0
    assert split_experts(routed, Layout(dp=4, ep=4)).remote == 0.0
    assert split_experts(routed, Layout(tp=4)).remote == 0.0
