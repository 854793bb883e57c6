"""Mechanisms of the simulation that meet: lines and refusals, pools and prefix caches, scaling and schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.simulate import tally as counted
from flashstill.simulate.course import Autoscaler, Course, PrefillPool
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.kinds import joules_by_kind, per_million
from flashstill.simulate.knee import _read
from flashstill.simulate.operations import Operations
from flashstill.simulate.policy import Policy
from flashstill.simulate.saturated import outside
from flashstill.simulate.saturation import _arrivals
from flashstill.simulate.settings import Links
from flashstill.simulate.state import CENTRAL, FREE, REFERENCES, TURNED_DOWN
from flashstill.simulate.traffic import Traffic
from flashstill.simulate.view import Decision, ReplicaView
from tests.batching import arrivals, limits, tables
from tests.commands import refuse

BURST = [(0.01 * i, 100, 50) for i in range(40)]
LATER = [(100.0 + 10.0 * i, 100, 20) for i in range(10)]
LINKS = Links(np.array([0.0, 4096.0]), np.array([0.3, 2.0]), np.zeros(2), 4)


def counts_of(outcome: Outcome) -> tuple[int, int, int]:
    """Requests done, turned away as too late, and failed."""
    totals = outcome.tally.totals
    return int(totals[counted.DONE]), int(totals[counted.TOO_LATE]), int(totals[counted.FAILED])


class TestCentralLine:
    """A request that is turned away leaves room for the next one in the central line."""

    def test_refused_late(self) -> None:
        asked = limits(router=CENTRAL, late=TURNED_DOWN, ttft_s=0.2, sequences=1)
        done, late, failed = counts_of(run(tables(), asked, [arrivals(BURST + LATER)]))
        assert done + late == 50
        assert done >= 10, "those that come to an idle replica"
        assert failed == 0

    def test_refused_by_a_function(self) -> None:
        def every_other(view: ReplicaView) -> Decision:
            old = [at for at, each in enumerate(view.waiting) if view.now_s - each.arrival_s > 0.2]
            return Decision(refuse=old)

        asked = limits(router=CENTRAL, asks=True, sequences=1)
        done, late, failed = counts_of(run(tables(), asked, [arrivals(BURST + LATER)], scheduler=every_other))
        assert done + late == 50
        assert done >= 10
        assert failed == 0


@pytest.mark.parametrize(("bound_s", "first_s", "late"), [(0.056, 0.0, 0), (0.054, 0.0, 1), (0.056, 0.002, 1)])
def test_too_late_is_told_by_a_request_s_own_prefill_and_the_engine_s_constant(
    bound_s: float, first_s: float, late: int
) -> None:
    """1,000 tokens that attend to 2,000 found ones and to 500 of their own: 10 + 1,000 (0.02 + 2,500 / 1e5) = 55 ms."""
    asked = limits(tokens=4096, late=TURNED_DOWN, ttft_s=bound_s, first_s=first_s)
    outcome = run(tables(), asked, [arrivals([(0.0, 3000, 4)], cached=2000)])
    assert counts_of(outcome) == (1 - late, late, 0)


def test_chunks_shrink_as_what_they_attend_to_grows() -> None:
    """Beside a sequence that decodes, each chunk of 4,000 tokens is what keeps a step within 20 ms."""
    asked = limits(tokens=1024, tpot_s=0.02, late=TURNED_DOWN)
    outcome = run(tables(), asked, [arrivals([(0.0, 16, 12), (0.021, 4000, 1)])])
    mean = outcome.tally.sums[counted.TPOT].sum()  # of the one that has a second token
    assert 0.018 < mean < 0.02


def test_pools_with_prefix_caches_that_fail_free_their_blocks() -> None:
    """A transfer that is called off leaves the prefix cache of the receiver as it was."""
    asked = limits(unit=16, unit_blocks=1, blocks=400)
    rows = [(0.05 * i, 64, 30) for i in range(60)]
    keys = [[(i % 3) * 1000 + k for k in range(5)] for i in range(60)]
    filling = asked._replace(sends=True)
    pool = PrefillPool(tables=tables(), limits=filling, replicas=2, lanes=1, links=LINKS)
    course = Course(mtbf_s=(1.5, 1.5), repair_s=0.5, cold_s=(0.1, 0.1), retries=50)
    outcome = run(tables(), asked, [arrivals(rows, keys=keys)], 2, prefill=pool, course=course)
    assert outcome.tally.totals[counted.FAILURES] > 10
    assert outcome.fleet.counts[:, FREE].tolist() == [400] * 4


def test_an_autoscaler_does_not_look_for_ever() -> None:
    """Where a scheduler leaves requests in line, nothing but the autoscaler's looks would ever happen."""
    scaler = Autoscaler(
        metric=0, target=2.0, interval_s=1.0, tolerance=0.1, patience_s=5.0, least=1, most=2, begin=1
    )  # fmt: skip
    with pytest.raises(fs.BadInput, match="left 1 requests in line"):
        run(
            tables(), limits(asks=True), [arrivals([(0.1, 64, 30)])], course=Course(autoscaler=scaler),
            scheduler=lambda view: Decision(admit=0),
        )  # fmt: skip


def test_a_closed_loop_turns_nobody_away() -> None:
    with pytest.raises(fs.BadInput, match="come again at once"):
        fs.simulate(
            model="qwen3-0.6b", chip="h100-sxm", concurrency=2, requests=4, isl=10, osl=2, scheduler="slo-aware",
            max_ttft_s=0.1, refuse_late=True,
        )  # fmt: skip


