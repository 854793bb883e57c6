"""Cascades: hand-computed stages, crossings and sizes; limits; properties; bad plans."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.cli import main
from flashstill.codesign.cascade import Everything, cascade_total, crossover_items, priced_stages, traffic_of
from flashstill.codesign.cascade_plan import CascadePlan, plan_of
from flashstill.codesign.index_tiers import free_from, index_tiers
from flashstill.codesign.knowledge import stored_or_retrieved
from flashstill.codesign.long_context import attention_ratio, attention_takes_over, one_question
from flashstill.codesign.modules import module_costs
from flashstill.codesign.reading import setup_of
from flashstill.codesign.readings import Asked
from flashstill.codesign.recall import recall_law
from flashstill.codesign.rent import rent_of
from flashstill.codesign.scanning import Scan, fewest_shards, pass_cost, scan_cost
from flashstill.codesign.stage import Traffic
from flashstill.codesign.stage_sizes import Cost, Found, cheapest_sizes, on_grids
from flashstill.codesign.tiers import Store, store_of, stores_of
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import load
from flashstill.hardware import Memory, chip_from_facts

FACTS = load([], [])
SCAN = {
    "name": "scan", "kind": "scan", "chip": "h200-sxm", "tier": "memory", "dimensions": 256, "precision": "int8",
    "keep": 30000,
}  # fmt: skip
READ = {"name": "read", "kind": "read", "chip": "h200-sxm", "model": "qwen3-0.6b", "keep": 117}
ANSWER = {"name": "answer", "kind": "answer", "chip": "h200-sxm", "model": "llama-3.1-8b"}
TABLES: dict[str, Any] = {"corpus_tokens": 1e12, "questions_per_s": 10.0, "stages": [SCAN, READ, ANSWER]}


def plan(**changes: Any) -> CascadePlan:
    return plan_of({**TABLES, **changes})


def test_a_trillion_tokens_in_three_stages() -> None:
    """The interview's cascade, priced at 10 questions a second and 3.99 dollars an hour of H200.

    scan    1e9 vectors of 256 bytes are 256 GB; a chip shows 150.75 GB: 2 chips.  Each reads 128 GB at 4.8 TB/s x 0.79:
            34 ms, busy 0.34 of the time, and so half of 0.34 passes of waiting: 39 ms.  2 x 3.99 / 36,000 = $0.000222.
    read    30,000 x (1000 + 64) tokens x 2 FLOPs x 0.44e9 weights + attention over 532 tokens on average,
            4 x 16 x 128 x 28 x 532 = 0.12e9: 3.2e16 FLOPs, 32 s of a chip at its peak of 989.5 TFLOP/s.
    answer  117 x 1000 + 64 tokens: 2 x 6.98e9 + 4 x 32 x 128 x 32 x 58,532 = 44.6e9 FLOPs each: 5.2e15, 5.3 s at peak.
    """
    made = plan()
    scan, read, answer = cascade_total(priced_stages(FACTS, made, "rented"), made.items).stages
    assert (scan.chips, scan.bytes) == (2, 256e9)
    assert scan.busy == pytest.approx(10.0 * 128e9 / (4.8e12 * 0.79), rel=0.01)
    assert scan.seconds == pytest.approx(scan.busy / 10.0 * (1.0 + scan.busy / 2.0), rel=1e-9)
    assert scan.usd == pytest.approx(2 * 3.99 / 36000.0, rel=1e-12)
    chip_seconds = read.busy * read.chips / 10.0
    assert 32.0 / 0.8 < chip_seconds < 32.0 / 0.4
    assert read.chips == math.ceil(10.0 * chip_seconds / 0.7)
    assert read.usd == pytest.approx(read.chips * 3.99 / 36000.0, rel=1e-12)
    chip_seconds = answer.busy * answer.chips / 10.0
    assert 5.3 < chip_seconds < 5.3 / 0.4
    assert answer.usd == pytest.approx(answer.chips * 3.99 / 36000.0, rel=1e-12)
    assert answer.tokens == 117 * 1000 + 64 + 500


def test_the_117_documents_of_the_best_model() -> None:
    """By DeepSeek-V3: 117,064 tokens x (2 x 37e9 + attention) FLOPs.  Attention takes over at 28,574 tokens, so that at
    four times as many it needs four fifths: 0.37 TFLOP a token, 43 PFLOP in all, 44 s of one H200 at its bf16 peak."""
    setup = setup_of(FACTS, "deepseek-v3", "h200-sxm", None)
    assert attention_ratio(setup, 117064.0) == pytest.approx(117064 / (117064 + 28574), rel=0.01)
    made = plan(stages=[SCAN, READ, {**ANSWER, "model": "deepseek-v3", "max_s": 60.0}])
    answer = cascade_total(priced_stages(FACTS, made, "rented"), made.items).stages[-1]
    assert 44.0 < answer.busy * answer.chips / 10.0 < 44.0 / 0.3
    assert answer.usd == pytest.approx(0.16, rel=0.05)
    assert answer.seconds < 60.0


@pytest.mark.slow
def test_where_the_cascade_begins_to_pay() -> None:
    """At 117 documents the best model reads all of them either way.

    One more costs it about 1/117 of the answer, 1.1 dollar cents / 117; the scan and the small reader of 118 documents
    cost one chip each, 0.011 cents.  Chips are whole, so that both sides move in steps of 0.011 cents: the crossing
    is within the next few documents.
    """
    made = plan()
    stages, traffic = priced_stages(FACTS, made, "rented"), traffic_of(FACTS, made)
    everything = Everything(stages=stages, traffic=traffic)
    for kept, low, high in ((False, 117.0, 130.0), (True, 117.0, 1e9)):
        items = crossover_items(everything, made.items, kept)
        assert items is not None
        assert low < items < high
        below, above = items * (1.0 - 1e-4), items * (1.0 + 1e-4)
        assert cascade_total(stages, above).usd < everything.cost(above, kept).usd
        assert cascade_total(stages, below).usd >= everything.cost(below, kept).usd


def test_one_stage_that_keeps_everything_is_attending_to_all() -> None:
    made = plan(corpus_tokens=117000.0, stages=[ANSWER])
    stages, traffic = priced_stages(FACTS, made, "rented"), traffic_of(FACTS, made)
    total = cascade_total(stages, made.items)
    assert total.stages[0].as_dict() == Everything(stages=stages, traffic=traffic).cost(made.items, False).as_dict()
    small = cascade_total(priced_stages(FACTS, plan(), "rented"), 50.0)  # fewer items than any stage may keep
    assert [stage.items_out for stage in small.stages] == [50.0] * 3
    assert small.recall == 1.0


def test_the_total_is_the_sum_of_the_stages() -> None:
    made = plan()
    total = cascade_total(priced_stages(FACTS, made, "rented"), made.items)
    for name in ("seconds", "joules", "usd", "chips"):
        assert getattr(total, name) == pytest.approx(sum(getattr(stage, name) for stage in total.stages))
    assert total.recall == pytest.approx(math.prod(stage.recall for stage in total.stages))


@pytest.mark.slow
def test_more_tokens_are_never_cheaper_and_more_replicas_never_slower() -> None:
    stages = priced_stages(FACTS, plan(), "rented")
    for stage, sizes in zip(stages, ([1e6, 1e7, 1e8, 1e9, 1e10], [100, 1e3, 1e4, 1e5], [1, 10, 117, 1e3]), strict=True):
        costs = [stage.cost(size, 1.0) for size in sizes]
        assert all(more.usd >= less.usd for less, more in itertools.pairwise(costs))
        assert all(more.joules > less.joules * 0.999 for less, more in itertools.pairwise(costs))
    totals = [
        cascade_total(priced_stages(FACTS, plan(replicas=replicas), "rented"), 1e9)
        for replicas in (1, 2, 8, 64, 1000, 10000)
    ]
    for number in range(3):
        for fewer, more in itertools.pairwise(total.stages[number] for total in totals):
            if fewer.group_chips == more.group_chips:  # else the cheapest way has become another one
                assert more.seconds <= fewer.seconds * (1.0 + 1e-9)


def test_recall_law() -> None:
    """30,000 of 1e9: x/s = 3e-5 / 3.1e-7 = 96.8, and 97.8^-0.67 = 0.0464 is lost; 117 of 30,000: 7.8, and 8.8^-0.75 =
    0.196, of which 2001^-0.75 = 0.0033 belongs to those that are never lost: (0.196 - 0.0033) / 0.9967 = 0.193."""
    assert float(recall_law(FACTS, "scan").of(30000.0, 1e9)) == pytest.approx(1.0 - 0.0464, abs=2e-4)
    assert float(recall_law(FACTS, "read").of(117.0, 30000.0)) == pytest.approx(1.0 - 0.193, abs=5e-4)
    assert float(recall_law(FACTS, "read", 0.9).of(7.0, 7.0)) == 1.0
    kept = np.geomspace(1.0, 1e9, 50)
    assert np.all(np.diff(recall_law(FACTS, "scan").of(kept, 1e9)) > 0.0)


def test_sizes_by_hand() -> None:
    """1,000 items; the reader costs 1 cent an item that it gets, the last stage 10 cents.

    Tables: the scan finds 0.5, 0.8 and 1 with 10, 100 and 1,000 kept, the reader 0.5, 0.9 and 1 with 1, 10 and 100.
    For a recall of 0.7 on these sizes:  100, 10: 0.72 for 1 + 1 = 2 dollars;  100, 100: 0.8 for 11;  1,000, 10: 0.9 for
    11;  10 gives 0.5 at most.
    """
    costs: list[Cost] = [lambda given, kept: 0.0, lambda given, kept: 0.01 * given, lambda given, kept: 0.1 * given]
    first, second = {10.0: 0.5, 100.0: 0.8, 1000.0: 1.0}, {1.0: 0.5, 10.0: 0.9, 100.0: 1.0}
    recalls: list[Found] = [lambda kept, given: first[kept], lambda kept, given: second[kept]]
    best = on_grids(costs, recalls, 1000.0, 0.7, [sorted(first), sorted(second)])
    assert best.keeps == (100.0, 10.0)
    assert best.usd == pytest.approx(2.0)
    assert best.recall == pytest.approx(0.72)
    with pytest.raises(InfeasiblePlan, match=r"no sizes .* reach a recall of 1.01"):
        on_grids(costs, recalls, 1000.0, 1.01, [sorted(first), sorted(second)])


def _priced(each: float, fixed: np.typing.NDArray[np.float64]) -> Cost:
    return lambda given, kept: float(each * given + fixed[int(kept)])


def _found(tail: float) -> Found:
    return lambda kept, given: float((kept / given) ** (tail / 8.0))


def test_sizes_are_those_of_trying_everything() -> None:
    draw = np.random.default_rng(7)
    for stages, least in itertools.product((1, 2, 3), (0.3, 0.6, 0.9)):
        for _ in range(20):
            grids = [sorted(set(draw.integers(1, 40, 6).astype(float))) for _ in range(stages)]
            price, tail = draw.uniform(0.1, 3.0, stages + 1), draw.uniform(0.2, 2.0, stages)
            fixed = draw.uniform(0.0, 20.0, (stages + 1, 50))
            costs = [_priced(float(price[i]), fixed[i]) for i in range(stages + 1)]
            recalls = [_found(float(tail[i])) for i in range(stages)]
            tried = {}
            for keeps in itertools.product(*grids):
                given, usd, recall = 40.0, 0.0, 1.0
                for kept, cost, found in zip(keeps, costs, recalls, strict=False):
                    if kept > given:
                        break
                    usd, recall, given = usd + cost(given, kept), recall * found(kept, given), kept
                else:
                    if recall >= least:
                        tried[keeps] = usd + costs[-1](given, given)
            if tried:
                assert on_grids(costs, recalls, 40.0, least, grids).usd == pytest.approx(min(tried.values()), rel=1e-12)
            else:
                with pytest.raises(InfeasiblePlan):
                    on_grids(costs, recalls, 40.0, least, grids)


def test_cheapest_sizes_of_a_smooth_cascade() -> None:
    """One stage keeps n of 1e6 with recall (n/1e6)^0.1, and each costs a dollar: 0.5 needs 0.5^10 x 1e6 = 977 items."""
    costs: list[Cost] = [lambda given, kept: 0.0, lambda given, kept: given]
    best = cheapest_sizes(costs, [lambda kept, given: (kept / given) ** 0.1], 1e6, 0.5)
    assert 976.5 < best.keeps[0] < 976.6 * 10 ** (1 / 64)


@pytest.mark.slow
def test_replicas_that_make_memory_free() -> None:
    """2001: 60 shards on disks, 20 replicas for the traffic.  A disk holds 20 times a machine's memory.

    The index fills 60 disks or 1,200 memories.  Each question alone takes t seconds of a machine of each shard; loaded
    to 0.7, 20 replicas carry 20 x 0.7 / t questions a second, and fewer machines at least 19 x 0.7 / t.
    """
    chip = chip_from_facts(FACTS, "h200-sxm")
    memory = chip.memory
    disk = Store(
        memory=Memory(
            name="disk", bytes=20 * memory.visible_bytes, visible_bytes=20 * memory.visible_bytes, bytes_per_s=1e9,
            joules_per_byte=memory.joules_per_byte,
        )
    )  # fmt: skip
    scan = Scan(
        name="index", dimensions=256, precision="int8", store=disk, rent=rent_of(FACTS, chip, "rented"), together=1
    )
    in_memory = Scan(
        name="index", dimensions=256, precision="int8", store=Store(memory=memory), rent=scan.rent, together=1
    )
    room = 20 * memory.visible_bytes
    items = 60.0 * room / 256.0
    assert (fewest_shards(scan, items), fewest_shards(in_memory, items)) == (60, 1200)
    seconds = float(pass_cost(scan, items, 100.0, 60.0, 1.0).seconds)
    assert 1.0 < seconds / (room / 1e9) < 1.1
    found = free_from(scan, 1200, items, 100.0, Traffic(per_s=1.0, load_ratio=0.7))
    assert found is not None
    assert 19.0 <= found * seconds / 0.7 <= 20.0
    cost = scan_cost(scan, items, 100.0, 1.0, Traffic(per_s=19.99 * 0.7 / seconds, load_ratio=0.7))
    assert (cost.replicas, cost.group_chips, cost.chips) == (20, 60, 1200)


def test_tiers_of_an_index_are_those_that_are_fast_enough() -> None:
    """A vector of 256 bytes in each of 1e8 items: 25.6 GB, over a bound that drives miss on any number of chips.

    2,000 questions a second are looked up eight at a time; a tier that keeps up has the figures of `scan_cost`.
    """
    chip, traffic = chip_from_facts(FACTS, "h200-sxm"), Traffic(per_s=2000.0, load_ratio=0.7)
    stores = [store for store in stores_of(FACTS, chip) if store.name in ("memory", "flash")]
    scan = Scan(
        name="s", dimensions=256, precision="int8", store=stores[0], rent=rent_of(FACTS, chip, "rented"), together=8,
        max_s=1e-5, visited_ratio=1e-3,
    )  # fmt: skip
    slow = replace(scan, max_s=1e-6)
    assert [tier.chips for tier in index_tiers(slow, stores, 1e8, 100.0, traffic)] == [None, None]
    memory, flash = index_tiers(replace(scan, max_s=None), stores, 1e8, 100.0, traffic)
    cost = scan_cost(replace(scan, max_s=None), 1e8, 100.0, 1.0, traffic)
    assert (memory.chips, memory.seconds, memory.usd) == (cost.chips, cost.seconds, cost.usd)
    assert (memory.holds, flash.holds) == (1, 1)
    assert memory.replicas_for_free == pytest.approx(7.68e12 / chip.memory.visible_bytes)
    assert flash.free_from_per_s is None  # no slower one


def test_questions_looked_up_alone_wait_in_a_queue() -> None:
    """Work of T seconds before one server that is busy for a share r: r T / (2 (1 - r)) of waiting (Pollaczek 1930).

    Where all that wait join the next pass, they wait for half of the running one: r T / 2.
    """
    chip = chip_from_facts(FACTS, "h200-sxm")
    joined = Scan(
        name="s", dimensions=256, precision="int8", store=Store(memory=chip.memory), rent=rent_of(FACTS, chip, "rented")
    )
    alone, two = replace(joined, together=1), replace(joined, together=2)
    work = float(pass_cost(alone, 1e8, 100.0, 1.0, 1.0).seconds)
    traffic = Traffic(per_s=0.6 / work, load_ratio=0.7)
    waits = [scan_cost(each, 1e8, 100.0, 1.0, traffic).seconds / work - 1.0 for each in (alone, joined, two)]
    assert waits[:2] == pytest.approx([0.6 / 2.0 / 0.4, 0.6 / 2.0], rel=1e-9)
    assert waits[1] < waits[2] < waits[0]


def test_no_more_questions_at_a_time_than_there_are() -> None:
    """A question every 1,000 s finds the chips idle: it is answered alone, though many together take fewer joules."""
    made = plan(corpus_tokens=1e5, questions_per_s=1e-3, stages=[ANSWER])
    (alone,) = cascade_total(priced_stages(FACTS, made, "owned"), made.items).stages
    assert (alone.together, alone.chips) == (1, 1)
    busy = plan(corpus_tokens=1e5, questions_per_s=1.0, stages=[ANSWER])
    for basis in ("rented", "owned"):
        (stage,) = cascade_total(priced_stages(FACTS, busy, basis), made.items).stages
        there = stage.seconds / stage.replicas  # questions in a group on average (Little 1961)
        assert stage.together > 1
        assert there > 0.35 * stage.together


def test_an_approximate_index_reads_pages_of_a_drive() -> None:
    """1 % of 1e6 vectors of 256 bytes are 10,000 reads of 4 KiB: 4 ms at 2.5 million a second, and 41 MB of energy."""
    chip = chip_from_facts(FACTS, "h200-sxm")
    flash = store_of(FACTS, chip, "flash")
    scan = Scan(
        name="s", dimensions=256, precision="int8", store=flash, rent=rent_of(FACTS, chip, "rented"), visited_ratio=0.01
    )
    cost = pass_cost(scan, 1e6, 100.0, 1.0, 1.0)
    assert cost.seconds == pytest.approx(10000 / 2.5e6, rel=1e-9)
    assert cost.joules["weights"] == pytest.approx(10000 * 4096 * flash.memory.joules_per_byte_total, rel=1e-9)
    # a thousand questions look at 1 - 0.99^1000 of the vectors, each of them once
    together = pass_cost(scan, 1e6, 100.0, 1.0, 1000.0)
    assert together.seconds == pytest.approx(1e6 * (1.0 - 0.99**1000) / 2.5e6, rel=1e-6)


def test_pages_of_a_drive_count_before_the_power_limit() -> None:
    """100 million reads of 4 KiB a second take more than the 72 W of an L4: the pass lasts as long as 60 W need.

    Joules that do not wait: 1e7 pages of 4,096 bytes, the multiplications at the lowest voltage, and no busy clocks.
    """
    chip = chip_from_facts(FACTS, "l4")
    hbf = replace(store_of(FACTS, chip, "hbf"), accesses_per_s=1e8)
    scan = Scan(
        name="s", dimensions=256, precision="int8", store=hbf, rent=rent_of(FACTS, chip, "rented"), visited_ratio=0.1
    )
    cost = pass_cost(scan, 1e8, 100.0, 1.0, 1.0)
    pages = 1e7 * 4096 * hbf.memory.joules_per_byte_total
    assert cost.joules["weights"] == pytest.approx(pages, rel=1e-9)
    assert cost.watts_per_chip == pytest.approx(72.0, rel=1e-9)
    assert cost.seconds == pytest.approx(pages / (72.0 - chip.waiting_w), rel=0.02)
    assert sum(cost.shares_s.values()) == pytest.approx(cost.seconds, rel=1e-9)


def test_waiting_for_pages_leaves_a_chip_below_its_power_limit() -> None:
    """A scan that would be slowed by the limit is not where it waits longer for pages: they come while it multiplies.

    10,000 questions look at 1 - 0.99^10,000, all, of 1e7 vectors: 1e7 reads at 1.25e8 a second, 80 ms, in which the
    multiplications of an L4 take less than its power on average.
    """
    chip = chip_from_facts(FACTS, "l4")
    rent = rent_of(FACTS, chip, "rented")
    tier = replace(store_of(FACTS, chip, "hbf"), access_bytes=256.0)
    scan = Scan(name="s", dimensions=256, precision="int8", store=tier, rent=rent, visited_ratio=0.01)
    fast, slow = (
        pass_cost(replace(scan, store=replace(tier, accesses_per_s=rate)), 1e7, 100.0, 1.0, 10000.0)
        for rate in (1e12, 1.25e8)
    )
    assert fast.shares_s["power"] > 0.0
    assert fast.seconds < 1e7 / 1.25e8
    assert slow.seconds == pytest.approx(1e7 / 1.25e8, rel=1e-9)
    assert slow.shares_s["power"] == 0.0
    assert slow.watts_per_chip < chip.power_limit_w
    assert slow.joules["arithmetic"] > fast.joules["arithmetic"]  # at full voltage: nothing asks for less


def test_tiers() -> None:
    """An H200 has HBM, its host's DRAM over PCIe at 63 GB/s, a drive of 7.68 TB and 13 GB/s, or 8 stacks of HBF."""
    chip = chip_from_facts(FACTS, "h200-sxm")
    tiers = {store.name: store for store in stores_of(FACTS, chip)}
    assert list(tiers) == ["hbf", "memory", "host", "flash"]
    assert tiers["flash"].memory.bytes_per_s == 13e9
    assert tiers["hbf"].memory.bytes_per_s == 8 * 1.6e12
    assert tiers["hbf"].note
    joules = tiers["flash"].memory.joules_per_byte
    assert joules["flash cells"] == pytest.approx(206 * 8e-12)
    assert joules["link to the host"] == pytest.approx(6.5 * 8e-12)
    with pytest.raises(BadInput, match=r"unknown tier 'flsh'; the nearest known: flash"):
        store_of(FACTS, chip, "flsh")
    with pytest.raises(BadInput, match="groq-lpu has no row host_link_bytes_per_s"):
        store_of(FACTS, chip_from_facts(FACTS, "groq-lpu"), "flash")


