"""Steps, collectives, memory and the closed form of serving on a machine of round numbers, each worked out by hand."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest

from flashstill.cost import Load, Precisions, Speculation, StepCost, step_cost
from flashstill.cost.admission import capacity, running_requests
from flashstill.cost.closed_form import Paces, closed_form
from flashstill.cost.footprint import (
    holds,
    layout_room_bytes,
    most_sequences,
    room_bytes,
    sequence_bytes,
    token_bytes,
    total_bytes,
    usable_bytes,
)
from flashstill.cost.links import link_cost
from flashstill.cost.load import prompts_together
from flashstill.cost.phases import (
    batch_step,
    decode_step,
    mixed_step,
    overhead_seconds,
    prefill_step,
    sends,
    verify_step,
    with_sampling,
    working_share,
)
from flashstill.cost.serving import serve
from flashstill.hardware.calibration import PERFECT, Collective
from flashstill.hardware.software import NO_SOFTWARE
from flashstill.parallel import Exchange, Layout, Sharded
from flashstill.workload import Chunks, Decoding, Matmul
from tests.round import SRAM, round_chip, round_conditions, round_torus
from tests.small import SMALL_WEIGHTS, small_model

approx = pytest.approx


LONG_INPUTS: dict[str, Any] = {"input_value_bytes": 400.0, "output_value_bytes": 0.0}
"""4e5 bytes of a row of 1,000 activations"""


class TestStep:
    def step(self, chips: float = 1.0, **changes: Any) -> StepCost:
        """1e6 MACs; 2e6 bytes of weights at 1 TB/s: 2 us; 1 s of overhead."""
        product = Matmul(name="m", rows=1.0, columns=1000.0, depth=1000.0, count=2, **LONG_INPUTS)
        sharded = Sharded(operations=(product,), exchanges=())
        return step_cost(round_conditions(round_chip(compute_units=0, **changes)), sharded, chips, 1.0, 1.2)

    def test_sums(self) -> None:
        found = self.step(chips=3.0)
        # 2 us of arithmetic at 1 TFLOP/s, 2.4 us of weights and activations at 1 TB/s: memory sets the time
        assert float(found.shares_s["memory"]) == approx(2 * 2.4e-6)
        assert float(found.shares_s["compute"]) == 0.0
        assert float(found.shares_s["overhead"]) == 1.0
        assert float(found.seconds) == approx(1.0 + 4.8e-6)
        assert float(found.macs) == 3 * 2e6
        assert float(found.joules["weights"]) == approx(3 * 2 * 2e6 * 5e-12)
        # each chip draws 10 W idle and half of its active 20 W all the time, and the other half while it is busy
        assert float(found.joules["idle"]) == approx(60 * float(found.seconds))
        assert float(found.joules["active"]) == approx(30 * 4.8e-6)
        assert float(found.timed_joules) == approx(60 * float(found.seconds))
        dynamic = 3 * 2 * (1e-6 + 0.25e-6 + 4e5 * 1e-12 + 2e6 * 5e-12)
        assert float(found.dynamic_joules) == approx(dynamic, rel=1e-6)
        assert float(found.work_joules) == approx(dynamic + 30 * 4.8e-6, rel=1e-6)
        assert float(found.total_joules) == approx(dynamic + 30 * 4.8e-6 + 60 * float(found.seconds))
        assert float(found.watts_per_chip) == approx(20.0, rel=1e-5)
        # the server takes 1.5 times its chips, the building 1.2 times the server
        assert float(found.wall_joules) == approx(1.8 * float(found.total_joules))
        assert found.bound == "overhead"
        moved = (0.25e-6 + 4e5 * 1e-12 + 2e6 * 5e-12) / 1e6 * 1e12
        assert found.pj_per_mac == {"compute": approx(1.0), "movement": approx(moved)}

    def test_a_chip_throttles_until_its_limit_is_met(self) -> None:
        """3.3 uJ of multiplying and SRAM and 10 W of clocks for 4.8 us take a quarter at the lowest voltage, 0.5.

        20 uJ of weights stay: 32.825 uJ beside 20 W, which take 2.33 s.
        """
        left = (3.3e-6 + 48e-6) / 4.0 + 20e-6
        limit = 20.0 + left / 2.33
        found = self.step(chips=3.0, power_limit_w=limit)
        assert float(found.shares_s["power"]) == approx(1.33 - 4.8e-6, rel=1e-6)
        assert float(found.seconds) == approx(2.33)
        assert float(found.watts_per_chip) == approx(limit, rel=1e-9)
        assert float(found.joules["arithmetic"]) == approx(3 * 2e-6 / 4.0)
        assert float(found.joules["active"]) == approx(3 * 48e-6 / 4.0)
        assert float(found.joules["weights"]) == approx(3 * 20e-6)
        assert float(found.joules["idle"]) == approx(3 * 20.0 * 2.33)

    def test_a_kernel_follows_the_clock_as_far_as_it_computes(self) -> None:
        """1 us of arithmetic beside 1.2 us of memory: at half the clock 2 us, 0.8 more than at the full one.

        15 uJ of arithmetic and operands, 12 of clocks and 6 of memory in 1.2 us, at full clock 27.5 W beside 20 of a
        waiting chip.  At 0.8 of the clock 1.2 + 0.8 / 4 = 1.4 us, and 0.64 x 27 + 6 = 23.28 uJ.
        """
        product = Matmul(name="m", rows=1.0, columns=1000.0, depth=500.0, **LONG_INPUTS)
        chip = round_chip(compute_units=0, on_chip_bytes=0.0, joules_per_mac={"bf16": 20e-12},
                          operand_joules_per_mac={"bf16": 10e-12}, power_limit_w=20.0 + 23.28 / 1.4)  # fmt: skip
        found = step_cost(round_conditions(chip), Sharded(operations=(product,), exchanges=()))
        assert float(found.seconds) == approx(1.4e-6)

    def test_scaled_and_partly_empty(self) -> None:
        one = self.step(chips=2.0)
        three = one.plus(one, 2.0)
        assert float(three.seconds) == approx(3 * float(one.seconds))
        assert float(three.joules["weights"]) == approx(3 * float(one.joules["weights"]))
        assert float(three.macs) == approx(3 * float(one.macs))
        assert float(three.shares_s["memory"]) == approx(3 * float(one.shares_s["memory"]))
        assert float(one.times(4.0).seconds) == approx(4 * float(one.seconds))
        half = one.partly_empty(0.5)
        assert float(half.joules["weights"]) == approx(0.5 * float(one.joules["weights"]))
        assert (half.joules["idle"], half.seconds) == (one.joules["idle"], one.seconds)
        assert float(half.macs) == approx(0.5 * float(one.macs))


class TestLinks:
    def seconds(self, exchange: Exchange, chip: Any = None, engine: str = "", **collective: Any) -> float:
        row = Collective(**{"efficiency": 1.0, "floor_s": 0.0, **collective})
        calibration = dataclasses.replace(
            PERFECT, hop_s=1e-6, collectives={**PERFECT.collectives, (exchange.kind, ""): row}
        )
        return float(link_cost(chip or round_chip(), calibration, exchange, engine).seconds)

    def exchange(self, kind: str = "all-reduce", size: float = 8e9, group: float = 8.0, **more: Any) -> Exchange:
        return Exchange(name=kind, kind=kind, count=1.0, bytes=size, group=group, tier="tensor", **more)

    def test_a_switch(self) -> None:
        """8 GB at 100 GB/s: 7/8 of it once or twice; floor and 7 ranks."""
        gather = self.exchange("all-gather")
        assert self.seconds(gather) == approx(0.07)
        assert self.seconds(self.exchange()) == approx(0.14)
        assert self.seconds(self.exchange("all-to-all")) == approx(0.07)
        assert self.seconds(self.exchange("send", group=2.0)) == approx(0.08)
        assert self.seconds(gather, efficiency=0.5, floor_s=0.03, rank_s=0.01, blend=1.0) == approx(0.14 + 0.03 + 0.07)
        assert self.seconds(gather, efficiency=0.5, floor_s=0.3, blend=64.0) == approx(0.3)

    def test_one_shot(self) -> None:
        """Every chip reads the 8 MB of 7 others at 50 GB/s; log2(8) = 3 doublings of a floor."""
        small = self.exchange(size=8e6)
        rows: dict[str, Any] = {
            "floor_s": 1.0,
            "one_shot_floor_s": 1e-3,
            "one_shot_doubling_s": 2e-3,
            "one_shot_efficiency": 0.5,
        }
        assert self.seconds(small, **rows) == approx(7e-3 + 7 * 8e6 / 50e9)
        assert self.seconds(dataclasses.replace(small, kind="all-gather"), **rows) > 1.0
        assert self.seconds(self.exchange(size=8e9), **{**rows, "floor_s": 0.0, "blend": 1.0}) == approx(0.14)

    def test_a_torus(self) -> None:
        """A slice of 4 x 4 x 4 closes on every axis: 6 links of 16.67 GB/s, 2 hops on each."""
        torus = round_torus()
        assert self.seconds(self.exchange("all-gather", 64e9, 64.0), torus) == approx(63e9 / 1e11)
        assert self.seconds(self.exchange("all-reduce", 64e9, 64.0), torus) == approx(2 * 63e9 / 1e11)
        # a few bytes: 6 hops of 1 us, there and back
        assert self.seconds(self.exchange("all-gather", 1.0, 64.0), torus) == approx(6e-6)
        assert self.seconds(self.exchange("all-reduce", 1.0, 64.0), torus) == approx(12e-6)
        # all-to-all: the busiest link of a ring of 4 carries 4 x 4 / 4 / 4 / 2 = a half of what a chip holds
        assert self.seconds(self.exchange("all-to-all", 1e9, 64.0), torus) == approx(0.5e9 / (1e11 / 6))
        assert self.seconds(self.exchange("send", 1e9, 2.0), torus) == approx(1e9 / (1e11 / 6))
        assert self.seconds(self.exchange("send", 1.0, 2.0), torus) == approx(1e-6)
        # 6 chips of a slice of 4 x 2 that closes nowhere: both of the shorter axis and 3 of the longer one, 1 + 2 hops.
        line = dataclasses.replace(torus.topology, axes=2, wrap_edge=16, shape=(4, 2))
        assert (float(line.group(6.0, 1.0, 8.0).links), float(line.group(6.0, 1.0, 8.0).hops)) == (2.0, 3.0)
        # 2 of a line of 3 are neighbours.
        line = dataclasses.replace(line, axes=1, shape=(3,))
        assert (float(line.group(2.0, 1.0, 3.0).links), float(line.group(2.0, 1.0, 3.0).hops)) == (1.0, 1.0)
        # A floor counts only where it was measured.
        gather = self.exchange("all-gather", 1.0, 64.0)
        assert self.seconds(gather, torus, floor_s=1.0) == approx(6e-6)
        assert self.seconds(gather, torus, floor_s=1.0, measured=True) == approx(1.0 + 6e-6)

    def test_beyond_a_domain(self) -> None:
        """64 chips in 8 domains of 8: of 8 GB that each holds 7/8 leave the domain at 10 GB/s, while others go
        inside it; all messages leave at once, after one hop."""
        cost = link_cost(
            round_chip(),
            dataclasses.replace(PERFECT, scale_out_hop_s=1e-3),
            self.exchange("all-to-all", 8e9, group=64.0),
        )
        assert [float(cost.inside_bytes), float(cost.beyond_bytes)] == approx([7e9, 7e9])
        assert float(cost.seconds) == approx(0.7 + 1e-3)
        # Groups that are 8 apart have nobody beside them in their domain.
        apart = link_cost(round_chip(), PERFECT, self.exchange("all-reduce", 8e9, group=4.0, stride=8.0))
        assert [float(apart.inside_bytes), float(apart.beyond_bytes)] == approx([0.0, 12e9])
        assert float(apart.seconds) == approx(1.2)
        alone = link_cost(round_chip(), PERFECT, self.exchange(group=1.0))
        assert (float(alone.seconds), float(alone.inside_bytes), float(alone.beyond_bytes)) == (0.0, 0.0, 0.0)

    def test_joules(self) -> None:
        """10 pJ a byte inside, 40 beyond: 14 GB and 1.5 GB of an all-reduce over 32 chips, on each of them."""
        sharded = Sharded(operations=(), exchanges=(self.exchange(group=32.0),))
        step = step_cost(round_conditions(), sharded, 32.0)
        assert float(step.joules["links"]) == approx(32 * (14e9 * 10e-12 + 1.5e9 * 40e-12))
        assert float(step.shares_s["links"]) == approx(0.14 + 0.15)
        alone = step_cost(round_conditions(), sharded)  # one of them
        assert float(alone.joules["links"]) == approx(float(step.joules["links"]) / 32)

    def test_engines_bring_their_own(self) -> None:
        """0.14 s by the general row, 0.28 s by vLLM's, which takes a quarter of what was measured."""
        own = {("all-reduce", "vllm"): Collective(efficiency=0.5, floor_s=0.0)}
        chip = round_chip(calibration=dataclasses.replace(PERFECT, collectives={**PERFECT.collectives, **own}))
        sharded = Sharded(operations=(), exchanges=(self.exchange(),))
        engine = dataclasses.replace(NO_SOFTWARE, name="vllm", collective_ratio=0.25)
        assert float(step_cost(round_conditions(chip, engine), sharded).seconds) == approx(0.07)
        either = dataclasses.replace(NO_SOFTWARE, name="none", collective_ratio=2.0, fastest_of=(engine,))
        assert float(step_cost(round_conditions(chip, either), sharded).seconds) == approx(0.07)
        slow = dataclasses.replace(either, collective_ratio=0.25)
        assert float(step_cost(round_conditions(chip, slow), sharded).seconds) == approx(0.035)


