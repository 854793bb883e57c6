"""Many decode steps priced in one call: the same figures as one at a time, to the last digit."""

from __future__ import annotations

import pytest

from flashstill.errors import BadInput, FlashstillError
from flashstill.facts import load
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
        assert said(together) == said(alone)


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