def test_a_module_that_stays_or_is_fetched() -> None:
    """16 GB of 150.75 GB cost 0.106 x 3.99 dollars an hour; a fetch over PCIe at 63 GB/s takes 0.254 s.

    Equal at a use in 150.75 GB / 63 GB/s = 2.39 s, whatever the module's size.
    """
    module = {"name": "skills", "chip": "h200-sxm", "tier": "host", "bytes": 16e9, "uses_per_s": 0.1}
    (cost,) = module_costs(FACTS, plan(modules=[module]).modules, "rented")
    share = 16e9 / 150754820096
    assert cost.resident_usd_per_hour == pytest.approx(share * 3.99)
    assert cost.swapped_usd_per_hour == pytest.approx(0.1 * 16e9 / 63e9 * 3.99)
    assert cost.break_even_s == pytest.approx(150754820096 / 63e9)
    assert cost.cheaper == "swapped"
    often = {**module, "uses_per_s": 1.001 / cost.break_even_s, "bytes": 1e9}
    rare = {**module, "uses_per_s": 0.999 / cost.break_even_s, "bytes": 1e9}
    both = module_costs(FACTS, plan(modules=[often, rare]).modules, "rented")
    assert [each.cheaper for each in both] == ["resident", "swapped"]


def test_attending_to_all_by_hand() -> None:
    """Llama 3.1 8B: 218.1M weights x 32 layers x 2 FLOPs a token, against 4 x 32 x 128 x 32 x L/2: equal at L = 53,248.

    Llama 3.1 70B caches 80 x 8 x 256 values in 2 bytes: 327,680 B a token, 328 PB of 1e12.  Its attention over them
    needs 4 x 64 x 128 x 80 x 1e24 / 2 = 1.3e30 FLOPs: 10 years of 4.2 million H200 at their peak.
    """
    small = setup_of(FACTS, "llama-3.1-8b", "h200-sxm", None)
    assert attention_takes_over(small) == pytest.approx(53248, rel=1e-3)
    assert attention_takes_over(setup_of(FACTS, "deepseek-v3", "h200-sxm", None)) == pytest.approx(28574, rel=1e-3)
    # 4,096 tokens in every layer of Mistral 7B: 2.1 of 16 GFLOP a token at any length
    assert attention_takes_over(setup_of(FACTS, "mistral-7b-v0.1", "h200-sxm", None)) is None
    setup = setup_of(FACTS, "llama-3.1-70b", "h200-sxm", None)
    rent = rent_of(FACTS, setup.conditions.chip, "rented")
    answer = one_question(setup, rent, Asked(tokens=1e12, question=64.0, answer=500.0))
    assert answer.kv_bytes == 327680e12
    assert answer.chips == 2**22
    room = 150754820096 * 0.9 - 141.1e9 / 8.0  # of a chip, beside an eighth of the weights; engines keep a little more
    assert 1.0 < answer.fewest_chips / (327680e12 / room) < 1.1
    years = 1.31e30 / (2**22 * 989.5e12) / 31557600.0
    assert years == pytest.approx(10.0, rel=0.01)
    assert years < answer.prefill_s / 31557600.0 < years / 0.6
    assert answer.cold_usd == pytest.approx(
        2**22 * 3.99 / 3600.0 * (answer.prefill_s + answer.question_s + answer.answer_s)
    )
    shorter = one_question(setup, rent, Asked(tokens=1e6, question=64.0, answer=500.0), max_s=20.0)
    assert shorter.chips > 4
    with pytest.raises(InfeasiblePlan, match="nothing holds its weights"):
        one_question(setup, rent, Asked(tokens=1e12, question=64.0, answer=500.0), most_chips=1024)


