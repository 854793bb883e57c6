"""Collectives on tori, switches and two tiers: worked examples of Austin et al. 2025, and what must hold everywhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashstill.arch import load_architecture
from flashstill.cost.links import link_cost, transfer
from flashstill.facts import load
from flashstill.hardware import Chip, chip_from_facts, known_chips
from flashstill.hardware.calibration import PERFECT
from flashstill.hardware.topology import group_links, slice_edges
from flashstill.parallel import Exchange, Layout, copies, sent_bytes, shard
from flashstill.workload import Matmul, Operation, decode, prefill

FACTS = load()
CHIPS = known_chips(FACTS)
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
TORI = [name for name in CHIPS if chip_from_facts(FACTS, name).topology.axes]
HOPS = dataclasses.replace(PERFECT, hop_s=1e-6)


def chip(name: str) -> Chip:
    return chip_from_facts(FACTS, name)


def exchange(kind: str, size: Any, group: Any, **more: Any) -> Exchange:
    return Exchange(name=kind, kind=kind, count=1.0, bytes=size, group=group, tier="tensor", **more)


def seconds(machine: Chip, work: Exchange, calibration: Any = PERFECT) -> float:
    return float(link_cost(machine, calibration, work).seconds)


class TestScalingBook:
    """Austin et al. 2025, How to Scale Your Model, chapters 2 and 3."""

    def test_across_a_slice_of_sixteen(self) -> None:
        """TPUs, question 5: bf16[8, 128, 8192] from (0, 0) to (3, 3) on 4 x 4: first byte 6 us, all 188 us."""
        machine = chip("tpu-v5e")
        first_s, last_s = transfer(machine, HOPS, 2.0 * 8 * 128 * 8192, 16, (0, 0), (3, 3))
        assert first_s == pytest.approx(6e-6)
        assert last_s == pytest.approx(188e-6, rel=0.03)

    def test_gather_over_an_open_axis_of_four(self) -> None:
        """Sharding, pop quiz: bf16[2048, 8192] over the axis of 4 of an 8 x 4 slice: 560 us; 256 x 256: 3 hops."""
        machine = chip("tpu-v5e")
        large = exchange("all-gather", 2.0 * 2048 * 8192, 4.0, slice_chips=32.0)
        small = exchange("all-gather", 2.0 * 256 * 256, 4.0, slice_chips=32.0)
        assert seconds(machine, large, HOPS) == pytest.approx(560e-6, rel=0.03)
        assert seconds(machine, small, HOPS) == pytest.approx(3e-6)

    @pytest.mark.parametrize(("name", "edge", "axes"), [("tpu-v5e", 16, 1), ("tpu-v5p", 8, 1), ("tpu-v4", 4, 2)])
    def test_closed_axes(self, name: str, edge: int, axes: int) -> None:
        """V / (k W) for a gather, twice that for an all-reduce, V / (4 W) for an all-to-all of V over one axis."""
        machine = chip(name)
        both_ways, group, size = 2 * machine.topology.one_link_bytes_per_s, float(edge**axes), 1e9
        whole = float(edge**machine.topology.axes)
        stride = whole / group if axes == 1 else 1.0
        cut = {"slice_chips": whole, "stride": stride}
        gather = seconds(machine, exchange("all-gather", size, group, **cut))
        assert gather == pytest.approx(size * (group - 1) / group / (axes * both_ways))
        assert seconds(machine, exchange("all-reduce", size, group, **cut)) == pytest.approx(2 * gather)
        if axes == 1:
            turned = seconds(machine, exchange("all-to-all", size / group, group, **cut))
            assert turned == pytest.approx(size / (4 * both_ways))


class TestSlices:
    def test_edges(self) -> None:
        for chips, edges in ((8, (4, 2)), (16, (4, 4)), (32, (8, 4)), (256, (16, 16))):
            assert slice_edges(chips, 2, 16) == edges
        shapes = {8: (2, 2, 2), 16: (4, 2, 2), 64: (4, 4, 4), 128: (8, 4, 4), 192: (12, 4, 4), 8960: (28, 20, 16)}
        for chips, cube in shapes.items():
            assert slice_edges(chips, 3, 4) == cube

    def test_only_axes_longer_than_one_carry(self) -> None:
        assert float(group_links(3, 4, 4.0).links) == 2.0  # 2 x 2 x 1, open
        assert float(group_links(3, 4, 8.0).links) == 3.0  # 2 x 2 x 2, open
        assert float(group_links(3, 4, 64.0).links) == 6.0  # closed
        assert float(group_links(2, 16, 16.0).links) == 2.0  # 4 x 4, open
        assert float(group_links(2, 16, 256.0).links) == 4.0
        assert float(group_links(3, 4, 4.0, slice_chips=64.0).links) == 2.0  # one closed axis of a cube
        assert float(group_links(3, 4, 16.0, 4.0, 64.0).links) == 4.0  # the other two

    def test_groups_between_others_share_links(self) -> None:
        alone, shared = group_links(2, 16, 16.0, 16.0, 256.0), group_links(2, 16, 8.0, 2.0, 16.0 * 16.0)
        assert float(alone.links) == 2.0
        assert float(shared.links) == pytest.approx(1.0)  # a ring through every second chip of an axis

    def test_arrays(self) -> None:
        groups = np.array([[1.0, 2.0], [4.0, 64.0]])
        links = np.asarray(group_links(3, 4, groups).links)
        assert links.shape == (2, 2)
        assert links[1, 1] == 6.0
        assert links[0, 0] == 0.0


def test_two_tiers() -> None:
    machine = chip("h100-sxm")
    size = 1e9
    near = link_cost(machine, PERFECT, exchange("all-reduce", size, 8.0))
    far = link_cost(machine, PERFECT, exchange("all-reduce", size, 32.0))
    assert float(near.beyond_bytes) == 0.0
    assert float(far.beyond_bytes) == pytest.approx(2 * size / 8 * 3 / 4)
    assert float(far.seconds) == pytest.approx(
        float(near.seconds) + float(far.beyond_bytes) / machine.system.scale_out_bytes_per_s
    )
    # Members that are a node apart meet only beyond it.
    apart = link_cost(machine, PERFECT, exchange("all-reduce", size, 4.0, stride=8.0))
    assert float(apart.inside_bytes) == 0.0
    assert float(apart.beyond_bytes) == pytest.approx(2 * size * 3 / 4)
    # Slices that are smaller than a pod are joined by the network of the data centre.
    pods = link_cost(chip("tpu-v4"), PERFECT, exchange("all-reduce", size, 2.0, stride=64.0, slice_chips=64.0))
    assert float(pods.beyond_bytes) == pytest.approx(size)


def test_a_domain_holds_whole_chips_of_a_group() -> None:
    """Two of PaLM's replicas of 3,072 chips: a pod of 4,096 holds one of them, not one and a third."""
    pod = chip("tpu-v4").system
    assert pod.domain_chips == 4096
    assert float(pod.near(2.0, 3072.0)) == 1.0
    assert float(pod.near(8.0, 512.0)) == 8.0
    assert float(pod.near(8.0, 600.0)) == 6.0
    assert float(pod.near(8.0, 16.0, slice_chips=64.0)) == 4.0
    work = exchange("all-reduce", 1e9, 2.0, stride=3072.0, slice_chips=6144.0)
    assert seconds(chip("tpu-v4"), work) < 1.0