def test_a_scheduler_sees_what_is_cached() -> None:
    seen: list[int] = []

    def noting(view: ReplicaView) -> Decision:
        seen.extend(each.cached_tokens for each in view.waiting)
        return Decision()

    asked = limits(unit=16, unit_blocks=1, asks=True)
    run(tables(), asked, [arrivals([(0.0, 64, 4), (10.0, 64, 4)], keys=[[1, 2, 3, 4]] * 2)], scheduler=noting)
    assert seen == [0, 48], "three units, as at least one token of the prompt is computed"


def test_prices_add_up_with_swapping() -> None:
    """What comes back from the host was never found in a prefix cache: it is paid for by the input."""
    outcome = run(tables(), limits(blocks=40, swap_s=1e-3), [arrivals([(0.0, 100, 200)] * 6)])
    totals = outcome.tally.totals
    assert totals[counted.SWAPPED] > 0
    tokens = {"cached": 0, "input": int(totals[counted.TOKENS_IN]), "output": int(totals[counted.TOKENS_OUT])}
    parts = joules_by_kind(outcome.fleet)
    for each in (parts, {**parts, "cached": 1.0}):
        prices = per_million(7.0, each, tokens)
        assert sum(tokens[kind] / 1e6 * (price or 0.0) for kind, price in prices.items()) == pytest.approx(7.0)


def test_the_closed_form_of_the_knee_leaves_swapping_out() -> None:
    assert outside(Policy(preemption="swap"), limits(swap_s=1e-3)) == "preemption by swap"
    assert outside(Policy(), limits()) == ""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"rate": 1.0, "speed": 2.0}, "speed has no effect with rate"),
        ({"concurrency": 2, "cv": 2.0}, "cv has no effect with concurrency"),
        ({"agents": 2, "cv": 2.0}, "cv has no effect with agents"),
        ({"trace": Path("any.csv"), "cached_ratio": 0.5}, "cached_ratio has no effect with trace"),
        ({"trace": Path("any.csv"), "least_ratio": 0.5}, "least_ratio has no effect with trace"),
        ({"rate": 1.0, "lengths": Path("any.csv"), "least_ratio": 0.5}, "leave least_ratio out"),
    ],
)
def test_no_setting_of_the_traffic_is_ignored(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(fs.BadInput, match=told):
        Traffic(**asked)


@pytest.mark.parametrize("asked", [{"min_replicas": 3}, {"scale_down_s": 0.0}, {"cold_start_s": 5.0}])
def test_no_setting_of_the_scaling_is_ignored(asked: dict[str, Any]) -> None:
    with pytest.raises(fs.BadInput, match=next(iter(asked))):
        Operations(**asked)


class TestKnee:
    def test_more_requests_than_a_trace_with_block_names_has(self) -> None:
        """Names of blocks are large numbers; a knee, found without a prefix cache, does not use them."""
        given = arrivals([(0.1 * i, 64, 30) for i in range(10)], keys=[[2**62 + i] for i in range(10)])
        kept, share = _read([given, arrivals([(1.0, 64, 30)])], limits())
        assert (len(kept.prompt), len(kept.keys), share) == (11, 0, 1.0)
        assert sum(len(piece.prompt) for piece in _arrivals(kept, 1.0, 70_000, 0)) == 70_000

    def test_turning_away_has_none(self) -> None:
        with pytest.raises(fs.BadInput, match="with refuse_late waiting cannot grow"):
            fs.knee(
                model="qwen3-0.6b", chip="h100-sxm", isl=10, osl=2, scheduler="slo-aware", max_ttft_s=0.1,
                refuse_late=True,
            )  # fmt: skip


@pytest.mark.slow
def test_the_knee_of_one_request(tmp_path: Path) -> None:
    """One request has lengths, and so a knee; but no rate, whose multiples could be tried."""
    path = tmp_path / "one.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,64,8\n", encoding="utf-8")
    asked: dict[str, Any] = {"model": "qwen3-0.6b", "chip": "h100-sxm", "trace": path, "sequences": 4}
    found = fs.knee(**asked)
    assert found.rate > 0.0
    assert found.speed is None
    with pytest.raises(fs.BadInput, match="all arrive at once"):
        fs.knee(**asked, max_ttft_s=0.1)


def test_settings_of_a_sweep_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("simulate", "--model", "qwen3-0.6b", "--chip", "h100-sxm", "--rate", "1")
    for option in (("--seeds", "2"), ("--workers", "2"), ("--dask", "any:1")):
        assert f"{option[0]} is of a sweep" in refuse(capsys, *asked, *option)


@pytest.mark.slow
def test_transfers_take_no_blocks_from_planned_steps() -> None:
    """A cache that comes while a replica decodes leaves it the blocks of the step that runs, and evicts idle units."""
    asked = limits(unit=16, unit_blocks=1, blocks=40, sequences=8)
    numbers = np.random.default_rng(5)
    rows = [(0.03 * i, int(numbers.integers(1, 300)), int(numbers.integers(2, 120))) for i in range(80)]
    keys = [[1000 * (i % 3) + k for k in range((row[1] + row[2]) // 16)] for i, row in enumerate(rows)]
    pool = PrefillPool(tables=tables(), limits=asked._replace(sends=True), replicas=2, lanes=2, links=LINKS)
    outcome = run(tables(), asked, [arrivals(rows, keys=keys)], 1, prefill=pool)
    assert outcome.tally.totals[counted.DONE] == 80
    assert outcome.tally.totals[counted.EVICTED] > 0
    assert outcome.fleet.counts[:, FREE].tolist() == [40] * 3
    assert not (outcome.fleet.prefix[:, REFERENCES] != 0).any()
