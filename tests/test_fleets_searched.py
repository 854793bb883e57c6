"""What the search for a fleet leaves out, tried by brute force: no other layout, number or pair is cheaper."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.facts import load
from flashstill.fleets import apart, blame, candidates
from flashstill.fleets.copies import Copies
from flashstill.fleets.demand import demand_of
from flashstill.fleets.pairs import further_pairs
from flashstill.fleets.question import Sizing, sizing_of
from flashstill.fleets.search import ALL, Question
from flashstill.fleets.slo import parse_slo
from flashstill.fleets.space import Choices
from flashstill.fleets.trials import Broken
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.policy import Policy
from flashstill.simulate.tally import TRANSFER, TTFT


def sizing(
    model: str, chips: tuple[str, ...], slo: str, *, prompt: float, answer: float, gap_s: float, cv: float = 1.0,
    requests: int = 600, most: int = 4, seed: int = 1,
) -> Sizing:  # fmt: skip
    """Requests of lognormal lengths around a prompt and an answer, gamma-distributed gaps."""
    numbers = np.random.default_rng(seed)
    arrivals = Arrivals(
        np.cumsum(numbers.gamma(1.0 / cv**2, gap_s * cv**2, requests)),
        np.clip(numbers.lognormal(math.log(prompt), 0.8, requests), 4, 30_000).astype(np.int64),
        np.clip(numbers.lognormal(math.log(answer), 0.7, requests), 1, 3_000).astype(np.int64),
        np.zeros(requests, dtype=np.int64),
    )
    choices = Choices(
        chips=chips, max_chips=most, precisions=("published",), kv_precisions=(None,), engine=None, policy=Policy(),
        price="rented",
    )  # fmt: skip
    demand = demand_of(arrivals, float(arrivals.arrival_s[-1]))
    return sizing_of(load(), fs.model(model), demand, parse_slo(slo), choices, lambda text: None)


def cheapest_by_force(asked: Sizing, seeds: int, dear: float) -> float:
    """Dollars per hour of the cheapest co-located fleet below `dear`: every layout with every number of replicas."""
    for number, kind in enumerate(asked.candidates.kinds):
        for at in range(len(kind.layouts)):
            each = asked.candidates.of((number, at), Counter())
            if each is None:
                continue
            for count in range(1, math.ceil(dear / each.usd_per_hour - 1e-9)):
                if asked.trials.keeps(each, Copies(count), range(seeds), asked.bounds, ALL) is None:
                    dear = count * each.usd_per_hour
                    break
    return dear


MOE, TWO_GPUS = "qwen3-30b-a3b", ("h100-sxm", "a100-80g")
CASES: dict[str, tuple[str, tuple[str, ...], str, dict[str, Any]]] = {
    "bursts": (MOE, TWO_GPUS, "ttft_p95<0.16,tpot_p95<19ms", {"prompt": 976, "answer": 370, "gap_s": 0.085, "cv": 4.0}),
    "bursts of long prompts": (
        MOE, TWO_GPUS, "ttft_p95<0.52,tpot_p50<25ms", {"prompt": 5683, "answer": 306, "gap_s": 0.034, "cv": 4.0}
    ),
    "one chip": (
        "gpt-oss-120b", ("h100-sxm", "h200-sxm"), "tpot_p50<60ms", {"prompt": 145, "answer": 365, "gap_s": 0.019}
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_no_other_layout_or_number_is_cheaper(name: str) -> None:
    """Eight layouts by the closed form left the cheapest one out: 25, 150 and 25 % too dear."""
    model, chips, slo, shape = CASES[name]
    asked = sizing(model, chips, slo, **shape)
    named = asked.co_located(Question(bounds=asked.bounds, seeds=tuple(range(3))), math.inf, Counter())
    assert named is not None
    assert cheapest_by_force(asked, 3, named.usd_per_hour) == named.usd_per_hour


def test_the_closed_form_decides_the_order_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layout by the closed form, or all of them: the same fleet."""
    found = []
    for most in (1, 64):
        monkeypatch.setattr(candidates, "MOST", most)
        asked = sizing(
            "llama-3.1-8b", ("l40s", "h100-sxm"), "ttft_p90<0.3", prompt=900, answer=20, gap_s=0.05, cv=4.0,
            requests=60, most=2,
        )  # fmt: skip
        found.append(asked.co_located(Question(bounds=asked.bounds), math.inf, Counter()))
    one, every = found
    assert one is not None
    assert every is not None
    assert one.usd_per_hour == every.usd_per_hour


