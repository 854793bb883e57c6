"""Pools on two kinds of chips: their transfers, which pairs are looked at, and their proof."""

from __future__ import annotations

import itertools
import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.cost.disaggregated import Pools, transfer, transfer_joules_per_byte
from flashstill.facts import load
from flashstill.facts.csv_files import to_csv
from flashstill.fleets import mixed
from flashstill.fleets.apart import fewest_of_both
from flashstill.fleets.copies import Copies
from flashstill.fleets.demand import demand_of
from flashstill.fleets.mixed import Couple, couple_of, couples_across
from flashstill.fleets.pairs import pairs_below
from flashstill.fleets.question import sizing_of
from flashstill.fleets.roles import Part, Roles
from flashstill.fleets.search import Question
from flashstill.fleets.slo import parse_slo
from flashstill.fleets.space import Choices
from flashstill.fleets.trials import Traffic
from flashstill.parallel import Layout
from flashstill.plan.deployment import Deployment
from flashstill.plan.scenario import Scenario
from flashstill.plan.setup import make_setup
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.policy import Policy
from tests.commands import Cli
from tests.fleet_traces import LONG, trace_of


def conditions_on(chip: str) -> Any:
    return make_setup(load(), Scenario(model="llama-3.1-8b"), Deployment(chip=chip)).conditions


def test_the_slower_side_decides_how_long_a_cache_travels() -> None:
    """8B: 32 layers x 2 x 8 heads x 128 values of 2 bytes are 131,072 bytes a token, from one L40S to two H100."""
    model = fs.model("llama-3.1-8b")
    slow, fast = conditions_on("l40s"), conditions_on("h100-sxm")
    pools = Pools(prefill=Layout(), instances=1.0, decode=Layout(tp=2.0))
    moved, seconds = transfer(model, fast, pools, 1000.0, slow)
    assert moved == 131_072_000.0
    rates = [each.chip.system.scale_out_bytes_per_s * each.calibration.link_efficiency for each in (slow, fast)]
    hop_s = max(each.calibration.hop_s for each in (slow, fast))
    assert seconds == pytest.approx(hop_s + max(moved / rates[0], moved / 2.0 / rates[1]))
    back_pools = Pools(prefill=Layout(tp=2.0), instances=1.0, decode=Layout())
    assert transfer(model, slow, back_pools, 1000.0, fast)[1] == pytest.approx(seconds)
    own = fast.chip.system.scale_out_joules_per_byte
    system = replace(slow.chip.system, scale_out_joules_per_byte=3.0 * own)
    thirsty = replace(slow, chip=replace(slow.chip, system=system))
    assert (
        transfer_joules_per_byte(fast, thirsty) == transfer_joules_per_byte(thirsty, fast) == pytest.approx(2.0 * own)
    )
    assert transfer_joules_per_byte(fast) == own
    far = Pools(prefill=Layout(), instances=1e3, decode=Layout(tp=2.0))  # beyond any domain of fast links
    assert transfer(model, fast, far, 1000.0) == transfer(model, fast, far, 1000.0, fast)


def kind_of(chip: str, engine: str = "vllm", cache: str = "bf16", network: float = 1e10) -> Any:
    system = SimpleNamespace(scale_out_bytes_per_s=network)
    conditions = SimpleNamespace(
        chip=SimpleNamespace(name=chip, system=system),
        software=SimpleNamespace(name=engine),
        precisions=SimpleNamespace(kv=cache, widths=SimpleNamespace(activation=2.0)),
    )
    return SimpleNamespace(setup=SimpleNamespace(conditions=conditions))


def roles_on(kinds: list[Any], seed: int) -> list[Roles]:
    numbers = np.random.default_rng(seed)

    def parts(number: int) -> list[Part]:
        return [
            Part((number, at), int(count), int(count + more), float(price), 1, 1)
            for at, (count, more, price) in enumerate(
                zip(numbers.integers(1, 9, 4), numbers.integers(0, 4, 4), numbers.integers(1, 40, 4), strict=True)
            )
        ]

    return [Roles(kind=kind, decode=parts(number), prefill=parts(number)) for number, kind in enumerate(kinds)]


@pytest.fixture
def no_transfers(monkeypatch: pytest.MonkeyPatch) -> list[Couple]:
    """Transfers that need nothing; the pairs that were priced with one."""
    priced: list[Couple] = []

    def free(*asked: Any) -> Couple:
        priced.append(asked[-1])
        return priced[-1]

    monkeypatch.setattr(mixed, "_with_transfer", free)
    return priced


