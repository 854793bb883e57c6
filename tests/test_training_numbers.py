"""Training steps of a small model on a machine of round numbers, and weights split in two dimensions, by hand.

One sequence of 10 tokens: products of the blocks 10 x 2 x 700 x 100 x 2 layers = 2.8 MFLOP, head 10 x 2 x 1,000 x 100
= 2 MFLOP; attention has 55 pairs, but its kernel works on a tile of 128 x 128: 2 x 2 x 4 x 50 x 16,384 = 13.1072 MFLOP.
Backwards products are twice that, attention 2.5 times.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from flashstill.cost.conditions import Conditions
from flashstill.cost.training import TrainingCost, train_step
from flashstill.cost.training_footprint import activation_bytes, state_bytes
from flashstill.errors import BadInput
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.parallel import Layout, shard
from flashstill.parallel.training import TrainingPlan, plan_reason
from flashstill.parallel.weights import gather_chips, width_chips
from flashstill.workload import Matmul, decode
from tests.round import MEMORY, round_chip, round_conditions
from tests.small import gated_model, latent_model, routed_model, small_model

approx = pytest.approx
ATTENTION, HEAD = 13.1072e-6, 2e-6
FORWARD, BACKWARD = 2.8e-6 + ATTENTION, 5.6e-6 + 2.5 * ATTENTION
"""seconds of one sequence at 1 TFLOP/s"""
PARAMETERS = 240_400
"""140,400 of the blocks and 100,000 of the embedding"""


def conditions(bytes_per_s: float = 1e30, **changes: Any) -> Conditions:
    """Nothing but arithmetic takes time, unless a memory or links are asked for."""
    memory = dataclasses.replace(MEMORY, bytes_per_s=bytes_per_s)
    return round_conditions(round_chip(compute_units=0, tiers=(memory,), **changes))


def step(plan: TrainingPlan, given: Conditions | None = None) -> TrainingCost:
    return train_step(small_model(), given or conditions(), plan)


def parts(cost: TrainingCost) -> dict[str, float]:
    return {name: float(value) for name, value in cost.parts_s.items() if abs(float(value)) > 1e-15}


def plan_of(**changes: Any) -> TrainingPlan:
    return TrainingPlan(**{"batch": 4.0, "length": 10.0, **changes})


class TestTime:
    def test_one_chip(self) -> None:
        cost = step(plan_of())
        assert parts(cost) == approx({"forward": 4 * (FORWARD + HEAD), "backward": 4 * (BACKWARD + 2 * HEAD)})
        seconds = 4 * (FORWARD + BACKWARD + 3 * HEAD)
        assert float(cost.seconds) == approx(seconds)
        assert float(cost.tokens_per_s) == approx(40 / seconds)
        # By convention all 100 pairs count: 3 x (2.8 + 0.08 + 2) MFLOP a sequence.
        assert float(cost.model_flops_per_s) == approx(4 * 3 * 4.88e6 / seconds)
        assert float(cost.mfu) == approx(4 * 3 * 4.88e6 / seconds / 1e12)
        # 55 pairs are computed, forward and 2.5 times backward.
        assert float(cost.hardware_flops_per_s) == approx(4 * (3 * 4.8e6 + 3.5 * 44e3) / seconds)

    def test_joules(self) -> None:
        """1 pJ a multiply-accumulate and a quarter for its operands; 30 W all the time."""
        cost = step(plan_of())
        macs = 4 * (3 * 4.8e6 + 3.5 * 44e3) / 2
        joules = {level: float(value) for level, value in cost.step.joules.items()}
        assert joules["arithmetic"] == approx(macs * 1e-12)
        assert joules["near_sram"] == approx(macs * 0.25e-12)
        assert joules["idle"] + joules["active"] == approx(30 * float(cost.seconds))
        assert joules["links"] == 0.0
        # 2 replicas sum 480,800 bytes: each sends half of them twice, 10 pJ a byte.
        assert float(step(plan_of(dp=2.0)).step.joules["links"]) == approx(2 * PARAMETERS * 2 * 10e-12)

    def test_what_is_computed_again(self) -> None:
        projections = 10 * 2 * 200 * 100 * 2 / 1e12
        for recompute, again in (
            ("selective", ATTENTION),
            ("projections", FORWARD - projections),
            ("full", FORWARD),
        ):
            assert parts(step(plan_of(recompute=recompute)))["recompute"] == approx(4 * again)
        with pytest.raises(BadInput, match="nearest known: none"):
            plan_of(recompute="some")

    def test_a_pipeline(self) -> None:
        """One layer a stage; the last has the head as well, 6 us, of which the mean stage has 3.

        4 passes of 2 stages: one of the slowest in which the pipeline fills, and 3 us of waiting in each pass.
        A stage sends 10 x 100 x 2 bytes there and back at 100 GB/s.
        """
        found = parts(step(plan_of(pp=2.0)))
        body, ends = FORWARD + BACKWARD, 3 * HEAD
        slowest = body / 2 + ends
        assert found["forward"] == approx(4 * (FORWARD + HEAD) / 2)
        assert found["bubble"] == approx(slowest + 4 * (slowest - (body + ends) / 2))
        assert found["sends"] == approx(4 * 2 * 2000 / 1e11)
        interleaved = parts(step(plan_of(pp=2.0, interleave=2.0)))
        # Two pieces of a layer each on both stages: of 4 places 2 stay empty, one of them on the stage with the head.
        whole = max(body, body / 2 + ends)
        assert interleaved["bubble"] == approx(whole / 2 + 4 * (whole - (body + ends) / 2))
        assert interleaved["sends"] == approx(4 * 4 * 2000 / 1e11)

    def test_tensor_parallel(self) -> None:
        """Half of each product; 2 sums a layer of 2,000 bytes, of which a chip sends 2 x 1/2, forward and backward."""
        found = parts(step(plan_of(tp=2.0)))
        assert found["forward"] == approx(4 * (FORWARD + HEAD) / 2)
        assert found["tensor"] == approx(4 * 2 * 2 * 2 * 2000 / 1e11)
        assert parts(step(plan_of(tp=2.0, recompute="full")))["tensor"] == approx(4 * 3 * 2 * 2 * 2000 / 1e11)
        # A gather and a scatter of the same volume instead.
        assert parts(step(plan_of(tp=2.0, sequence_parallel=True)))["tensor"] == approx(4 * 2 * 2 * 2 * 2000 / 1e11)

    def test_context_parallel(self) -> None:
        """Half of a sequence a chip; keys and values, 10 x 100 x 2 bytes a layer, are gathered forward and backward."""
        found = parts(step(plan_of(cp=2.0)))
        assert found["forward"] == approx(4 * (FORWARD + HEAD) / 2)
        assert found["tensor"] == approx(4 * 2 * 2 * 2000 / 2 / 1e11)

    def test_replicas_hide_what_they_can(self) -> None:
        """480,800 bytes of gradients: 4.808 us, less than a pass backward, but one of 2 layers has no cover."""
        every = PARAMETERS * 2 / 1e11
        assert parts(step(plan_of(dp=2.0)))["replicas"] == approx(every / 2)
        # zero1: half scattered, half gathered, each with its own share.
        assert parts(step(plan_of(dp=2.0, zero1=True)))["replicas"] == approx(every / 2)
        # fsdp: parameters in both directions and gradients, in each of 2 passes.
        assert parts(step(plan_of(fsdp=2.0)))["replicas"] == approx(2 * 3 * every / 2 / 2)
        # Links of a hundredth: 480.8 us, of which the pass backward covers 42.4 us.
        topology = dataclasses.replace(round_chip().topology, link_bytes_per_s=1e9)
        slow = conditions(topology=topology)
        assert parts(step(plan_of(dp=2.0), slow))["replicas"] == approx(100 * every - BACKWARD - 2 * HEAD)
        assert parts(step(plan_of(dp=2.0, frozen=True), slow)).get("replicas", 0.0) == 0.0

    def test_optimizer(self) -> None:
        """30 bytes a parameter at 1 GB/s; fsdp and zero1 share it."""
        slow = conditions(bytes_per_s=1e9)
        for changes, share in (
            ({}, 1.0),
            ({"dp": 2.0}, 1.0),
            ({"dp": 2.0, "zero1": True}, 0.5),
            ({"fsdp": 2.0}, 0.5),
            ({"tp": 2.0}, 0.5),
            ({"frozen": True}, 0.0),
        ):
            found = parts(step(plan_of(**changes), slow)).get("optimizer", 0.0)
            assert found == approx(share * 30 * PARAMETERS / 1e9), changes

    def test_domains_wait_for_each_other(self) -> None:
        """4 domains of 8 chips: two doublings, 1 % of the step each; and 1 ms of software."""
        software = dataclasses.replace(NO_SOFTWARE, sync_ratio=0.01, step_s=1e-3, layer_s=1e-4)
        given = dataclasses.replace(conditions(), software=software)
        cost = step(plan_of(batch=32.0, dp=32.0), given)
        found = parts(cost)
        others = sum(seconds for name, seconds in found.items() if name != "waiting")
        assert found["waiting"] == approx(1e-3 + 0.02 * others)
        assert found["forward"] == approx(FORWARD + HEAD + 2 * 1e-4)  # of each block
        assert float(cost.seconds) == approx(sum(found.values()))


class TestMemory:
    def test_states(self) -> None:
        """2 + 2 bytes a parameter and 12 of Adam; the embedding is on the first stage, the tied head on the last."""
        for changes, expected in (
            ({}, PARAMETERS * 16),
            ({"frozen": True}, PARAMETERS * 2),
            ({"dp": 2.0}, PARAMETERS * 16),
            ({"dp": 2.0, "zero1": True}, PARAMETERS * 4 + PARAMETERS * 12 / 2),
            ({"fsdp": 2.0}, PARAMETERS * 16 / 2),
            ({"tp": 2.0}, PARAMETERS * 16 / 2),
            ({"pp": 2.0}, (140_400 / 2 + 100_000) * 16),
        ):
            assert float(state_bytes(small_model(), plan_of(**changes))) == approx(expected), changes

    def test_experts_are_on_ep_chips_already(self) -> None:
        """2 layers x 8 x 3 x 100 x 50 = 240,000 routed parameters; all others are in each of 4 replicas' share."""
        model = routed_model()
        routed = 240_000
        dense = model.parameters - routed - 100_000 - 100  # without embedding and last norm
        for changes, expected in (
            ({"ep": 4.0, "dp": 4.0}, (dense + 100_000) * 16 + routed / 4 * 16),
            ({"ep": 4.0, "fsdp": 4.0}, (dense + 100_000) / 4 * 16 + routed / 4 * 16),
            ({"ep": 2.0, "fsdp": 4.0}, (dense + 100_000) / 4 * 16 + routed / 2 / 2 * 16),
        ):
            assert float(state_bytes(model, plan_of(**changes))) == approx(expected), changes

    def test_activations(self) -> None:
        """A token keeps in a layer: 2 x (2 + 2) x 100 of the stream, 2 x 2 x 200 of the feed-forward, 2 x 300 of the
        queries, keys, values and what the output reads."""
        for changes, token in (
            ({}, 800 + 800 + 600),
            ({"dropout": True}, 800 + 200 + 800 + 600),
            ({"tp": 2.0}, 800 + 700),
            ({"tp": 2.0, "sequence_parallel": True}, 400 + 700),
            ({"fused_attention": False}, 2200 + 5 * 4 * 10),
            ({"fused_attention": False, "recompute": "selective"}, 2200),
            ({"recompute": "full"}, 200),
            ({"recompute": "full", "tp": 2.0}, 200),
            ({"recompute": "full", "tp": 2.0, "sequence_parallel": True}, 100),
            ({"recompute": "projections", "tp": 2.0}, 200 + 2 * 200 / 2),
        ):
            assert float(activation_bytes(small_model(), plan_of(**changes))) == approx(2 * 10 * token), changes
        assert float(activation_bytes(small_model(), plan_of(microbatch=2.0, cp=4.0))) == approx(2 * 5 * 2200)

    def test_stages_keep_passes(self) -> None:
        """2 stages of one layer keep 2 passes; one, where there is one; half a pass more where pieces interleave."""
        for changes, passes in (
            ({"pp": 2.0}, 2.0),
            ({"pp": 2.0, "batch": 1.0}, 1.0),
            ({"pp": 2.0, "interleave": 2.0}, 2.0 * 1.25),
        ):
            assert float(activation_bytes(small_model(), plan_of(**changes))) == approx(passes * 10 * 2200), changes

    def test_other_blocks(self) -> None:
        """A parallel block has one branch and a gate; experts keep 2 of 3 x 50 + 100 and the shared 30."""
        assert float(activation_bytes(gated_model(), plan_of())) == approx(2 * 10 * (400 + 2 * 3 * 200 + 600))
        # Latent attention keeps what 8 bytes of every value of the stream are an estimate of.
        assert float(activation_bytes(latent_model(), plan_of())) == approx(2 * 10 * (800 + 2 * 2 * 200 + 8 * 100))
        token = 800 + 2 * 2 * (3 * 50 + 100) + 2 * 3 * 30 + 600
        assert float(activation_bytes(routed_model(), plan_of())) == approx(2 * 10 * token)

    def test_whether_it_fits(self) -> None:
        """3,846,400 bytes of states and 44,000 of activations, in 90 % of the memory."""
        needed = (PARAMETERS * 16 + 44_000) / 0.9
        for ratio, fits in ((1.0 - 1e-9, False), (1.0 + 1e-9, True)):
            memory = dataclasses.replace(MEMORY, visible_bytes=needed * ratio)
            found = train_step(small_model(), round_conditions(round_chip(tiers=(memory,))), plan_of())
            assert bool(found.fits) is fits


