"""Many decode steps priced in one call: the same figures as one at a time, to the last digit."""

from __future__ import annotations

from typing import Any

import pytest

from flashstill.arch import load_architecture
from flashstill.cost.phases import batch_step
from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan
from flashstill.facts import load
from flashstill.plan import explained
from flashstill.plan.case import Case
from flashstill.plan.deployment import Deployment
from flashstill.plan.explain import Explanation, explain
from flashstill.plan.explained import explanations
from flashstill.plan.scenario import Scenario
from tests.marks import slow

PLACES = (("qwen3-8b", "h100-sxm"), ("deepseek-v3", "h200-sxm"), ("qwen3-next-80b-a3b", "tpu-v6e"))


@pytest.mark.parametrize(("model", "chip"), [PLACES[1], *slow(PLACES[0], PLACES[2])])
def test_together_as_one_at_a_time(model: str, chip: str) -> None:
    facts = load()
    cases = [
        Case(Scenario(model=model, batch=batch, context=context), Deployment(chip=chip, chips=chips))
        for batch, context, chips in ((1, 1, None), (3, 100, 16), (64, 4097, None), (5000, 32_000, 16))
    ]
    for case, together in zip(cases, explanations(facts, cases), strict=True):
        alone: Explanation | FlashstillError
        try:
            alone = explain(facts, case.scenario, case.deployment)
        except FlashstillError as error:
            alone = error
        assert told_alike(said(together), said(alone))


def told_alike(one: object, other: object) -> bool:
    """Equal but for the last digits of numbers, as powers of arrays are those of vector units."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(told_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(told_alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-12, abs=0.0, nan_ok=True)
    return one == other


def said(answer: Explanation | FlashstillError) -> object:
    return answer.as_dict() if isinstance(answer, Explanation) else (type(answer), str(answer))


def test_an_error_stands_in_its_place() -> None:
    good = Case(Scenario(model="qwen3-8b", context=10), Deployment(chip="h100-sxm"))
    bad = Case(Scenario(model="qwen3-8b", context=10), Deployment(chip="h100-sxm", precision="fp9"))
    drafted = Case(Scenario(model="qwen3-8b", draft="heads"), Deployment(chip="h100-sxm"))
    first, second, third = explanations(load(), [bad, good, drafted])
    assert isinstance(first, BadInput)
    assert "fp9" in str(first)
    assert isinstance(second, Explanation)
    assert isinstance(third, BadInput)


def test_steps_on_several_machines_and_tiers_are_stacks_and_equal_explain_on_each(monkeypatch: Any) -> None:
    """GPU, TPU and wafer, in memory and SRAM: one call for a model, whose digits are those of one at a time."""
    calls = []

    def counted(*asked: Any, **other: Any) -> Any:
        calls.append(asked[1].chip.stacked)
        return batch_step(*asked, **other)

    monkeypatch.setattr(explained, "batch_step", counted)
    facts, model = load(), load_architecture("qwen3-0.6b")
    places = [
        ("h100-sxm", "memory"),
        ("gaudi2", "memory"),
        ("tpu-v5e", "memory"),
        ("tpu-v5e", "sram"),
        ("wse-2", "sram"),
    ]
    cases = [
        Case(Scenario(model=model, batch=4, context=2000),
             Deployment(chip=chip, chips=chips, weights_in=memory, kv_in=memory))
        for chip, memory in places for chips in (1, 2, 8)
    ]  # fmt: skip
    answers = explanations(facts, cases, bounded=False)
    assert calls == [5]
    assert {type(answer) for answer in answers} == {Explanation, InfeasiblePlan}
    for case, together in zip(cases, answers, strict=True):
        (alone,) = explanations(facts, [case], bounded=False)
        assert said(together) == said(alone)