def test_parameters_that_would_hold_the_text() -> None:
    """3 bits a token at 2 bits a parameter: 1.5 parameters a token of text, 1.5e12 for 1e12 tokens."""
    made = plan()
    total = cascade_total(priced_stages(FACTS, made, "rented"), made.items)
    rows = stored_or_retrieved(FACTS, total, "llama-3.1-8b", "h200-sxm", None, 1e12, 1000.0, "rented")
    assert rows[0].parameters_per_token == 1.5
    assert rows[0].corpus_parameters == 1.5e12
    for row in rows:
        assert row.joules_retrieved == pytest.approx(total.joules / 117000.0)
        assert row.item_uses_joules * 1000.0 * row.joules_stored == pytest.approx(total.joules)
    # At batch 1 a 16-bit weight moves 16 bits from HBM, at a few tens of pJ a bit at the wall; at 256 a 256th of it.
    each = [row.joules_stored / 1.5 for row in rows]
    assert 200e-12 < each[0] < 800e-12
    assert each[0] > each[1] > each[2] > each[0] / 256.0


BAD: dict[str, dict[str, Any]] = {
    "corpus_tokens": {"corpus_tokens": -1.0},
    "it must be at most 1,000,000,000,000,000": {"corpus_tokens": 1e30},
    "unknown key 'corpus_token'; the nearest known: corpus_tokens": {"corpus_token": 1.0},
    "not a finite number": {"recall": float("nan")},
    "questions_per_s is 0; it must be at least 1e-12": {"questions_per_s": 0.0},
    "load is 1e-300; it must lie between 1e-09 and 1": {"load": 1e-300},
    "visited_ratio is 1e-300; it must lie between 1e-09 and 1": {
        "stages": [{**SCAN, "visited_ratio": 1e-300}, READ, ANSWER]
    },
    "unknown stages[0].tier 'memry'; the nearest known: memory": {"stages": [{**SCAN, "tier": "memry"}, READ, ANSWER]},
    "a stage cannot add items": {"stages": [SCAN, {**READ, "keep": 50000}, ANSWER]},
    "gets; a stage cannot": {"stages": [{**SCAN, "keep": 3e10}, READ, ANSWER]},
    "the last stage, and only that, is 'answer'": {"stages": [SCAN, READ]},
    "it must have at least one entry": {"stages": []},
    "stages[1].model is missing": {"stages": [SCAN, {**READ, "model": ""}, ANSWER]},
    "both columns must grow": {"stages": [SCAN, {**READ, "recall": [[100, 0.9], [200, 0.8]]}, ANSWER]},
    "give each its own": {"stages": [SCAN, {**READ, "name": "scan"}, ANSWER]},
    "unknown chip 'h2000'": {"stages": [{**SCAN, "chip": "h2000"}, READ, ANSWER]},
    "has no memory called 'sram'": {"stages": [{**SCAN, "tier": "sram"}, READ, ANSWER]},
    "reads items of 1000 tokens beside a question of 64: more than the 1,024": {
        "stages": [SCAN, {**READ, "model": "gpt2"}, ANSWER]
    },
    "leave it out": {"stages": [SCAN, {**READ, "tier": "host"}, ANSWER]},
    "models and chips make 2,000 pairs; at most 32": {"models": ["llama-3.1-8b"] * 100, "chips": ["l4"] * 20},
    "contexts times models and chips are 400; at most 256": {"contexts": [1e6] * 100, "models": ["qwen3-8b"] * 4},
    "or model must be given, and not both": {
        "modules": [{"name": "m", "chip": "h200-sxm", "tier": "host", "uses_per_s": 1.0}]
    },
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_plans_give_one_sentence(sentence: str) -> None:
    with pytest.raises(BadInput) as error:
        fs.cascade({**TABLES, **BAD[sentence]})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_answer_to_a_small_plan_holds_together() -> None:
    """What an answer says beside its stages follows from them."""
    scan = {**SCAN, "chip": "l4", "keep": 50, "together": 4, "visited_ratio": 0.1, "max_s": 0.5}
    asked = {
        "corpus_tokens": 1e8, "questions_per_s": 2.0, "recall": 0.5, "contexts": [1e5], "stages": [scan, ANSWER],
        "modules": [{"name": "m", "chip": "h200-sxm", "tier": "host", "uses_per_s": 0.1, "bytes": 1e9}],
    }  # fmt: skip
    answer = fs.cascade(asked)
    document = json.loads(json.dumps(answer.as_dict(), allow_nan=False))
    stages, total = document["stages"], document["total"]
    for name in ("seconds", "joules", "usd", "chips"):
        assert total[name] == pytest.approx(sum(stage[name] for stage in stages))
    assert total["recall"] == pytest.approx(math.prod(stage["recall"] for stage in stages))
    tiers = {tier["tier"]: tier for tier in document["tiers"]}
    assert set(tiers) == {"memory", "host", "flash", "hbf"}
    for figure in ("chips", "replicas", "seconds", "usd", "together"):
        assert tiers["memory"][figure] == pytest.approx(stages[0][figure])
    sizes = document["sizes"]
    assert sizes["usd"] <= total["usd"] * (1.0 + 1e-9)
    assert sizes["recall"] >= 0.5
    (module,) = document["modules"]
    assert module["fetch_s"] > 0.0
    assert any("looks at 10.00% of the vectors" in note for note in document["notes"])
    corpora = [point["tokens"] for point in document["curve"]]
    assert corpora == sorted(corpora)
    assert [record["name"] for record in answer.as_records()] == ["scan", "answer"]
    assert "<table" in answer._repr_html_()


def test_chips_for_nothing_are_refused_where_dollars_are_compared() -> None:
    free = {"h200-sxm.usd_per_hour": 0.0}
    with pytest.raises(BadInput, match="h200-sxm costs nothing an hour"):
        fs.cascade({**TABLES, "stages": [ANSWER]}, set=free)
    with pytest.raises(BadInput, match="h200-sxm costs nothing an hour"):
        fs.cascade(TABLES, set=free)


def test_files_that_are_no_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["cascade"])
    assert stopped.value.code == 2
    assert "examples/cascade.toml" in capsys.readouterr().err
    for name, text in (("empty", ""), ("words", "hello"), ("huge", "# " + "x" * 2**21)):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            main(["cascade", str(path)])
        assert stopped.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(BadInput, match="not the path of a PLAN"):
        fs.cascade(7)  # type: ignore[arg-type]


