"""Fleets with replicas of their own for prefill: where they win, where they do not, and their proof."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flashstill as fs
from flashstill.fleets.answer import FleetPlan
from flashstill.fleets.apart import fewest_of_both
from flashstill.fleets.copies import Copies
from flashstill.fleets.roles import instances_that_keep
from flashstill.fleets.search import Question
from flashstill.fleets.trials import Broken
from tests.commands import Cli
from tests.fleet_traces import LONG, SHORT, trace_of


def planned(trace: Path, slo: str, **more: Any) -> FleetPlan:
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "chips": "l40s", "max_chips": 2}
    return fs.plan_fleet(trace=trace, slo=slo, **{**asked, **more})


def test_instances_by_the_closed_form() -> None:
    """As many as keep up, more where the wait counts, infinitely many where there is none left."""
    assert instances_that_keep(2.0, 1.0, 1.0, wait_s=1e9, share=0.95) == 3.0
    waits = [instances_that_keep(2.0, 1.0, 1.0, wait_s=wait, share=0.95) for wait in (0.1, 0.5, 2.0)]
    assert waits == sorted(waits, reverse=True)
    assert instances_that_keep(2.0, 1.0, 1.0, wait_s=0.5, share=0.999) > waits[1]
    assert instances_that_keep(2.0, 1.0, 4.0, wait_s=0.5, share=0.95) > waits[1]
    assert instances_that_keep(2.0, 1.0, 1.0, wait_s=0.0, share=0.95) == math.inf


class Corner:
    """Trials in which a fleet keeps its bounds from so many of each role on, at these prices."""

    def __init__(self, needed: Copies, prices: tuple[float, float], trade: float = 0.0) -> None:
        self.needed, self.prices, self.trade, self.runs = needed, prices, trade, 0
        self.prefill = self
        self.chips_joined, self.key = math.inf, (0, 0, 0)

    def usd_of(self, copies: Copies) -> float:
        return copies.replicas * self.prices[0] + copies.prefills * self.prices[1]

    def chips_of(self, copies: Copies) -> int:
        return sum(copies)

    def quickly_broken(self, _: Any, copies: Copies, seed: int, *__: Any) -> tuple[Any, list[Broken]]:
        self.runs += 1
        busy = type("Busy", (), {"busy": 0.9, "prefill_busy": 0.9})
        lacks = []
        if copies.replicas + self.trade * (copies.prefills - self.needed.prefills) < self.needed.replicas + seed:
            lacks.append(Broken("tpot_p95", 2.0, 1.2))
        if copies.prefills < self.needed.prefills:
            lacks.append(Broken("end_to_end_p95", 2.0, 1.1))
        return busy, lacks

    def too_few(self, *_: Any) -> int:
        return 0

    def note_too_few(self, *_: Any) -> None:
        pass

    def hardest_first(self, seeds: Any, *_: Any) -> list[int]:
        return list(seeds)

    def note_hard(self, *_: Any) -> None:
        pass

    def keeps(self, candidate: Any, copies: Copies, seeds: Any, *_: Any) -> int | None:
        return next((seed for seed in seeds if self.quickly_broken(candidate, copies, seed)[1]), None)


@pytest.mark.parametrize("needed", [Copies(1, 1), Copies(3, 7), Copies(40, 2)])
def test_the_fewest_of_both_are_found_from_anywhere(needed: Copies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashstill.fleets.blame.blamed", lambda _, broken: ROLE[broken.name])
    question = Question(bounds=(), seeds=(0, 1))
    for guess in (Copies(1, 1), Copies(60, 60), Copies(60, 1), needed):
        trials: Any = Corner(needed, (2.0, 1.0))
        found = fewest_of_both(trials, trials, question, Copies(1, 1), guess)
        assert found == needed._replace(replicas=needed.replicas + 1)  # the second seed needs one more
    dear: Any = Corner(needed, (2.0, 1.0))
    assert fewest_of_both(dear, dear, question, Copies(1, 1), needed, dear=dear.usd_of(needed)) is None
    assert dear.runs < 20


ROLE = {"tpot_p95": "replicas", "end_to_end_p95": "prefills"}


def test_one_more_of_the_cheaper_role_saves_more_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefill instances at a tenth of the price that each spare a decode replica are taken one by one."""
    monkeypatch.setattr("flashstill.fleets.blame.blamed", lambda _, broken: ROLE[broken.name])
    trials: Any = Corner(Copies(5, 2), (10.0, 1.0), trade=1.0)
    found = fewest_of_both(trials, trials, Question(bounds=()), Copies(1, 1), Copies(5, 2))
    assert found == Copies(1, 6)


@pytest.mark.slow
def test_pools_win_where_long_prompts_delay_decoding(tmp_path: Path) -> None:
    """Checked by simulations of their own: the fleet keeps both bounds, and one prefill instance fewer does not."""
    trace, slo = trace_of(tmp_path / "long.csv", LONG), "ttft_p90<1,tpot_p99<40ms"
    answer, plain = planned(trace, slo), planned(trace, slo, disaggregated=False)
    fleet, proof = answer.fleet, answer.proof
    assert (fleet.kind, plain.fleet.kind) == ("disaggregated", "co-located")
    assert answer.lower_bound_usd_per_hour <= answer.usd_per_hour < plain.usd_per_hour
    assert answer.co_located_usd_per_hour == plain.usd_per_hour
    assert fleet.prefill_replicas > 1
    assert proof.fewer_prefills_breaks in {"ttft_p90", "tpot_p99"}
    assert (proof.fewer_breaks is None) == (fleet.replicas == 1)
    document = answer.as_dict()["fleet"]
    assert document["chips"] == fleet.replicas * (fleet.deployment.chips or 0) + fleet.prefill_replicas * (
        fleet.deployment.prefill_chips or 0
    )
    used = {name: value for name, value in asdict(fleet.deployment).items() if value is not None}

    def kept(prefills: int) -> bool:
        served = fs.simulate(
            model="llama-3.1-8b", trace=trace, replicas=fleet.replicas, prefill_replicas=prefills, **used
        )
        values = served.latencies
        return bool(values["ttft_s"].percentiles[90][0] < 1.0 and values["tpot_s"].percentiles[99][0] < 0.04)

    assert kept(fleet.prefill_replicas)
    if proof.fewer_prefills_seed == 0:
        assert not kept(fleet.prefill_replicas - 1)


