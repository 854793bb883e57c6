"""Engines that schedule one step ahead: worked examples with steps of one second, and which engines do so."""

from __future__ import annotations

from typing import Any

import pytest

import flashstill as fs
from flashstill.facts import load
from flashstill.plan.deployment import Deployment
from flashstill.simulate import tally as counted
from flashstill.simulate.course import Course
from flashstill.simulate.engine import run
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.simulation import prepared
from flashstill.simulate.state import CENTRAL
from flashstill.simulate.traffic import Traffic
from flashstill.simulate.view import Decision, ReplicaView
from flashstill.validation.anchors.launched import closed_loop
from tests.batching import FIRST, SECOND, arrivals, limits, ttft_s

FACTS = load()


@pytest.mark.parametrize(
    ("at", "behind", "ahead"),
    [
        (2.5, 4.0, 5.0),  # while the third step runs: the fourth is settled
        (3.0, 4.0, 5.0),  # as the fourth begins, with the third over
        (9.5, 11.0, 11.0),  # while the last step runs: nothing is left to schedule ahead of
        (20.0, 21.0, 21.0),  # nothing runs
    ],
)
def test_when_the_first_token_comes(at: float, behind: float, ahead: float) -> None:
    for prefill_first in (False, True):
        for steps, comes in ((0, behind), (1, ahead)):
            assert ttft_s([FIRST, (at, 10, 2)], ahead=steps, prefill_first=prefill_first) == pytest.approx(comes - at)


def test_a_jump_over_a_full_batch_knows_when_its_last_step_began() -> None:
    """Two run until 10 s and 20 s; whoever came before 9 s is seen at 10 s, and who came later a step later."""
    running = [FIRST, (0.0, 10, 20)]
    for at, steps, comes in ((5.5, 0, 11.0), (5.5, 1, 11.0), (9.5, 0, 11.0), (9.5, 1, 12.0)):
        assert ttft_s([*running, (at, 10, 2)], sequences=2, ahead=steps) == pytest.approx(comes - at)


def test_it_costs_one_step_and_no_more_where_many_come() -> None:
    """Four come in four steps; each joins the step after next, and the decoding of none is longer for it."""
    rows = [FIRST, *((1.5 + i, 10, 3) for i in range(4))]
    one, other = (run(SECOND, limits(ahead=steps), [arrivals(rows)]).tally for steps in (0, 1))
    assert other.sums[counted.TTFT].sum() - one.sums[counted.TTFT].sum() == pytest.approx(4.0)
    assert other.sums[counted.TPOT].sum() == pytest.approx(one.sums[counted.TPOT].sum())


def test_what_a_replica_gets_from_elsewhere_is_as_new() -> None:
    """A request of the central line, or of a replica that has failed, is seen as one that comes when it is sent."""
    central = {"router": CENTRAL, "sequences": 2}
    waits = [FIRST, (0.0, 10, 20), (1.5, 10, 2)]  # there is room when the first is done, at 10 s
    assert [ttft_s(waits, ahead=steps, **central) for steps in (0, 1)] == [pytest.approx(9.5), pytest.approx(10.5)]
    down = Course(mtbf_s=(40.0, 40.0), repair_s=1.0, retries=100)
    rows = [(1.3 * i, 10, 8) for i in range(60)]
    took = [run(SECOND, limits(ahead=steps), [arrivals(rows)], 2, course=down).tally for steps in (0, 1)]
    assert min(tally.totals[counted.FAILURES] for tally in took) > 0
    assert took[0].totals[counted.DONE] == took[1].totals[counted.DONE] == 60


def test_a_user_sees_what_the_engine_sees() -> None:
    """A request that the engine does not know yet is not in line; it cannot be admitted, refused or moved."""
    seen: list[tuple[float, int]] = []

    def own(view: ReplicaView) -> Decision:
        seen.append((view.now_s, view.waiting_count))
        assert len(view.waiting) == view.waiting_count
        return Decision(admit=tuple(reversed(range(view.waiting_count))))

    rows = [FIRST, (2.5, 10, 2), (2.6, 10, 2), (3.5, 10, 2)]
    tally = run(SECOND, limits(asks=True, ahead=1), [arrivals(rows)], scheduler=own).tally
    assert tally.totals[counted.DONE] == 4
    assert [count for now, count in seen if now in (3.0, 4.0, 5.0)] == [0, 2, 1]


@pytest.mark.parametrize(
    ("engine", "edits", "ahead"),
    [
        ("vllm", [], 1), ("sglang", [], 1), ("trtllm", [], 1), ("transformers", [], 0), ("none", [], 0),
        ("vllm-v0", [], 0), ("vllm", ["engine-vllm.steps_ahead=0"], 0),
    ],
)  # fmt: skip
def test_which_engines_do_so(engine: str, edits: list[str], ahead: int) -> None:
    facts = FACTS.edited(edits) if edits else FACTS
    _, sizes = requests_of(Traffic(rate=1.0, requests=10, isl=64, osl=8), 0)
    fleet = prepared(facts, "qwen3-0.6b", Deployment(chip="h100-sxm", engine=engine), Policy(), sizes)
    assert fleet.limits.ahead == ahead
    pipeline = Deployment(chip="h100-sxm", engine=engine, chips=2, pp=2)
    assert prepared(facts, "qwen3-0.6b", pipeline, Policy(), sizes).limits.ahead == 0


def test_which_rows_were_measured_without() -> None:
    row = {
        "kind": "aiconfigurator team sweep", "model": "Qwen/Qwen3-32B", "gpu": "h100_sxm", "backend": "vllm",
        "isl": "1024", "osl": "128", "concurrency": "8",
    }  # fmt: skip

    def ahead(**changed: str) -> bool:
        return closed_loop({**row, **changed}).ahead

    assert [ahead(backend_version=each) for each in ("0.12.0", "0.14.1", "0.9.2", "1.0")] == [False, True, False, True]
    assert ahead(backend="sglang", backend_version="0.5.1.post1")
    script = {"kind": "InferenceX nightly dump", "model": "meta-llama/Llama-3.1-70B"}
    assert [ahead(**script, gpu=gpu) for gpu in ("b200_sxm", "h100_sxm")] == [True, False]


@pytest.mark.slow
def test_a_simulation_of_the_user_follows_the_facts() -> None:
    """A step more for the share of requests that find something running: a tenth of them, or all."""
    asked: dict[str, Any] = {"model": "qwen3-8b", "chip": "h100-sxm", "isl": 256, "osl": 64, "requests": 400}
    for rate, low, high in ((0.2, 0.05, 0.15), (20.0, 0.8, 2.0)):
        now, before = (fs.simulate(**asked, rate=rate, set=edits) for edits in ({}, {"engine-vllm.steps_ahead": 0}))
        more = now.latencies["ttft_s"].mean_s - before.latencies["ttft_s"].mean_s
        assert low <= more / before.latencies["tpot_s"].mean_s <= high
