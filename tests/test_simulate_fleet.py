"""Pools, failures, cold starts and scaling in the event loop: nothing is lost, and worked examples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill.simulate import tally as counted
from flashstill.simulate.course import STEADY, Autoscaler, Course, PrefillPool
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.settings import Links
from flashstill.simulate.state import (
    BUSY_S,
    COMMITTED,
    CONTEXT,
    DECODING,
    FILLING,
    FREE,
    HELD,
    INCOMING,
    LAND_LENGTH,
    OWED,
    OWED_TOKENS,
    PAID_S,
    QUEUED,
    SEND_LENGTH,
    Limits,
)
from tests.batching import arrivals, limits, step_s, tables
from tests.marks import examples

HOLDS = [OWED, OWED_TOKENS, DECODING, FILLING, QUEUED, CONTEXT, COMMITTED, INCOMING, HELD, SEND_LENGTH, LAND_LENGTH]
"""columns of a replica that has nothing left"""
KNOTS = np.array([0.0, 2048.0, 4096.0])
SECONDS = st.sampled_from([math.inf, 0.5, 5.0])
REPLICA = st.fixed_dictionaries({
    "sequences": st.integers(1, 8), "tokens": st.integers(1, 200), "blocks": st.integers(8, 60),
    "prefill_first": st.booleans(), "reserves": st.booleans(), "router": st.integers(0, 4),
    "swap_s": st.sampled_from([0.0, 0.0, 1e-4]), "ahead": st.integers(0, 1),
})  # fmt: skip
TRAFFIC = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 300), st.integers(1, 40)), min_size=1, max_size=40)
POOL = st.one_of(
    st.none(),
    st.fixed_dictionaries({
        "replica": REPLICA, "replicas": st.integers(1, 3), "lanes": st.integers(1, 2), "receives": st.integers(1, 2),
        "per_token_s": st.floats(0.0, 2e-4),
    }),
)  # fmt: skip
SCHEDULE = st.lists(st.tuples(st.floats(0.01, 6.0), st.integers(0, 3)), max_size=5)
AUTOSCALER = st.fixed_dictionaries({
    "metric": st.integers(0, 2), "target": st.sampled_from([0.5, 2.0]), "interval_s": st.sampled_from([0.1, 0.5]),
    "tolerance": st.just(0.1), "patience_s": st.sampled_from([0.0, 1.0]), "least": st.integers(0, 1),
    "most": st.integers(1, 3), "begin": st.integers(0, 1),
})  # fmt: skip
COURSE = st.one_of(
    st.none(),
    st.fixed_dictionaries({
        "mtbf_s": st.tuples(SECONDS, SECONDS), "cold_s": st.sampled_from([(0.0, 0.0), (0.3, 0.2)]),
        "repair_s": st.sampled_from([0.0, 1.0]), "retries": st.integers(0, 3),
        "scaling": st.one_of(st.none(), SCHEDULE, AUTOSCALER),
    }),
)  # fmt: skip
ASKED = {
    "rows": TRAFFIC, "replica": REPLICA, "pool": POOL, "course": COURSE, "replicas": st.integers(1, 3),
    "concurrency": st.one_of(st.none(), st.integers(1, 6)), "cached": st.sampled_from([0, 20]),
    "seed": st.integers(0, 10**6),
}  # fmt: skip


def pool_of(asked: dict[str, Any], router: int) -> PrefillPool:
    filling = limits(**asked["replica"])._replace(sends=True, reserves=False, router=router)
    links = Links(KNOTS, 1e-3 + asked["per_token_s"] * KNOTS, 1e-3 * KNOTS, asked["receives"])
    return PrefillPool(tables=tables(), limits=filling, replicas=asked["replicas"], lanes=asked["lanes"], links=links)


def course_of(asked: dict[str, Any] | None) -> Course:
    if asked is None:
        return STEADY
    scaling = asked["scaling"]
    fields = {name: value for name, value in asked.items() if name != "scaling"}
    if isinstance(scaling, dict):
        return Course(**fields, autoscaler=Autoscaler(**scaling))
    return Course(**fields, schedule=((0.0, 1), *sorted(scaling)) if scaling else ())


def holds(outcome: Outcome, used: Limits, filling: Limits) -> None:
    """Every replica is empty, and its blocks are free."""
    fleet = outcome.fleet
    blocks = [filling.blocks] * outcome.prefills + [used.blocks] * (len(fleet.counts) - outcome.prefills)
    assert fleet.counts[:, FREE].tolist() == blocks
    assert not fleet.counts[:, HOLDS].any()
    assert not fleet.residues.any()


def conserved(
    rows: list[tuple[int, int, int]], replica: dict[str, Any], pool: dict[str, Any] | None,
    course: dict[str, Any] | None, replicas: int, concurrency: int | None, cached: int, seed: int,
) -> None:  # fmt: skip
    asked = sorted((0.01 * at, prompt, output) for at, prompt, output in rows)
    if concurrency is not None:
        concurrency = min(concurrency, len(asked))
        asked = [(0.0 if i < concurrency else math.inf, prompt, output) for i, (_, prompt, output) in enumerate(asked)]
    used = limits(**replica)
    prefill = None if pool is None else pool_of(pool, used.router)
    changes = course_of(course)
    outcome = run(
        tables(), used, [arrivals(asked, cached)], replicas, concurrency is not None, seed, prefill=prefill,
        course=changes,
    )  # fmt: skip
    tally, filling = outcome.tally, prefill.limits if prefill else used
    totals = tally.totals
    assert totals[counted.ARRIVED] == totals[counted.DONE] + totals[counted.REFUSED] + totals[counted.FAILED]
    assert tally.area[counted.IN_SYSTEM] == 0
    assert tally.counts[counted.END_TO_END].sum() == totals[counted.DONE]
    assert changes is not STEADY or totals[counted.FAILED] == totals[counted.RETRIED] == 0
    if concurrency is None:
        assert totals[counted.ARRIVED] == len(asked)
        kept = [
            (prompt, output)
            for _, prompt, output in asked
            if -(-(prompt + output) // 16) <= used.blocks and (prefill is None or -(-prompt // 16) <= filling.blocks)
        ]
        assert totals[counted.TOKENS_IN] == sum(prompt for prompt, _ in kept)
        given = totals[counted.TOKENS_OUT] - totals[counted.LOST_OUT]
        if totals[counted.FAILED] == 0:
            assert given == sum(output for _, output in kept)
        else:
            assert given <= sum(output for _, output in kept)
    holds(outcome, used, filling)
    paid = outcome.fleet.clock[:, PAID_S]
    assert (paid <= outcome.end_s * (1 + 1e-12)).all()
    assert (outcome.fleet.clock[:, BUSY_S] <= paid * (1 + 1e-9) + 1e-9).all()
    assert tally.lines[:, counted.PAID].sum() == pytest.approx(paid.sum(), rel=1e-9, abs=1e-9)
    assert tally.lines[:, counted.TOKENS].sum() == pytest.approx(totals[counted.TOKENS_OUT], rel=1e-9)


@examples(50)
@given(**ASKED)
@pytest.mark.slow
def test_nothing_is_lost(**asked: Any) -> None:
    """Requests arrived = finished + refused + failed, tokens given, and all blocks free, whatever fails or scales."""
    conserved(**asked)


@pytest.mark.slow
@examples(2_000)
@given(**ASKED)
def test_nothing_is_lost_in_thousands_of_runs(**asked: Any) -> None:
    conserved(**asked)


class TestPools:
    LINKS = Links(KNOTS, 0.1 + 1e-4 * KNOTS, 2.0 * KNOTS, 1)

    def pool(self, replicas: int = 1, **changed: Any) -> PrefillPool:
        filling = limits(**changed)._replace(sends=True)
        return PrefillPool(tables=tables(), limits=filling, replicas=replicas, lanes=1, links=self.LINKS)

    def test_one_request(self) -> None:
        """Its first token comes after prefill and transfer, the others step by step."""
        outcome = run(tables(), limits(), [arrivals([(0.0, 100, 4)])], 1, prefill=self.pool())
        first = step_s(0, 0.0, 100, 50.0) + 0.1 + 1e-4 * 100
        assert outcome.tally.sums[counted.TTFT].sum() == pytest.approx(first, rel=1e-9)
        assert outcome.tally.sums[counted.TRANSFER].sum() == pytest.approx(0.11, rel=1e-9)
        assert outcome.end_s == pytest.approx(first + sum(step_s(1, 100 + i, 0, 0.0) for i in range(3)), rel=1e-9)

    def test_transfers_of_a_sender_follow_each_other(self) -> None:
        """Two prompts are ready at the same time, and the second cache waits for the link."""
        outcome = run(tables(), limits(), [arrivals([(0.0, 100, 2)] * 2)], 2, prefill=self.pool())
        ready = step_s(0, 0.0, 200, 50.0)
        assert outcome.tally.sums[counted.TTFT].sum() == pytest.approx(2 * ready + 0.11 + 0.22, rel=1e-9)
        both = run(tables(), limits(), [arrivals([(0.0, 100, 2)] * 2)], 2, prefill=self.pool(replicas=2))
        assert both.tally.sums[counted.TTFT].sum() == pytest.approx(2 * (step_s(0, 0.0, 100, 50.0) + 0.11), rel=1e-9)

    def test_an_answer_of_one_token_needs_no_transfer(self) -> None:
        outcome = run(tables(), limits(), [arrivals([(0.0, 100, 1)])], 1, prefill=self.pool())
        assert outcome.end_s == pytest.approx(step_s(0, 0.0, 100, 50.0), rel=1e-9)
        assert outcome.tally.counts[counted.TRANSFER].sum() == 0

    def test_a_cache_waits_where_it_is_for_room(self) -> None:
        """The decode replica has blocks for one request at a time, and the second starts when the first is done."""
        rows = [(0.0, 160, 33), (0.0, 160, 33)]
        outcome = run(tables(), limits(blocks=13), [arrivals(rows)], 1, prefill=self.pool())
        decoding = sum(step_s(1, 160 + i, 0, 0.0) for i in range(32))
        ready = step_s(0, 0.0, 256, (160 * 80 + 96 * 48) / 256)  # a part of the second prompt shares the step
        assert outcome.end_s == pytest.approx(ready + 2 * (0.1 + 1e-4 * 160 + decoding), rel=1e-9)
        assert outcome.tally.totals[counted.PREEMPTED] == 0


ROWS = [(0.1 * i, 50, 20) for i in range(100)]


class TestChanges:
    def test_failures_are_the_same_for_the_same_seed(self) -> None:
        course = Course(mtbf_s=(3.0, 3.0), repair_s=1.0, cold_s=(0.5, 0.5), retries=5)
        one, two, other = (run(tables(), limits(), [arrivals(ROWS)], 2, seed=s, course=course) for s in (1, 1, 2))
        assert one.end_s == two.end_s
        assert (one.tally.sums == two.tally.sums).all()
        assert one.end_s != other.end_s
        assert one.tally.totals[counted.FAILURES] > 0
        assert one.tally.totals[counted.DONE] == 100

    @pytest.mark.slow
    def test_availability_is_that_of_the_means(self) -> None:
        """Served share of the time = mtbf / (mtbf + repair + cold start); paid for: with the cold start."""
        course = Course(mtbf_s=(8.0, 8.0), repair_s=1.0, cold_s=(1.0, 1.0), retries=10**6)
        rows = [(float(i), 20, 2) for i in range(1_500)]
        outcome = run(tables(), limits(), [arrivals(rows)], 4, course=course)
        serving, paid = (outcome.tally.lines[:, line].sum() for line in (counted.SERVING, counted.PAID))
        assert serving / (4 * outcome.end_s) == pytest.approx(0.8, rel=0.03)
        assert paid / (4 * outcome.end_s) == pytest.approx(0.9, rel=0.03)
        assert outcome.tally.totals[counted.FAILURES] == pytest.approx(4 * outcome.end_s / 10.0, rel=0.1)

    def test_without_retries_requests_fail(self) -> None:
        outcome = run(tables(), limits(), [arrivals(ROWS)], 1, course=Course(mtbf_s=(1.0, 1.0), repair_s=0.1))
        assert outcome.tally.totals[counted.FAILED] > 0
        assert outcome.tally.totals[counted.RETRIED] == 0

    def test_a_schedule_starts_and_drains(self) -> None:
        """One unit, two from 10 s on (serving at 11 s), one from 20 s on: 20 + 10 seconds are paid for, and a drain."""
        course = Course(schedule=((0.0, 1), (10.0, 2), (20.0, 1)), cold_s=(1.0, 1.0))
        rows = [(0.5 * i, 50, 5) for i in range(61)]
        outcome = run(tables(), limits(), [arrivals(rows)], 1, course=course)
        serving, paid = (outcome.tally.lines[:, line].sum() for line in (counted.SERVING, counted.PAID))
        assert paid == pytest.approx(outcome.end_s + 10.0, abs=0.2)
        assert paid - serving == pytest.approx(1.0, rel=1e-9)

    def test_an_autoscaler_follows_the_load(self) -> None:
        """With a target of two requests for each replica, forty at a time ask for the most that there may be."""
        auto = Autoscaler(metric=0, target=2.0, interval_s=0.5, tolerance=0.1, patience_s=2.0, least=1, most=4, begin=1)
        rows = [(0.02 * i, 100, 60) for i in range(300)] + [(60.0 + i, 50, 5) for i in range(20)]
        course = Course(autoscaler=auto, cold_s=(0.2, 0.2))
        outcome = run(tables(), limits(), [arrivals(rows)], 1, course=course, moment_s=1.0)
        replicas = outcome.tally.lines[: int(outcome.end_s), counted.PAID] / outcome.tally.moment[0]
        assert replicas[:10].max() == pytest.approx(4.0)
        assert replicas[65:].max() == pytest.approx(1.0)