@pytest.mark.slow
def test_what_one_pair_needs_says_nothing_wrong_of_another() -> None:
    """Prefill instances beside slow decode replicas were too few; beside others as many were enough: 34 % too dear."""
    asked = sizing(
        "llama-3.1-8b", ("l40s", "a100-80g"), "ttft_p95<0.23,tpot_p50<49ms", prompt=1437, answer=110, gap_s=0.013,
        cv=4.0, seed=754,
    )  # fmt: skip
    seeds = tuple(range(3))
    question = Question(bounds=asked.bounds, seeds=seeds)
    best = asked.apart(question, math.inf, Counter())
    assert best is not None
    pairs, _ = apart_pairs(asked, question)
    for pair in pairs:
        asked.trials._few.clear()  # as if nothing was known of others
        copies = apart.fewest_of_both(asked.trials, pair.candidate, question, pair.least, pair.guess)
        assert copies is None or pair.candidate.usd_of(copies) >= best.usd_per_hour * (1.0 - 1e-9)


LATER: dict[str, tuple[str, tuple[str, ...], str, dict[str, Any]]] = {
    "the fifth pair on one kind": (
        "gpt-oss-120b", ("h100-sxm", "h200-sxm"), "ttft_p50<0.29,tpot_p95<45ms",
        {"prompt": 3315, "answer": 45, "gap_s": 0.068, "most": 8, "seed": 11},
    ),
    "the fifth layout of a role": (
        "mixtral-8x7b", ("h100-nvl",), "ttft_p90<0.33,tpot_p95<27ms",
        {"prompt": 1797, "answer": 70, "gap_s": 0.077, "requests": 400, "seed": 7},
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_pairs_that_come_later_by_the_closed_form_are_tried_as_well(name: str) -> None:
    """Four pairs of a kind, and four layouts of a role, left the cheapest one out: 19 and 75 % too dear."""
    model, chips, slo, shape = LATER[name]
    asked = sizing(model, chips, slo, **shape)
    seeds = tuple(range(10))
    question = Question(bounds=asked.bounds, seeds=seeds)
    best = asked.apart(question, math.inf, Counter())
    assert best is not None
    for pair in further_pairs(asked.candidates, asked.trials, question, best.usd_per_hour, ()):
        copies = apart.fewest_of_both(asked.trials, pair.candidate, question, pair.least, pair.guess, best.usd_per_hour)
        assert copies is None, (pair.candidate.name, copies)


def test_the_seed_that_broke_a_bound_last_is_the_first_of_the_next_proof() -> None:
    asked = sizing("llama-3.1-8b", ("l40s",), "ttft_p90<0.3", prompt=900, answer=20, gap_s=0.05, requests=60, most=1)
    trials, part = asked.trials, ALL._replace(times=2.0)
    assert trials.hardest_first(range(4), ALL) == [0, 1, 2, 3]
    for seed in (2, 3, 2):
        trials.note_hard(seed, ALL)
    assert trials.hardest_first(range(4), ALL) == [2, 3, 0, 1]
    assert trials.hardest_first(range(3), ALL) == [2, 0, 1]  # a variant has fewer seeds
    assert trials.hardest_first(range(2), part) == [0, 1]  # of other traffic nothing is known


def test_the_order_of_seeds_changes_no_answer() -> None:
    """Every seed made the hardest in turn: the same dollars, for both kinds of fleets."""
    for find in (Sizing.co_located, Sizing.apart):
        dollars = set()
        for first in range(4):
            asked = sizing(
                "llama-3.1-8b", ("l40s", "h100-sxm"), "ttft_p90<0.3,tpot_p95<25ms", prompt=900, answer=20, gap_s=0.02,
                cv=4.0, requests=150, most=2,
            )  # fmt: skip
            asked.trials.note_hard(first, ALL)
            best = find(asked, Question(bounds=asked.bounds, seeds=tuple(range(4))), math.inf, Counter())
            assert best is not None
            assert asked.trials.keeps(best.candidate, best.copies, range(4), asked.bounds, ALL) is None
            dollars.add(round(best.usd_per_hour, 6))
        assert len(dollars) == 1, (find, dollars)


def test_prefill_layouts_that_are_late_whatever_decodes_come_last() -> None:
    pairs: list[Any] = [
        SimpleNamespace(
            candidate=SimpleNamespace(key=(0, decode, 0, prefill), prefill=SimpleNamespace(usd_per_hour=2.0)),
            guess=Copies(1, 1),
        )
        for decode in (0, 1)
        for prefill in (0, 1)
    ]  # fmt: skip
    asked: list[tuple[int, Copies]] = []

    class Fake:
        requests = 0

        def broken_alone(self, *rest: Any) -> None:
            return None

        def hardest_first(self, seeds: Any, *rest: Any) -> list[int]:
            return list(seeds)

        def quickly_broken(self, candidate: Any, copies: Copies, *rest: Any) -> tuple[Any, list[Broken]]:
            asked.append((candidate.key[3], copies))
            return SimpleNamespace(tally=None), [Broken("ttft_p90", 2.0, 2.0)] * (candidate.key[3] == 0)

    fake: Any = Fake()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apart, "blamed", lambda trial, broken: blame.PREFILL)
        found = apart.hopeful_first(fake, pairs, Question(bounds=()), 9.0, math.inf)
        assert [pair.candidate.key[1::2] for pair in found] == [(0, 1), (1, 1), (0, 0), (1, 0)]
    assert asked == [(0, Copies(4, 4)), (1, Copies(4, 4))]  # once each, with four of $2 for less than $9


def apart_pairs(asked: Sizing, question: Question) -> Any:
    from flashstill.fleets.pairs import pairs_below
    from flashstill.fleets.question import MOST_PAIRS

    most = MOST_PAIRS if len(question.seeds) >= 10 else 2
    pairs, count = pairs_below(asked.candidates, asked.trials, question, math.inf, most, Counter())
    alone = asked.trials.broken_alone
    return [pair for pair in pairs if alone(pair.candidate, pair.guess, question.bounds) is None], count


@pytest.mark.parametrize(
    ("late_s", "between_s", "is_alone"),
    [(2.4, 0.1, True), (2.05, 0.1, False), (9.0, 0.5, False)],
    ids=["late by more than what lies between", "only with what lies between", "caches wait and hold memory"],
)
def test_prefill_is_to_blame_alone_only_where_sending_caches_takes_no_time(
    monkeypatch: pytest.MonkeyPatch, late_s: float, between_s: float, is_alone: bool
) -> None:
    seconds = {TTFT: late_s, TRANSFER: between_s}
    monkeypatch.setattr(blame, "value_at", lambda tally, metric, share: seconds[metric])
    bounds = parse_slo("ttft_p95<2,tpot_p95<30ms,end_to_end_p95<9")
    trial: Any = SimpleNamespace(tally=None)
    blames = [blame.is_alone_to_blame(trial, bounds, Broken(name.name, 0.0, 2.0)) for name in bounds]
    assert blames == [is_alone, True, False]
    assert not blame.is_alone_to_blame(trial, bounds, Broken("not finished in time", 0.0, 2.0))
