"""Numbers of a capacity plan by hand: spares beside maintenance, a nine's chips, prices of tokens, lengths, hours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.arch import load_architecture
from flashstill.capacity.plan import Product
from flashstill.capacity.problem import Problem, problem_of
from flashstill.capacity.rates import lengths_of, run_chip_hours
from flashstill.capacity.reader import plan_of
from flashstill.capacity.supply import _quantile
from flashstill.facts import load
from flashstill.hardware import chip_from_facts
from flashstill.workload.training import model_flops

PRODUCT: dict[str, Any] = {
    "name": "chat", "model": "llama-3.1-70b", "input_tokens": 1000, "output_tokens": 500, "shape": "flat",
    "peak_requests_per_s": 10.0, "tokens_per_s_per_chip": {"a": 1000.0},
}  # fmt: skip


def tree(**chips: Any) -> dict[str, Any]:
    return {
        "horizon_hours": 4.0,
        "chips": [{"name": "a", "count": 800, "usd_per_hour": 2.0, **chips}],
        "products": [PRODUCT],
    }


def spared(nines: float) -> Problem:
    """A tenth is serviced, and hosts of eight chips fail."""
    given = tree(maintenance_share=0.1, failure_share=0.02, fails_together=8)
    return problem_of(load(), plan_of({**given, "nines": nines}))


def test_spares_come_on_top_of_what_is_serviced() -> None:
    working = 8.0 * _quantile(np.array([100.0]), 0.02, 3.0)[0]
    assert working < 800.0
    assert spared(3.0).available == pytest.approx(np.full((1, 4), 0.9 * 800.0 - (800.0 - working)))


def test_windows_that_overlap_take_the_sum_and_leave_nothing_behind() -> None:
    """Shares are added exactly: 0.1 + 0.9 of 13 chips are all of them, and afterwards all are back."""
    windows = [
        {"start": 0.0, "end": 2.0, "share": 0.7}, {"start": 1.0, "end": 3.0, "share": 0.2},
        {"start": 1.0, "end": 2.0, "chips": 5}, {"start": 2.0, "end": 3.0, "share": 0.1},
    ]  # fmt: skip
    arrive = [{"at": 2.0, "count": 100}, {"at": 3.0, "count": 1}]
    found = problem_of(load(), plan_of(tree(count=50, maintenance=windows, purchases=arrive))).available[0]
    assert found == pytest.approx([0.3 * 50, 0.1 * 50 - 5, 0.7 * 150, 151.0], abs=1e-12)
    assert found[3] == 151.0
    whole = tree(count=13, maintenance_share=0.1, maintenance=[{"start": 1.0, "end": 2.0, "share": 0.9}])
    assert problem_of(load(), plan_of(whole)).available[0, 1] == 0.0


def test_one_more_nine_takes_what_a_plan_of_one_more_has_less() -> None:
    takes = spared(3.0).supply.nine_takes
    assert takes.min() > 0.0
    assert takes == pytest.approx(spared(3.0).available - spared(4.0).available)


def test_a_million_tokens_cost_the_chips_that_make_them() -> None:
    duals = fs.capacity(tree(paid="used")).duals
    assert duals is not None
    price = 2.0 / (1000.0 * 3600.0) * 1e6
    assert duals["demand_per_million_tokens"]["chat"] == pytest.approx([price] * 4, rel=1e-4)


def test_factors_of_a_generation_are_of_their_own_lengths() -> None:
    later = {"at": 1.0, "input_tokens_factor": 2.0, "output_tokens_factor": 3.0}
    product: Product = plan_of({**tree(), "products": [{**PRODUCT, "generations": [later]}]}).products[0]
    assert [(each.input_tokens, each.output_tokens) for each in lengths_of(product)] == [(1000, 500), (2000, 1500)]


def test_chip_hours_at_an_mfu() -> None:
    run = {"name": "next", "model": "llama-3.1-8b", "tokens": 10**12, "mfu": 0.4, "length": 4096, "deadline": 4.0}
    plan = plan_of({"horizon_hours": 4.0, "chips": [{"name": "h100-sxm", "count": 8}], "runs": [run]})
    chip = chip_from_facts(load(), "h100-sxm")
    flops = float(model_flops(load_architecture("llama-3.1-8b"), 1, 4096)) * 1e12 / 4096
    assert flops == pytest.approx(6.0 * 8.0e9 * 1e12, rel=0.1)
    hours = flops / (0.4 * chip.flops_per_s[chip.precision("bf16")]) / 3600.0
    assert run_chip_hours(load(), plan, plan.runs[0], "runs[0]", []) == pytest.approx({"h100-sxm": hours})