def test_hops_between_two_chips() -> None:
    """(0, 0) to (3, 3) of an open 4 x 4: 6 hops and both axes; opposite corners of a closed 16 x 16: 1 + 1."""
    topology = chip("tpu-v5e").topology
    assert topology.path(16, (0, 0), (3, 3)) == (6, 2)
    assert topology.path(256, (0, 0), (15, 15)) == (2, 2)
    assert topology.path(256, (0, 0), (0, 0)) == (0, 0)


def test_tokens_travel_once_to_each_group_of_experts() -> None:
    assert float(copies(8, 256.0)) == pytest.approx(8.0, rel=0.02)
    assert float(copies(8, 8.0)) == pytest.approx(8 * (1 - (7 / 8) ** 8))
    assert float(copies(8, 1.0)) == 1.0
    assert float(copies(1, 64.0)) == pytest.approx(1.0)


@given(name=st.sampled_from(CHIPS), batch=st.integers(1, 256), ffn=st.sampled_from(["1d", "2d", "gathered"]))
def test_one_chip_sends_nothing(name: str, batch: int, ffn: str) -> None:
    for model in ("llama-3.1-8b", "qwen3-30b-a3b", "palm-8b"):
        for by_sequences in (False, True):
            layout = Layout(ffn=ffn, shard_batch=by_sequences)
            whole = tuple(decode(load_architecture(model), float(batch), 128.0))
            sharded = shard(whole, layout)
            assert not sharded.exchanges
            assert [operation.flops for operation in sharded.operations] == [operation.flops for operation in whole]


@settings(deadline=None)
@given(
    name=st.sampled_from(CHIPS),
    kind=st.sampled_from(KINDS),
    size=st.floats(1.0, 1e10),
    power=st.integers(1, 9),
    factor=st.floats(1.0, 50.0),
)
def test_more_bandwidth_never_slows(name: str, kind: str, size: float, power: int, factor: float) -> None:
    slow = chip(name)
    fast = dataclasses.replace(
        slow,
        topology=dataclasses.replace(slow.topology, link_bytes_per_s=slow.topology.link_bytes_per_s * factor),
        system=dataclasses.replace(slow.system, scale_out_bytes_per_s=slow.system.scale_out_bytes_per_s * factor),
    )
    work = exchange(kind, size, 2.0**power)
    assert seconds(fast, work, fast.calibration) <= seconds(slow, work, slow.calibration) * (1 + 1e-12)