def across(kinds: list[Any], roles: list[Roles], dear: float, most: int = 4) -> tuple[list[Couple], int, Counter[str]]:
    reasons = Counter[str]()
    candidates: Any = SimpleNamespace(kinds=kinds)
    nothing: Any = None
    return *couples_across(candidates, nothing, nothing, roles, dear, most, reasons), reasons


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_pairs_are_those_of_all_pairs(seed: int, no_transfers: list[Couple]) -> None:
    kinds = [kind_of(chip) for chip in ("a", "b", "b", "c")]  # b in two formats of its weights
    roles = roles_on(kinds, seed)
    every = [
        couple_of(decode, prefill)
        for one, other in itertools.product(roles, roles)
        if one.kind.setup.conditions.chip.name != other.kind.setup.conditions.chip.name
        for decode, prefill in itertools.product(one.decode, other.prefill)
    ]
    for dear in (20.0, 60.0, 1e9):
        below = sorted(each for each in every if each.least_usd < dear)
        found, count, _ = across(kinds, roles, dear)
        assert [each.guess_usd for each in found] == [each.guess_usd for each in below[:4]]
        assert count == len(below)


def test_the_pairs_that_are_priced_grow_with_the_kinds_and_not_with_their_square(no_transfers: list[Couple]) -> None:
    kinds = [kind_of(f"chip {number}") for number in range(200)]
    found, count, _ = across(kinds, roles_on(kinds, 0), 1e9)
    assert len(found) == 4
    assert count == 200 * 199 * 16
    assert len(no_transfers) < 100


def test_pools_that_cannot_share_a_cache_are_counted(no_transfers: list[Couple]) -> None:
    kinds = [kind_of("a"), kind_of("b", engine="sglang"), kind_of("c", cache="fp8"), kind_of("d", network=0.0)]
    found, count, reasons = across(kinds, roles_on(kinds, 0), 1e9)
    assert (found, count) == ([], 0)
    assert reasons == {mixed.OTHER_ENGINE: 2, mixed.OTHER_CACHE: 1}


TWIN = "l40s-twin"


def twins(folder: Path, **numbers: str) -> Path:
    """Rows of a chip that is an L40S by another name, but for some numbers."""
    rows = [row for facts in load().rows.values() for row in facts if row.name == "l40s"]
    lines = to_csv(rows).replace("l40s,", f"{TWIN},").splitlines()
    for at, line in enumerate(lines):
        fields = line.split(",")
        if len(fields) > 1 and fields[1] in numbers:
            lines[at] = ",".join([*fields[:2], *[numbers[fields[1]]] * 3, *fields[5:]])
    folder.mkdir()
    (folder / "mine.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "machines.csv").write_text(
        f"name,title,maker,class,year\n{TWIN},Twin,NVIDIA,gpu,2026\n", encoding="utf-8"
    )
    return folder


def sized(folder: Path, slo: str = "ttft_p90<2,tpot_p99<40ms", requests: int = 40, **edits: float) -> Any:
    """L40S and its twin under long prompts."""
    numbers = np.random.default_rng(3)
    arrivals = Arrivals(
        np.cumsum(numbers.exponential(0.3, requests)),
        numbers.integers(3000, 6000, requests),
        numbers.integers(20, 60, requests),
        np.zeros(requests, dtype=np.int64),
    )
    choices = Choices(
        chips=("l40s", TWIN), max_chips=1, precisions=("published",), kv_precisions=(None,), engine=None,
        policy=Policy(), price="rented",
    )  # fmt: skip
    facts = load([folder], edits=[f"l40s.{name}={value:g}" for name, value in edits.items()])
    demand = demand_of(arrivals, float(arrivals.arrival_s[-1]))
    return sizing_of(facts, fs.model("llama-3.1-8b"), demand, parse_slo(slo), choices, lambda text: None)


def test_a_chip_and_its_twin_serve_like_one_kind(tmp_path: Path) -> None:
    """Where the network is as fast as the links, pools on both run event for event like those on one."""
    links = load().value("l40s", "link_bytes_per_s")
    folder = twins(tmp_path / "same", scale_out_bytes_per_s=f"{links:g}", usd_per_hour="0.5")
    sizing = sized(folder, scale_out_bytes_per_s=links)
    pairs, count = pairs_below(sizing.candidates, sizing.trials, Question(bounds=sizing.bounds), 1e9, 4, Counter())
    by_key = {pair.candidate.key: pair.candidate for pair in pairs}
    assert set(by_key) == {(0, 0, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0), (1, 0, 1, 0)}
    assert count == 4
    alike, between, copies = by_key[0, 0, 0, 0], by_key[0, 0, 1, 0], Copies(1, 2)
    assert between.usd_of(copies) == pytest.approx(0.86 + 2 * 0.5)
    assert between.prefill_deployment is not None
    assert (between.deployment.chip, between.prefill_deployment.chip) == ("l40s", TWIN)
    assert between.deployment.prefill_chips is None
    assert alike.prefill_deployment is None
    runs = [sizing.trials.of(each, copies, 0, Traffic()) for each in (alike, between)]
    assert np.array_equal(runs[0].tally.histograms, runs[1].tally.histograms)
    assert runs[0].tally.sums[:, 0].tolist() == runs[1].tally.sums[:, 0].tolist()
    assert runs[0].end_s == runs[1].end_s