@pytest.mark.slow
def test_pools_do_not_win_where_one_replica_does_it_all(tmp_path: Path) -> None:
    trace, slo = trace_of(tmp_path / "short.csv", SHORT), "ttft_p95<2,tpot_p95<60ms"
    answer = planned(trace, slo)
    assert (answer.fleet.kind, answer.fleet.name) == ("co-located", "1 x 1 x l40s")
    assert answer.fleet.prefill_replicas_by_window == ()
    assert answer.proof.prefill_busy is None
    assert answer.usd_per_hour == planned(trace, slo, disaggregated=False).usd_per_hour


@pytest.mark.slow
@pytest.mark.parametrize("shape", [LONG, SHORT])
def test_pools_never_make_a_fleet_dearer(shape: dict[str, Any], tmp_path: Path) -> None:
    trace = trace_of(tmp_path / "trace.csv", shape, 120)
    for slo, more in (("ttft_p95<2,tpot_p95<25ms", {}), ("end_to_end_p90<4", {}), ("ttft_p95<1", {"window_s": 12.0})):
        both, plain = planned(trace, slo, **more), planned(trace, slo, disaggregated=False, **more)
        assert both.usd_per_hour <= plain.usd_per_hour * (1.0 + 1e-9)
        assert both.usd_per_hour >= both.lower_bound_usd_per_hour * (1.0 - 1e-9)
        for one, other in zip(both.scales, plain.scales, strict=True):
            if one.question != "100x the traffic" and other.usd_per_hour is not None:  # cells differ in size
                assert one.usd_per_hour is not None
                assert one.usd_per_hour <= other.usd_per_hour * (1.0 + 1e-9)


@pytest.mark.slow
def test_replicas_of_attention_count_as_one_deployment(tmp_path: Path) -> None:
    """A mixture of experts with attention in parallel (dp 2): the fleet that is named is the one that was simulated."""
    trace = trace_of(tmp_path / "trace.csv", LONG, 60)
    asked = {"model": "qwen3-30b-a3b", "chips": "h100-sxm", "max_chips": 2}
    answer = planned(trace, "ttft_p95<2,tpot_p95<60ms", **asked)
    fleet = answer.fleet
    used = {name: value for name, value in asdict(fleet.deployment).items() if value is not None}
    beside: dict[str, Any] = {"prefill_replicas": fleet.prefill_replicas} if fleet.prefill_replicas else {}
    served = fs.simulate(model="qwen3-30b-a3b", trace=trace, replicas=fleet.replicas, **beside, **used)
    assert served.latencies["tpot_s"].percentiles[95][0] < 0.06


@pytest.mark.slow
def test_the_command_names_the_ratio(tmp_path: Path, cli: Cli) -> None:
    trace = trace_of(tmp_path / "long.csv", LONG, 120)
    asked = ["plan", "--model", "llama-3.1-8b", "--chip", "l40s", "--max-chips", "1", "--trace", str(trace)]
    asked += ["--slo", "ttft_p90<1,tpot_p99<40ms"]
    text = cli(*asked).stdout
    assert "disaggregated, " in text
    assert " prefill to " in text
    assert " decode; co-located $" in text
    assert "disaggregated" not in cli(*asked, "--co-located").stdout


def test_days_that_want_different_pools_end_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """One seed needs three decode replicas, the other three prefill instances: under one after the other, (3, 1) and
    (1, 3) followed each other for ever, as one BurstGPT trace showed."""
    needs = {0: Copies(3, 1), 1: Copies(1, 3)}

    class Days:
        def quickly_broken(self, candidate: Any, copies: Copies, seed: int, *rest: Any) -> tuple[Any, list[Broken]]:
            lacking = any(got < need for got, need in zip(copies, needs[seed], strict=True))
            return SimpleNamespace(busy=1.0, prefill_busy=1.0), [Broken("ttft_p95", 2.0, 2.0)] * lacking

        def keeps(self, candidate: Any, copies: Copies, seeds: Any, *rest: Any) -> int | None:
            return next((seed for seed in seeds if self.quickly_broken(candidate, copies, seed)[1]), None)

        def too_few(self, *rest: Any) -> int:
            return 0

        def note_too_few(self, *rest: Any) -> None:
            """Nothing is remembered."""

        def hardest_first(self, seeds: Any, *rest: Any) -> list[int]:
            return list(seeds)

        def note_hard(self, *rest: Any) -> None:
            """Nothing is remembered."""

    grows = lambda *asked: ("replicas" if asked[3] == 0 else "prefills", False)
    monkeypatch.setattr("flashstill.fleets.apart.to_grow", grows)
    candidate: Any = SimpleNamespace(key=(0, 0, 1, 1), prefill=None, usd_of=sum)
    days: Any = Days()
    question = Question(bounds=(), seeds=(0, 1))
    assert fewest_of_both(days, candidate, question, Copies(1, 1), Copies(1, 1)) == Copies(3, 3)