@given(name=st.sampled_from(TORI), kind=st.sampled_from(KINDS), size=st.floats(1.0, 1e10), power=st.integers(1, 12))
def test_rings_are_never_slower_than_lines(name: str, kind: str, size: float, power: int) -> None:
    machine = chip(name)
    ring, line = (dataclasses.replace(machine.topology, wrap_edge=edge) for edge in (4, 8192))
    large = dataclasses.replace(machine.system, domain_chips=4096)
    closed = dataclasses.replace(machine, topology=ring, system=large)
    opened = dataclasses.replace(machine, topology=line, system=large)
    work = exchange(kind, size, 2.0**power)
    assert seconds(closed, work, HOPS) <= seconds(opened, work, HOPS) * (1 + 1e-12)


@given(name=st.sampled_from(CHIPS), size=st.floats(1.0, 1e10), group=st.integers(1, 512))
def test_an_all_reduce_is_a_scatter_and_a_gather(name: str, size: float, group: int) -> None:
    machine = chip(name)
    parts = [link_cost(machine, PERFECT, exchange(kind, size, float(group))) for kind in KINDS[:3]]
    for field in ("inside_bytes", "beyond_bytes", "seconds"):
        both, gather, scatter = (float(getattr(part, field)) for part in parts)
        assert both == pytest.approx(gather + scatter)
    assert sent_bytes("all-reduce", size, float(group)) == pytest.approx(2 * size * (group - 1) / group)


def pair(tokens: float, width: float, hidden: float) -> list[Operation]:
    """An FFN of two matrices in 16 bits."""
    both: dict[str, Any] = {"rows": tokens}
    return [
        Matmul(name="feed-forward in", columns=hidden, depth=width, **both),
        Matmul(
            name="feed-forward out", columns=width, depth=hidden, split="rows", reduce_bytes=2 * tokens * width, **both
        ),
    ]


class TestPope:
    """Pope et al. 2022, section 3.2: bytes that cross links for one FFN with hidden width 4 d."""

    tokens, width = 512.0, 4096.0

    def sent(self, layout: Layout) -> float:
        found = shard(pair(self.tokens, self.width, 4 * self.width), layout).exchanges
        factor = {"all-reduce": 2.0}
        large = [each for each in found if float(np.max(each.bytes)) > 4 * self.tokens]  # not the sums for norms
        return float(sum(factor.get(each.kind, 1.0) * each.bytes for each in large))

    @pytest.mark.parametrize("chips", [16, 64, 256])
    def test_volumes(self, chips: int) -> None:
        one = self.sent(Layout(tp=float(chips)))
        two = self.sent(Layout(tp=float(chips), ffn="2d"))
        assert one == pytest.approx(2 * 2 * self.tokens * self.width)
        assert two == pytest.approx(2 * 8 * self.tokens * self.width / np.sqrt(chips))

    def test_gathered(self) -> None:
        chips, hidden = 64.0, 4 * self.width
        best = np.sqrt(self.tokens * chips / hidden)  # a square root of 2
        assert best == pytest.approx(np.sqrt(2.0))
        for gather in (1.0, 2.0, 4.0, 64.0):
            layout = Layout(tp=chips, ffn="gathered", gather=gather)
            weights = 0.0 if gather == 1 else 2 * 2 * self.width * hidden * gather / chips
            sums = 0.0 if gather == chips else 2 * 2 * self.tokens * self.width / gather
            assert self.sent(layout) == pytest.approx(weights + sums)
        assert self.sent(Layout(tp=chips, ffn="gathered")) <= min(
            self.sent(Layout(tp=chips, ffn="gathered", gather=gather)) for gather in (2.0, 4.0, 8.0)
        ) * (1 + 1e-9)

    def test_work_is_divided_and_none_lost(self) -> None:
        operations = prefill(load_architecture("palm-8b"), 64.0, 128.0)
        whole = sum(operation.count * operation.flops for operation in operations)
        for ffn in ("1d", "2d", "gathered"):
            for by_sequences in (False, True):
                layout = Layout(tp=16.0, ffn=ffn, shard_batch=by_sequences)
                sharded = shard(operations, layout)
                mine = sum(operation.count * operation.flops for operation in sharded.operations)
                assert 16 * float(mine) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("chips", "out_us", "back_us"), [(32, 155, 273), (64, 173, 314), (128, 192, 369), (256, 194, 360)]
)
def test_deepep_across_nodes(chips: int, out_us: float, back_us: float) -> None:
    """deepseek-ai/DeepEP, README: low-latency kernels on H800 with a NIC of 50 GB/s each, 128 tokens of 7168 values
    to 8 experts, fp8 out and bf16 back.

    These kernels took the NICs within a node too, so 8 and 16 chips (118 and 195 us) were slower than over NVLink.
    """
    machine = chip("h800-sxm")
    for measured_us, width in ((out_us, 1.0), (back_us, 2.0)):
        size = 128 * 7168 * width * float(copies(8, float(chips)))
        cost = link_cost(machine, machine.calibration, exchange("all-to-all", size, float(chips)), "sglang")
        assert float(cost.seconds) * 1e6 == pytest.approx(measured_us, rel=0.2)