class TestMemory:
    def test_usable(self) -> None:
        """90 % of 100 GB, less 1 GB of buffers and 2 GB of graphs; these lie in DRAM alone."""
        software = dataclasses.replace(NO_SOFTWARE, usable_ratio=0.9, buffer_bytes=1e9, graph_bytes=2e9)
        conditions = round_conditions(software=software)
        assert usable_bytes(conditions, conditions.chip.memory) == approx(87e9)
        assert usable_bytes(conditions, SRAM) == approx(0.9e9)
        full = round_conditions(software=dataclasses.replace(software, buffer_bytes=1e12))
        assert usable_bytes(full, full.chip.memory) == 0.0

    def test_room_and_sequences(self) -> None:
        """Of 90 GB the weights take 2 bytes each; a token 2 layers x 2 x 2 heads x 25 x 2 bytes = 400."""
        model, conditions = small_model(), round_conditions()
        assert token_bytes(model, conditions.precisions.widths) == 400.0
        room = 90e9 - 2 * SMALL_WEIGHTS
        assert float(room_bytes(model, conditions, Layout())) == approx(room, rel=1e-12)
        assert float(most_sequences(model, conditions, Layout(), 1000.0)) == approx(room / 400e3)
        # A draft of the same size beside it: twice the weights and twice the cache.
        room = 90e9 - 4 * SMALL_WEIGHTS
        assert float(most_sequences(model, conditions, Layout(), 1000.0, model)) == approx(room / 800e3)
        assert float(layout_room_bytes(model, conditions, Layout(tp=2.0, pp=2.0))) == approx(
            4 * (90e9 - 2 * SMALL_WEIGHTS / 4), rel=1e-9
        )
        assert float(total_bytes(model, 3.0, 1000.0, conditions.precisions.widths)) == approx(
            2 * SMALL_WEIGHTS + 3 * 400e3
        )

    def test_sequences_over_a_layout(self) -> None:
        """tp 2 halves the cache, tp 4 no more, as there are 2 heads; a stage holds one of two layers."""
        model, widths = small_model(), Precisions().widths
        for layout, expected in (
            (Layout(tp=2.0), 200e3),
            (Layout(tp=4.0), 200e3),
            (Layout(tp=4.0, shard_batch=True), 100e3),
            (Layout(tp=2.0, pp=2.0), 100e3),
        ):
            assert float(sequence_bytes(model, 1000.0, widths, layout)) == approx(expected)
        assert float(sequence_bytes(small_model(window=300), 1000.0, widths, Layout())) == approx(300 * 400)
        assert float(sequence_bytes(small_model(window=300), 200.0, widths, Layout())) == approx(200 * 400)
        two = most_sequences(model, round_conditions(), Layout(dp=2.0), 1000.0)
        assert float(two) == approx(2 * float(most_sequences(model, round_conditions(), Layout(), 1000.0)))

    def test_weights_elsewhere(self) -> None:
        """Weights in SRAM leave all of the memory to the cache, or do not fit there at all."""
        model = small_model()
        apart = dataclasses.replace(round_conditions(), weights=SRAM)
        assert float(room_bytes(model, apart, Layout())) == approx(90e9)
        tight = dataclasses.replace(apart, weights=dataclasses.replace(SRAM, visible_bytes=2 * SMALL_WEIGHTS / 0.91))
        assert float(room_bytes(model, tight, Layout())) == -1.0
        assert float(layout_room_bytes(model, tight, Layout())) == 0.0
        assert float(most_sequences(model, tight, Layout(), 1.0)) == 0.0
        loose = dataclasses.replace(apart, weights=dataclasses.replace(SRAM, visible_bytes=2 * SMALL_WEIGHTS / 0.89))
        assert float(room_bytes(model, loose, Layout())) == approx(90e9)

    def test_holds_the_mean_of_all_and_the_longest_of_one(self) -> None:
        """Room for one million tokens: 10 sequences of 100,000 on average, of which one may grow to 1,000,000."""
        room = (400e6 + 2 * SMALL_WEIGHTS) / 0.9
        memory = dataclasses.replace(round_chip().memory, visible_bytes=room * (1 + 1e-9))
        conditions = round_conditions(round_chip(tiers=(memory,)))
        for sequences, longest, expected in (
            (10.0, 1e6, (True, True)),
            (11.0, 1e6, (False, True)),
            (10.0, 1.1e6, (False, False)),
        ):
            enough, one = holds(small_model(), conditions, Layout(), sequences, 1e5, longest)
            assert (bool(enough), bool(one)) == expected