def test_a_network_that_is_too_slow_needs_more_copies_or_is_out(tmp_path: Path) -> None:
    for rate, slo, is_out in (("2e8", "ttft_p90<9,tpot_p99<40ms", False), ("2e8", "ttft_p90<2,tpot_p99<40ms", True)):
        sizing = sized(twins(tmp_path / str(is_out), scale_out_bytes_per_s=rate), slo)
        reasons = Counter[str]()
        question = Question(bounds=sizing.bounds)
        pairs, _ = pairs_below(sizing.candidates, sizing.trials, question, 1e9, 4, reasons)
        between = [pair for pair in pairs if pair.candidate.key[0] != pair.candidate.key[2]]
        assert (reasons[mixed.SLOW_NETWORK], len(between)) == ((2, 0) if is_out else (0, 2))
        for pair in between:  # 131,072 bytes a token at 2e8 bytes/s: a prompt takes 3 s, and one comes every 0.3 s
            assert min(pair.guess) >= 9
            assert min(pair.least) > 1


@pytest.mark.slow
def test_the_pool_with_the_fewer_links_grows(tmp_path: Path) -> None:
    """Where transfers wait for each other, from one of each on: decode replicas alone would never be enough."""
    sizing = sized(twins(tmp_path / "slow", scale_out_bytes_per_s="2e8"), "ttft_p90<9,tpot_p99<40ms")
    question = Question(bounds=sizing.bounds)
    pairs, _ = pairs_below(sizing.candidates, sizing.trials, question, 1e9, 4, Counter())
    (between,) = (pair.candidate for pair in pairs if pair.candidate.key[0] < pair.candidate.key[2])
    found = fewest_of_both(sizing.trials, between, question, Copies(1, 1), Copies(1, 1), dear=60.0)
    assert found is not None
    assert min(found) >= 5


@pytest.mark.slow
def test_prefill_on_cheap_chips_and_decode_on_fast_ones(tmp_path: Path, cli: Cli) -> None:
    """Cheaper than any fleet of one kind, not below the lower bound, and one fewer of either pool breaks a bound."""
    trace, slo = trace_of(tmp_path / "long.csv", LONG), "ttft_p90<1,tpot_p99<16ms"
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "trace": trace, "slo": slo, "max_chips": 1}
    answer = fs.plan_fleet(chips="l40s,h100-sxm", **asked)
    fleet, proof = answer.fleet, answer.proof
    assert (fleet.prefill.chip, fleet.deployment.chip) == ("l40s", "h100-sxm")
    assert fleet.prefill_deployment is not None
    assert answer.lower_bound_usd_per_hour <= answer.usd_per_hour
    paid = fleet.replicas * fleet.usd_per_hour_of_a_replica
    paid += fleet.prefill_replicas * (fleet.usd_per_hour_of_a_prefill_replica or 0.0)
    assert answer.usd_per_hour == pytest.approx(paid)
    assert fleet.chips == fleet.replicas + fleet.prefill_replicas
    for chip in ("l40s", "h100-sxm"):
        try:
            assert fs.plan_fleet(chips=chip, **asked).usd_per_hour > answer.usd_per_hour
        except fs.InfeasiblePlan:
            continue
    assert proof.worst["ttft_p90"] < 1.0
    assert proof.worst["tpot_p99"] < 0.016
    assert (proof.fewer_prefills_breaks is None) == (fleet.prefill_replicas == 1)
    command = ["plan", "--model", "llama-3.1-8b", "--chip", "l40s,h100-sxm", "--max-chips", "1"]
    command += ["--trace", str(trace), "--slo", slo]
    document = json.loads(cli(*command, "--json").stdout)
    assert document["fleet"]["prefill_deployment"]["chip"] == "l40s"
    assert document["fleet"]["name"] == fleet.name
    assert document["prefill_price_basis"] != document["price_basis"]
    text = cli(*command).stdout
    again = text.split("the same in a simulation: ")[1].splitlines()[0]
    served = json.loads(cli(*shlex.split(again)[1:], "--json").stdout)
    assert served["prefill_deployment"]["chip"] == "l40s"
    assert served["roles"]["prefill"]["replicas"] == fleet.prefill_replicas
    assert served["latencies"]["ttft_s"]["p90"]["value"] <= proof.worst["ttft_p90"]  # seed 0 is one of those proved
    assert served["latencies"]["tpot_s"]["p99"]["value"] <= proof.worst["tpot_p99"]
    assert answer.usd_per_hour * served["seconds"] / 3600.0 == pytest.approx(
        served["usd_per_million_output_tokens"] * served["output_tokens"] / 1e6
    )
    assert f"{fleet.name}: $" in text
    assert "travels from l40s to h100-sxm" in text