def test_plans() -> None:
    plan = plan_of(batch=48.0, microbatch=2.0, tp=2.0, cp=3.0, pp=5.0, fsdp=2.0, dp=4.0)
    assert (plan.chips, plan.replicas, plan.microbatches) == (240.0, 8.0, 3.0)
    assert float(np.asarray(plan.joined)) == 240.0
    assert float(np.asarray(dataclasses.replace(plan, slice_chips=64.0).joined)) == 64.0
    assert float(np.asarray(dataclasses.replace(plan, slice_chips=999.0).joined)) == 240.0
    assert float(np.asarray(dataclasses.replace(plan, ep=8.0).layout.dp)) == 4.0
    assert float(np.asarray(dataclasses.replace(plan, ep=1.0).layout.dp)) == 1.0


class TestTwoDimensions:
    """Decoding 3 tokens on 4 chips.  Sums: 2 layers x 2 x 600 bytes, twice; hidden: 2 x 6 bytes x 700 columns.

    X = sqrt(4 x 4,800 / 8,400) = 1.51, which is 2 in powers of two.
    """

    OPERATIONS = decode(small_model(), 3.0, 10.0)

    def test_over_two_and_two(self) -> None:
        assert float(np.asarray(width_chips(self.OPERATIONS, 4.0))) == 2.0
        assert float(np.asarray(width_chips(self.OPERATIONS, 64.0))) == 8.0  # 6.05, nearer to 8 in octaves
        sharded = shard(self.OPERATIONS, Layout(tp=4.0, ffn="2d"))
        (first, _, output, inner, outer, norms, _, head) = sharded.operations
        for operation, columns, depth, moved in (
            (first, 100.0, 50.0, 6 * 150),
            (output, 50.0, 50.0, 6 * 100),
            (inner, 100.0, 50.0, 6 * 150),
            (outer, 50.0, 100.0, 6 * 150),
            (head, 250.0, 100.0, 6 * 350),
        ):
            assert isinstance(operation, Matmul)
            assert (float(operation.columns), float(operation.depth)) == (columns, depth)
            assert float(operation.activation_bytes) == approx(moved)
        assert float(norms.activation_bytes) == approx(6 * 600 / 4)
        sent = [(each.name, each.kind, float(each.bytes), float(each.stride)) for each in sharded.exchanges]
        # Sums of the hidden values within pairs of neighbours, of the stream across them; norms: 4 bytes a token.
        assert sent == [
            ("query, key, value", "reduce-scatter", 600.0, 1.0),
            ("attention output", "all-gather", 300.0, 1.0),
            ("attention output", "reduce-scatter", 300.0, 2.0),
            ("attention output", "all-gather", 300.0, 2.0),
            ("attention output", "all-reduce", 12.0, 1.0),
            ("feed-forward in", "reduce-scatter", 600.0, 1.0),
            ("feed-forward out", "all-gather", 600.0, 1.0),
            ("feed-forward out", "reduce-scatter", 300.0, 2.0),
            ("feed-forward out", "all-gather", 300.0, 2.0),
            ("feed-forward out", "all-reduce", 12.0, 1.0),
        ]
        assert {float(each.group) for each in sharded.exchanges} == {2.0}
        assert {float(np.asarray(each.slice_chips)) for each in sharded.exchanges} == {4.0}

    def test_weights_gathered_over_two(self) -> None:
        """Half of the tokens and half of the columns a chip, which gathers the other half of its weights."""
        sharded = shard(self.OPERATIONS, Layout(tp=4.0, ffn="gathered", gather=2.0))
        first, attention, output = sharded.operations[:3]
        assert isinstance(first, Matmul)
        assert (float(first.rows), float(first.columns), float(first.depth)) == (1.5, 100.0, 100.0)
        assert float(attention.flops) == approx(2 * 1.5 * 2 * 50 * 11)
        assert float(output.activation_bytes) == approx(2 * 1.5 * 150)
        norms = sharded.operations[5]
        assert float(norms.activation_bytes) == approx(6 * 600 / 2)
        sent = {(each.name, each.kind): (float(each.bytes), float(each.stride)) for each in sharded.exchanges}
        assert sent["query, key, value", "all-gather"] == (20_000.0, 2.0)
        assert sent["attention output", "all-reduce"] == (300.0, 1.0)
        # sqrt(4 x 4,800 / 480,000) is below one; of 3,000 tokens it is sqrt(4 x 4.8e6 / 480,000) = 6.3, at most 4.
        assert float(np.asarray(gather_chips(self.OPERATIONS, 4.0))) == 1.0
        assert float(np.asarray(gather_chips(decode(small_model(), 3000.0, 10.0), 4.0))) == 4.0
        assert float(np.asarray(gather_chips(decode(small_model(), 750.0, 10.0), 4.0))) == 4.0  # 3.16
        assert float(np.asarray(gather_chips(decode(small_model(), 200.0, 10.0), 4.0))) == 2.0  # 1.63

    def test_gathered_experts(self) -> None:
        """All 8 experts' halves: 3 x 100 x 25 x 8 x 2 bytes; half of the tokens."""
        sharded = shard(decode(routed_model(), 3.0, 10.0), Layout(tp=4.0, ffn="gathered", gather=2.0))
        routed = next(each for each in sharded.operations if each.name == "experts")
        assert float(routed.flops) == approx(2 * 3 * 100 * 25 * 1.5 * 2)
        gathered = next(each for each in sharded.exchanges if (each.name, each.kind) == ("experts", "all-gather"))
        assert float(gathered.bytes) == 3 * 100 * 25 * 8 * 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"batch": 3.0, "dp": 2.0}, "the batch does not fill the replicas"),
        ({"batch": 1.0, "dp": 2.0}, "the batch does not fill the replicas"),
        ({"batch": 4.0, "microbatch": 4.0}, None),
        ({"ep": 4.0, "dp": 2.0}, "ep exceeds the chips of a stage"),
        ({"pp": 2.0}, None),
        ({"pp": 2.0, "interleave": 2.0}, "pp exceeds the layers"),
    ],
)
def test_plans_that_cannot_be_built(changes: dict[str, Any], reason: str | None) -> None:
    found = plan_reason(small_model(), plan_of(**changes))
    assert found is None if reason is None else (found or "").startswith(reason)
