"""The search, which shares and leaves out work, against plain loops that price one configuration at a time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashstill import frontier
from flashstill.arch import load_architecture
from flashstill.cost import Load, serve
from flashstill.cost.admission import capacity
from flashstill.cost.closed_form import Pace
from flashstill.distinct import distinct_integers
from flashstill.economics import hourly_price, usd_per_million_tokens
from flashstill.errors import InfeasiblePlan
from flashstill.facts import load
from flashstill.frontier import non_dominated, thinned
from flashstill.hardware import chip_from_facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.drafts import speculation
from flashstill.plan.feasible import NO_LINKS, UNFILLED
from flashstill.plan.layouts import Degrees
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.scenario import Scenario, broken_bounds
from flashstill.plan.search import search
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.setup import conditions_of
from flashstill.plan.space import OBJECTIVES, Configuration, SearchSpace
from flashstill.plan.tables import Candidates, candidates, priced
from tests.marks import examples

FACTS = load()


@dataclass(frozen=True, kw_only=True, slots=True)
class Plain:
    """A configuration and its figures, priced by itself."""

    choice: tuple[Any, ...]
    figures: dict[str, float]

    @property
    def costs(self) -> list[float]:
        return [-self.figures[name] if name == "tokens_per_s_per_chip" else self.figures[name] for name in OBJECTIVES]


def plainly(scenario: Scenario, space: SearchSpace) -> tuple[list[Plain], Counter[str], int]:
    """Feasible configurations, the reasons of the others, and how many got figures."""
    model = load_architecture(scenario.model_name)
    layouts, refused = layouts_of(model, space.max_chips)
    drafts = [None] if scenario.draft is None else [None, *(spoken(scenario, model, many) for many in (1, 3, 5))]
    found: list[Plain] = []
    reasons: Counter[str] = Counter()
    figured = 0
    for name in space.chips:
        chip = chip_from_facts(FACTS, name)
        tiers = [tier.name for tier in chip.tiers if tier.name in space.tiers]
        for precision, kv, weights, cache, draft in itertools.product(
            space.precisions, space.kv_precisions, tiers, tiers, drafts
        ):
            reasons.update({reason: times * len(space.batches) for reason, times in refused.items()})
            deployment = Deployment(chip=name, precision=precision, kv_precision=kv, weights_in=weights, kv_in=cache)
            conditions = conditions_of(FACTS, model, chip, deployment)
            for degrees, batch in itertools.product(layouts, space.batches):
                asked = Load(
                    isl=float(scenario.isl), osl=float(scenario.osl), concurrency=float(batch),
                    burst_share=scenario.burst_share, cohort=scenario.cohort, cached=float(scenario.cached_tokens),
                    batching_steps=scenario.batching_steps,
                )  # fmt: skip
                alone, fitting = capacity(model, conditions, degrees.layout, asked, draft)
                reason = None
                if degrees.chips > 1 and not chip.topology.link_bytes_per_s:
                    reason = NO_LINKS
                elif alone < 1.0 or fitting < batch:
                    reason = NOT_FITTING
                elif batch < degrees.dp:
                    reason = UNFILLED
                if reason is None:
                    figured += 1
                    pace = serve(model, conditions, degrees.layout, asked, draft)
                    figures = figures_of(name, degrees, pace)
                    bounds = (figures["ttft_s"], figures["tpot_s"], figures["output_tokens_per_s"])
                    reason = next((why for why, broken in broken_bounds(scenario, *bounds).items() if broken), None)
                if reason is None:
                    drafted = draft.tokens if draft else 0
                    choice = (chip.name, precision, conditions.precisions.kv, weights, cache, drafted, *degrees, batch)
                    found.append(Plain(choice=choice, figures=figures))
                else:
                    reasons[reason] += 1
    return found, reasons, figured


def spoken(scenario: Scenario, model: Any, tokens: int) -> Any:
    return speculation(model, scenario.draft or "", tokens, scenario.acceptance, scenario.acceptance_decay)


def figures_of(name: str, degrees: Degrees, pace: Any) -> dict[str, float]:
    rate, watts = float(pace.output_tokens_per_s), float(pace.watts_per_chip)
    dollars = usd_per_million_tokens(hourly_price(FACTS, name), 1.0, float(degrees.chips), rate, watts)
    return {
        "tpot_s": float(pace.tpot_s), "ttft_s": float(pace.ttft_s), "output_tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / degrees.chips, "watts_per_chip": watts,
        "joules_per_output_token": float(pace.joules_per_output_token),
        "usd_per_million_output_tokens": np.inf if dollars is None else float(dollars),
    }  # fmt: skip


def chosen_by(point: Configuration) -> tuple[Any, ...]:
    degrees = (point.tp, point.pp, point.ep, point.dp, point.redundant_experts)
    formats = (point.precision, point.kv_precision, point.weights_in, point.kv_in)
    return (point.chip, *formats, point.speculated_tokens, *degrees, point.batch)


def check_same(scenario: Scenario, space: SearchSpace) -> None:
    plain, reasons, figured = plainly(scenario, space)
    if not plain:
        with pytest.raises(InfeasiblePlan) as refused:
            search(FACTS, scenario, space)
        assert refused.value.reasons == reasons
        return
    found = search(FACTS, scenario, space)
    assert (found.infeasible, found.feasible, found.priced) == (reasons, len(plain), figured)
    assert found.evaluated == found.feasible + sum(found.infeasible.values())
    by_choice = {each.choice: each for each in plain}
    shown = [by_choice[chosen_by(point)] for point in found.front]
    for point, each in zip(found.front, shown, strict=True):
        for name, figure in each.figures.items():
            said = getattr(point, name)
            assert (said if said is not None else 0.0 if name == "tpot_s" else np.inf) == pytest.approx(
                figure, rel=1e-9
            )
    costs, front = np.array([each.costs for each in plain]), np.array([each.costs for each in shown])
    slack = 1e-9 * np.abs(front)
    # Nothing beats a point of the front in every figure, and the front matches or beats all that is left out.
    better = np.all(costs[:, None] <= front + slack, axis=2) & np.any(costs[:, None] < front - slack, axis=2)
    assert not better.any()
    assert np.all(front <= costs[:, None] + 1e-9 * np.abs(costs[:, None]), axis=2).any(axis=1).all()


def test_a_small_search_is_as_priced_one_by_one() -> None:
    scenario = Scenario(model="qwen3-30b-a3b", isl=512, osl=64, max_tpot_s=0.02)
    check_same(scenario, SearchSpace(chips=("h100-sxm",), max_chips=2, batches=(1, 300), tiers=("memory",)))


@pytest.mark.slow
@examples(20)
@given(data=st.data())
def test_any_search_is_as_priced_one_by_one(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(["llama-3.2-1b", "qwen3-30b-a3b", "gpt-oss-20b", "deepseek-v2-lite"]))
    chips = st.sampled_from(["h100-sxm", "tpu-v5e", "tpu-v6e", "groq-lpu", "l40s"])
    scenario = Scenario(
        model=model,
        isl=data.draw(st.sampled_from([1, 300, 2000])),
        osl=data.draw(st.sampled_from([1, 2, 100, 600])),
        max_ttft_s=data.draw(st.sampled_from([None, None, 0.05, 1.0])),
        min_tokens_per_s=data.draw(st.sampled_from([None, None, 500.0])),
        cached_ratio=data.draw(st.sampled_from([0.0, 0.5])),
        burst_share=data.draw(st.sampled_from([0.0, 1.0])),
        cohort=data.draw(st.sampled_from([1.0, 8.0])),
        draft=data.draw(st.sampled_from([None, None, "new-heads"])),
    )
    space = SearchSpace(
        chips=tuple(data.draw(st.lists(chips, min_size=1, max_size=2, unique=True))),
        max_chips=data.draw(st.sampled_from([1, 2, 4])),
        batches=tuple(sorted(data.draw(st.sets(st.sampled_from([1, 2, 7, 64, 500, 4000]), min_size=1, max_size=2)))),
        precisions=data.draw(st.sampled_from([("published",), ("published", "fp8"), ("bf16",)])),
        kv_precisions=data.draw(st.sampled_from([(None,), (None, "fp8")])),
    )
    check_same(scenario, space)


def asked(most: int = 16) -> tuple[Any, Any, Candidates]:
    model = load_architecture("qwen3-30b-a3b")
    chip = chip_from_facts(FACTS, "h100-sxm")
    conditions = conditions_of(FACTS, model, chip, Deployment(chip="h100-sxm", precision="fp8"))
    return model, conditions, candidates(*layouts_of(model, most, (None, 16)), (1, 5, 64, 1000))


def test_some_configurations_are_priced_as_in_the_whole_table() -> None:
    model, conditions, whole = asked()
    places = np.flatnonzero(np.random.default_rng(3).random(whole.shape).reshape(-1) < 0.3)
    load = Load(isl=512.0, osl=128.0, concurrency=1.0, cached=100.0)
    everything = priced(model, conditions, whole, load)
    some = priced(model, conditions, whole.taken(places), load)
    for name in (field.name for field in fields(Pace)):
        figures = np.broadcast_to(getattr(everything.pace, name), whole.shape).reshape(-1)[places]
        assert np.array_equal(np.broadcast_to(getattr(some.pace, name), places.shape), figures), name


def test_groups_hold_every_configuration() -> None:
    _, _, chosen = asked(8)
    layout, groups = chosen.layout, chosen.groups
    local = np.broadcast_to(layout.local_batch(chosen.batches), chosen.shape)
    for name in ("tp", "ep", "dp", "redundant"):
        mine = np.broadcast_to(getattr(layout, name), chosen.shape)
        assert np.array_equal(np.asarray(getattr(groups.layout, name))[chosen.at], mine)
    assert np.array_equal(np.asarray(groups.layout.each(groups.sequences))[chosen.at], local)
    dense, at = groups.layout.dense, groups.layout.at
    assert dense is not None
    assert at is not None
    assert np.array_equal(np.asarray(dense.tp)[at], groups.layout.tp)
    assert len(set(zip(np.asarray(dense.tp).tolist(), groups.sequences.tolist(), strict=True))) == len(groups.sequences)


@given(
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=60),
    st.integers(1, 8),
    st.integers(0, 30),
)
def test_thinning_keeps_the_front(rows: list[tuple[int, ...]], sample: int, rounds: int) -> None:
    costs = np.array(rows, dtype=np.float64).reshape(-1, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "SAMPLE", sample)
        patch.setattr(frontier, "ROUNDS", rounds)
        few = thinned(costs)
    assert np.array_equal(np.unique(few), few)
    assert {int(few[place]) for place in non_dominated(costs[few])} == set(non_dominated(costs))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**7), st.integers(0, 3)), max_size=40))
def test_distinct_rows_are_those_of_a_sorted_list(rows: list[tuple[int, int, int]]) -> None:
    keys: npt.NDArray[np.int64] = np.array(rows, dtype=np.int64).reshape(-1, 3)
    columns, place = distinct_integers(*keys.T)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == sorted(set(rows))
    assert [tuple(int(column[at]) for column in columns) for at in place] == rows
    (first, constant, last), place = distinct_integers(keys[:, 0], np.array(7), keys[:, 2])
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == sorted({(row[0], row[2]) for row in rows})
    assert set(constant.tolist()) <= {7}