class TestPhases:
    def test_speculation(self) -> None:
        """(1 - 0.5^4) / 0.5 = 1.875 tokens a step at g = 3; all of them where none is refused."""
        assert Speculation(tokens=3, acceptance=0.5).tokens_per_step == approx(1.875)
        assert Speculation(tokens=3, acceptance=1.0).tokens_per_step == 4.0
        # 0.8, 0.4, 0.2: 1 + 0.8 + 0.8 x 0.4 + 0.8 x 0.4 x 0.2
        assert Speculation(tokens=3, acceptance=0.8, decay=0.5).tokens_per_step == approx(2.184)

    def test_drafting_is_paid_for(self) -> None:
        """A head costs one of two blocks and the LM head of a step for each token; a draft model a step of its own."""
        model, conditions = small_model(), round_conditions()
        share = 1 / 2 + 100 * 1000 / model.active_parameters
        heads = Speculation(tokens=3, acceptance=0.5)
        step = decode_step(model, conditions, Layout(), 2.0, 100.0, heads)
        drafted = decode_step(model, conditions, Layout(), 2.0, 100.0, dataclasses.replace(heads, draft=model))
        plain = decode_step(model, conditions, Layout(), 2.0, 100.0)
        bare = drafted.plus(plain, -3.0)
        assert float(step.seconds) == approx((1 + 3 * share) * float(bare.seconds))
        assert float(step.total_joules) == approx((1 + 3 * share) * float(bare.total_joules))
        assert float(bare.macs) > 3.9 * float(plain.macs)  # it verifies four tokens of each sequence

    def test_software(self) -> None:
        """1 s a step, 10 ms x 2 blocks, 1 ms a sequence; where tokens are drawn, 1,000 logits of 1 us are sorted."""
        software = dataclasses.replace(NO_SOFTWARE, step_s=1.0, layer_s=1e-2, sequence_s=1e-3, logit_s=1e-6)
        conditions = round_conditions(software=software)
        assert float(overhead_seconds(small_model(), conditions, 5.0)) == approx(1.0 + 0.02 + 0.005)
        drawn = dataclasses.replace(conditions, sampled=True)
        assert float(overhead_seconds(small_model(), drawn, 5.0)) == approx(1.025)
        plain = step_cost(conditions, Sharded(operations=(), exchanges=()))
        assert with_sampling(plain, small_model(), conditions, 10.0) == plain
        assert float(with_sampling(plain, small_model(), drawn, 10.0).seconds) == approx(5 * 2 * 1e-3)

    def test_sorting_the_logits_streams_memory(self) -> None:
        """5 sequences x 1,000 logits of 1 us: 5 ms at 1 TB/s and 5 pJ a byte, and 10 W of clocks."""
        software = dataclasses.replace(NO_SOFTWARE, logit_s=1e-6)
        conditions = round_conditions(software=software)
        drawn = dataclasses.replace(conditions, sampled=True)
        greedy, sampled = (decode_step(small_model(), each, Layout(), 5.0, 100.0) for each in (conditions, drawn))
        more_s = 5e-3
        assert float(sampled.shares_s["memory"] - greedy.shares_s["memory"]) == approx(more_s)
        assert float(sampled.joules["activations"] - greedy.joules["activations"]) == approx(more_s * 1e12 * 5e-12)
        assert float(sampled.joules["active"] - greedy.joules["active"]) == approx(10 * more_s)

    def test_sends(self) -> None:
        """8 tokens x 100 values x 2 bytes to each of 3 next stages, by 2 chips at 100 GB/s."""
        step = sends(small_model(), round_conditions(), Layout(tp=2.0, pp=4.0), 8.0)
        assert float(step.seconds) == approx(3 * 800 / 1e11)
        assert float(step.joules["links"]) == approx(8 * 3 * 800 * 10e-12)
        assert float(sends(small_model(), round_conditions(), Layout(tp=2.0), 8.0).seconds) == 0.0

    def test_who_works(self) -> None:
        """2 replicas of 4 stages: one sequence works on one of 8 places, 2 on two, 6 on six, 8 and more on all."""
        layout = Layout(pp=4.0, dp=2.0)
        for batch, share in ((1.0, 1 / 8), (2.0, 2 / 8), (6.0, 6 / 8), (8.0, 1.0), (100.0, 1.0)):
            assert float(working_share(small_model(), layout, batch)) == approx(share)
        full, empty = (batch_step(small_model(), round_conditions(), layout, batch, 100.0) for batch in (8.0, 1.0))
        assert float(empty.joules["weights"]) == approx(float(full.joules["weights"]) / 8)
        assert float(empty.joules["idle"]) == approx(float(full.joules["idle"]))

    def test_at_the_meter_of_the_building(self) -> None:
        """The server takes 1.5 times its chips; the building no more where no pue is given, 1.2 times where it is."""
        model, conditions, layout = small_model(), round_conditions(), Layout()
        tokens, chunks = Decoding(sequences=2.0, context=100.0), Chunks(count=1.0, length=10.0)
        for priced in (
            partial(decode_step, model, conditions, layout, 2.0, 100.0),
            partial(prefill_step, model, conditions, layout, 1.0, 10.0),
            partial(batch_step, model, conditions, layout, 2.0, 100.0),
            partial(mixed_step, model, conditions, layout, tokens, chunks),
            partial(verify_step, model, conditions, layout, tokens),
        ):
            step, dearer = priced(), priced(pue=1.2)
            assert float(step.wall_joules) == approx(1.5 * float(step.total_joules))
            assert float(dearer.wall_joules) == approx(1.8 * float(step.total_joules))

    def test_chunks(self) -> None:
        """1,000 tokens in chunks of 250 read the weights four times and compute what one pass computes."""
        model = small_model()
        # The head multiplies the last token of every pass: 3 x 100 x 1,000 MACs more.
        whole, chunked = (
            prefill_step(model, round_conditions(), Layout(), 1.0, 1000.0, chunk=chunk) for chunk in (None, 250)
        )
        assert float(chunked.joules["weights"]) == approx(4 * float(whole.joules["weights"]))
        assert float(chunked.macs) == approx(float(whole.macs) + 3e5)
        same = prefill_step(model, round_conditions(), Layout(), 1.0, 1000.0, chunk=1000)
        assert float(same.seconds) == float(whole.seconds)