def test_nothing_feasible_ends_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "slow.toml"
    stage = "\n".join(f"{key} = {json.dumps(value)}" for key, value in ({**ANSWER, "max_s": 1e-3}).items())
    path.write_text(f"corpus_tokens = 1e5\n[[stages]]\n{stage}\n")
    with pytest.raises(SystemExit) as stopped:
        main(["cascade", str(path), "--json"])
    assert stopped.value.code == 3
    document = json.loads(capsys.readouterr().out)
    assert not document["fits"]
    assert document["reasons"]


@pytest.mark.slow
def test_the_command_and_python_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "plan.toml", tmp_path / "page.html"
    stage = "\n".join(f"{key} = {json.dumps(value)}" for key, value in ANSWER.items())
    path.write_text(f"corpus_tokens = 1e5\ncontexts = [1e5]\n[[stages]]\n{stage}\n")
    main(["cascade", str(path), "--json", "--out", str(out)])
    document = json.loads(capsys.readouterr().out)
    answer = fs.cascade(path).as_dict()
    assert {name: document[name] for name in answer} == json.loads(json.dumps(answer))
    assert answer["stages"][0]["usd"] == answer["everything"]["cold"]["usd"]
    assert "<svg" in out.read_text()
    main(["cascade", str(path)])
    assert "attending to all of it anew" in capsys.readouterr().out


@pytest.mark.slow
def test_tables_of_python() -> None:
    tables = {
        "corpus_tokens": np.int64(20000), "contexts": (), "questions_per_s": np.float32(1.0),
        "stages": ({**ANSWER, "chip": "l4"},),
    }  # fmt: skip
    answer = fs.cascade(tables)
    assert answer.plan.corpus_tokens == 2e4
    assert "<table>" in answer._repr_html_()
    assert fs.cascade(answer.plan).total.usd == answer.total.usd