class TestServing:
    """b sequences, a decode step of 10 ms and 3 J, a prefill of one prompt of 100 ms and 20 J, 5 of them for time.

    Mixed into a decode step, the prompt adds 90 ms and 18 J to it, 4 of them for time.
    """

    PACES = Paces(
        step_s=0.01,
        step_joules=3.0,
        mixed_s=0.09,
        mixed_joules=18.0,
        mixed_timed_joules=4.0,
        pass_s=0.1,
        pass_joules=20.0,
        pass_timed_joules=5.0,
        prompts=np.float64(1.0),
    )
    SOFTWARE = dataclasses.replace(
        NO_SOFTWARE, interference_ratio=0.5, first_ratio=2.0, first_s=0.05, prefill_tokens=200.0
    )

    def pace(self, batch: float, layout: Layout | None = None, asked: float | None = None, **changes: Any) -> Any:
        arrivals = {name: changes.pop(name, 0.0) for name in ("burst_share", "batching_steps")}
        load = Load(isl=100.0, osl=changes.pop("osl", 11.0), concurrency=asked or batch, **arrivals)
        paces = dataclasses.replace(self.PACES, **changes.pop("paces", {}))
        conditions = round_conditions(changes.pop("chip", None), software=self.SOFTWARE)
        return closed_form(conditions, layout or Layout(), load, batch, paces, **changes)

    def test_others_are_waited_for(self) -> None:
        """5 requests: 10 steps of 10 ms, 4 of which take 90 ms longer for the prompts of others; half is waited for.

        Prefills of 20 ms a step of 10 ms take 2/3 of the time: u/(2(1-u)) = 1 of them would be waited for, and half of
        it with 2 per pass; as the four others would be waited for by half if they came together, 0.5 x 2/(0.5 + 2).
        """
        found = self.pace(5.0)
        assert float(found.tpot_s) == approx(0.01 + 0.5 * 4 / 10 * 0.09)
        first = 0.05 + 0.028 + 2 * (0.1 + 0.1 * 0.5 * 2 / 2.5)
        assert float(found.ttft_s) == approx(first)
        stay = first + 10 * 0.028
        assert float(found.output_tokens_per_s) == approx(5 * 11 / stay)
        # 3 J a step for 5 requests, 10 steps of each; 18 J of prefill within one of them; for 11 tokens
        assert float(found.joules_per_output_token) == approx((3 / 5 * 10 + 18) / 11)
        assert float(found.watts_per_chip) == approx((3 / 5 * 10 + 18) / 11 * 5 * 11 / stay)

    def test_a_burst(self) -> None:
        """5 prompts at once, 2 per pass: the mean one is done after 3.5 prompts, and each delays half the others.

        That is the most: if a prompt adds 10 ms to a step, a pass of two takes 30, of which the mean one waits for
        (5/2 - 1)/2, and for the other in its own pass; and for half as much again later.
        """
        found = self.pace(5.0, burst_share=1.0)
        assert float(found.tpot_s) == approx(0.01 + 0.5 * 2 / 10 * 0.09)
        assert float(found.ttft_s) == approx(0.05 + 0.019 + 2 * 0.35)
        waited = self.pace(5.0, burst_share=1.0, batching_steps=10.0)
        assert float(waited.ttft_s) == approx(float(found.ttft_s) + 10 * 0.019)
        assert float(self.pace(1.0, burst_share=1.0, batching_steps=10.0).ttft_s) == approx(0.05 + 2 * 0.1)
        cheap = self.pace(5.0, burst_share=1.0, paces={"mixed_s": 0.01})
        assert float(cheap.ttft_s) == approx(0.05 + 0.011 + 2 * (0.1 + 1.5 * (0.75 * 0.03 + 0.01)))

    def test_a_burst_in_passes_of_their_own(self) -> None:
        """Without a decode step beside them, two prompts take the first one's 100 ms and 10 for the other."""
        software = dataclasses.replace(self.SOFTWARE, mixed_ratio=0.0)
        load = Load(isl=100.0, osl=11.0, concurrency=5.0, burst_share=1.0)
        paces = dataclasses.replace(self.PACES, mixed_s=0.01)
        found = closed_form(round_conditions(software=software), Layout(), load, 5.0, paces)
        assert float(found.ttft_s) == approx(0.05 + 0.01 + 2 * (0.1 + 1.5 * (0.75 * 0.11 + 0.01)))

    def test_prompts_in_steps_of_their_own(self) -> None:
        """An engine that never mixes: 4/10 prefills of 100 ms a step, half of them waited for."""
        software = dataclasses.replace(self.SOFTWARE, mixed_ratio=0.0)
        load = Load(isl=100.0, osl=11.0, concurrency=5.0)
        found = closed_form(round_conditions(software=software), Layout(), load, 5.0, self.PACES)
        assert float(found.tpot_s) == approx(0.01 + 0.5 * 4 / 10 * 0.1)

    def test_more_prefills_than_steps(self) -> None:
        """2 waited for in a single step: one pass is mixed into it, at half of its 90 ms; the others wait to start."""
        found = self.pace(5.0, osl=2.0)
        assert float(found.tpot_s) == approx(0.01 + 0.5 * 0.09)
        # 0.2 / 0.21 of the time goes to prefills: u/(2(1-u)) = 10, in passes of two 5; 5 x 2/(5 + 2) are waited for
        assert float(found.ttft_s) == approx(0.05 + 0.055 + 2 * (0.1 + 0.1 * 5 * 2 / 7))
        assert float(found.joules_per_output_token) == approx((3 / 5 + (18 + 20) / 2) / 2)
        # Two prompts a step, or of two pieces each: the same step, and fewer or cheaper passes wait.
        assert float(self.pace(5.0, osl=2.0, paces={"prompts": np.float64(2.0)}).tpot_s) == approx(0.055)
        load = Load(isl=100.0, osl=2.0, concurrency=5.0, chunk=50)
        chunked = closed_form(round_conditions(software=self.SOFTWARE), Layout(), load, 5.0, self.PACES)
        assert float(chunked.tpot_s) == approx(0.055)

    def test_more_prompts_never_shorten_a_step(self) -> None:
        """Answers of fewer tokens bring more prefills a step; beyond one pass a step the time per token stays."""
        times = [float(self.pace(5.0, osl=osl).tpot_s) for osl in (101.0, 31.0, 11.0, 5.0, 3.0, 2.0)]
        assert times == sorted(times)
        assert times[-1] == approx(times[-2])

    def test_more_than_fit(self) -> None:
        """10 asked for where 5 run: the other half waits for a whole stay."""
        found = self.pace(5.0, asked=10.0)
        first = float(self.pace(5.0).ttft_s)
        stay = first + 10 * 0.028
        assert float(found.ttft_s) == approx(first + stay)
        assert float(found.output_tokens_per_s) == approx(5 * 11 / stay)

    def test_one_token(self) -> None:
        """Nothing is decoded: 5 prefills, one after the other."""
        found = self.pace(5.0, osl=1.0)
        assert float(found.tpot_s) == 0.0
        assert float(found.ttft_s) == approx(0.05 + 0.5)
        assert float(found.output_tokens_per_s) == approx(5 / 0.55)
        assert float(found.joules_per_output_token) == approx(20.0)

    def test_drafts_shorten_the_steps(self) -> None:
        """1.875 tokens a step: tpot and steps are divided by that."""
        found = self.pace(1.0, speculation=Speculation(tokens=3, acceptance=0.5))
        assert float(found.tpot_s) == approx(0.01 / 1.875)
        assert float(found.joules_per_output_token) == approx((3 * 10 / 1.875 + 20) / 11)

    def test_pipelines_and_replicas(self) -> None:
        """16 requests on 4 stages of 2 replicas: 2 at a time in a group, 8 in a pipeline.

        A step prefills a prompt on each of 8 places: 14 J of work and 4 J of time for 8 prompts. For 0.35 prompts in
        the time of a token each of the 4 stages is busy for 0.0875 of a pass; but what follows one waits for all of it.
        """
        found = self.pace(16.0, Layout(pp=4.0, dp=2.0))
        passes = 0.5 * 7 / 10 / 4
        assert float(found.tpot_s) == approx(0.01 + 4 * passes / (1 + 3 * passes) * 0.09)
        # Prefills take 8.75 of 18.75 ms; half of 0.4375, two a pass, would be waited for in an endless queue, and half
        # of one in a burst.
        queue = 0.1 * 0.21875 * 0.5 / (0.21875 + 0.5)
        assert float(found.ttft_s) == approx(0.05 + float(found.tpot_s) + 2 * (0.1 + queue))
        powerless = self.pace(16.0, Layout(pp=4.0, dp=2.0), chip=round_chip(idle_w=0.0, active_w=0.0))
        assert float(powerless.joules_per_output_token) == approx((3 / 16 * 10 + (14 + 4) / 8) / 11)
        # These steps spend less than 8 round chips that wait.
        waiting = 8 * (10 + 0.5 * 20) / float(found.output_tokens_per_s)
        assert float(found.joules_per_output_token) == approx(waiting)

    def test_prompts_that_follow_one_another(self) -> None:
        """Three of a cohort, one a pass, take three passes, less where fewer run; those of a burst have its queue."""
        for batch, share, passes in ((5.0, 0.0, 3.0), (5.0, 0.1, 0.1 + 0.9 * 3), (5.0, 1.0, 1.0), (2.0, 0.0, 2.0)):
            load = Load(isl=8192.0, osl=11.0, concurrency=batch, burst_share=share)
            asked = (round_conditions(software=self.SOFTWARE), Layout())
            alone, third = (
                closed_form(*asked, one, batch, self.PACES) for one in (load, dataclasses.replace(load, cohort=3.0))
            )
            first = self.SOFTWARE.first_ratio * float(self.PACES.pass_s)
            assert float(third.ttft_s) - float(alone.ttft_s) == approx((passes - 1.0) * first)
            assert float(third.tpot_s) == float(alone.tpot_s)

    def test_power_has_a_limit(self) -> None:
        limited = round_conditions(round_chip(power_limit_w=31.0), self.SOFTWARE)
        load = Load(isl=100.0, osl=11.0, concurrency=1.0)
        assert float(closed_form(limited, Layout(), load, 1.0, self.PACES).watts_per_chip) == 31.0

    def test_prompts_of_a_pass(self) -> None:
        """As many as arrive in a step, b/osl, up to 8,192 tokens of them; one at the least."""
        for isl, osl, local, expected in (
            (1000.0, 10.0, 5.0, 1.0),
            (1000.0, 10.0, 50.0, 5.0),
            (1000.0, 10.0, 500.0, 8.192),
            (10000.0, 10.0, 500.0, 1.0),
        ):
            load = Load(isl=isl, osl=osl, concurrency=local)
            engine = round_conditions(software=dataclasses.replace(NO_SOFTWARE, prefill_tokens=8192.0))
            assert float(prompts_together(engine, load, np.float64(local))) == approx(expected)
            paired = dataclasses.replace(load, cohort=2.0)
            pairs = min(max(expected, 2.0), max(8192.0 / isl, 1.0))
            assert float(prompts_together(engine, paired, np.float64(local))) == approx(pairs)

    def test_fewer_run_before_memory_is_full(self) -> None:
        """Room for 10 on average, of 100,000 tokens and 40,000 more in steps: 10 asked for, and ln 2 scales wait."""
        load = Load(isl=100e3, osl=40e3, concurrency=10.0)
        scale = 40 / 12**0.5 / 120 * 9**0.5 * 3**0.5 / np.pi
        assert float(running_requests(round_conditions(), load, 10.0)) == approx(10 - scale * np.log(2))
        together = dataclasses.replace(load, burst_share=1.0)
        assert float(running_requests(round_conditions(), together, 10.0)) == approx(10 - 3 * scale * np.log(2))
        reserved = round_conditions(software=dataclasses.replace(NO_SOFTWARE, reserved_ratio=1.0))
        assert float(running_requests(reserved, load, 10.0)) == approx(10.0)
        assert float(running_requests(round_conditions(), load, 1e9)) == approx(10.0)
        alone = dataclasses.replace(load, concurrency=1.0)
        assert float(running_requests(round_conditions(), alone, 1.01)) == approx(1.0)

    def test_what_fits_runs(self) -> None:
        """Room for 1,200,000 tokens: 10 requests of 100,000 + 40,000/2, of which each ends at 140,000."""
        memory = dataclasses.replace(round_chip().memory, visible_bytes=(480e6 + 2 * SMALL_WEIGHTS) / 0.9 * (1 + 1e-12))
        conditions = round_conditions(round_chip(tiers=(memory,)))
        load = Load(isl=100e3, osl=40e3, concurrency=20.0)
        alone, fitting = capacity(small_model(), conditions, Layout(), load)
        assert float(alone) == approx(1.2e6 / 140e3)
        assert float(fitting) == approx(10.0)
        found = serve(small_model(), conditions, Layout(), load)
        assert float(found.batch) == approx(10.0)
        assert (
            float(serve(small_model(), conditions, Layout(), dataclasses.replace(load, concurrency=4.0)).batch) == 4.0
        )
        too_long = dataclasses.replace(load, isl=1.3e6)
        assert float(serve(small_model(), conditions, Layout(), too_long).batch) == 0.0
