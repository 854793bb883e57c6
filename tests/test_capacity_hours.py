"""Capacity plans: hours by the clock, parts of steps, students' deadlines, and mends with chips that are serviced."""

from __future__ import annotations

import copy
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flashstill as fs
from flashstill.capacity.finish import finishes
from flashstill.capacity.plan import CapacityPlan, ChipKind, Product
from flashstill.errors import BadInput
from tests.marks import slow

PRODUCT: dict[str, Any] = {
    "name": "chat", "model": "llama-3.1-70b", "input_tokens": 10, "output_tokens": 100, "peak_requests_per_s": 600.0,
    "tokens_per_s_per_chip": {"a": 1000.0},
}  # fmt: skip
KIND: dict[str, Any] = {"name": "a", "count": 80, "usd_per_hour": 2.0, "paid": "used"}
PLAN: dict[str, Any] = {"horizon_hours": 24.0, "chips": [KIND], "products": [PRODUCT]}


def run(work: float, deadline: Any, **more: Any) -> dict[str, Any]:
    return {"name": "next", "chip_hours": {"a": work}, "deadline": deadline, **more}


@pytest.mark.parametrize(
    "more", [{"start": 2.25, "deadline": 12.75}, *slow({"deadline": 10.5}, {"start": 13.5, "deadline": 24.0})]
)
def test_a_part_of_a_step_has_only_its_part_of_the_free_chips(more: dict[str, float]) -> None:
    """60 of 80 chips serve all the time, so that 10.5 hours are 210 chip-hours."""
    fits = fs.capacity({**PLAN, "runs": [run(209.0, **more)]})
    assert fits.feasible
    assert fits.finishes[0] == pytest.approx(more.get("start", 0.0) + 209.0 / 20.0)
    assert not fs.capacity({**PLAN, "runs": [run(211.0, **more)]}).feasible


@pytest.mark.slow
def test_a_gang_has_only_its_part_of_a_step_too() -> None:
    gang = {"gang": {"a": [5, 40]}, "restart_hours": 0.1}
    assert fs.capacity({**PLAN, "runs": [run(207.9, 10.5, **gang)]}).feasible
    assert not fs.capacity({**PLAN, "runs": [run(208.1, 10.5, **gang)]}).feasible


@pytest.mark.parametrize("more", [{"maintenance_share": 0.2}, {"failure_share": 0.1, "maintenance_share": 0.1}])
def test_more_chips_are_serviced_and_spared_too(more: dict[str, float]) -> None:
    tree = {"horizon_hours": 2.0, "nines": 3.0, "chips": [{**KIND, **more}],
            "products": [{**PRODUCT, "peak_requests_per_s": 1000.0}]}  # fmt: skip
    extra = fs.capacity(tree).violations[0]["mend"]["more_chips"]["a"]
    for fewer, enough in ((0, True), (1, False)):
        changed = {**tree, "chips": [{**KIND, **more, "count": 80 + extra - fewer}]}
        assert fs.capacity(changed).feasible is enough


def test_a_student_needs_hours_after_its_teacher() -> None:
    student = {"name": "flash", "teacher": "next", "chip_hours": {"a": 100.0}, "deadline": 14.0}
    tree = {**PLAN, "runs": [run(200.0, 12.0)], "distillations": [student]}
    later = fs.capacity(tree).violations[0]["mend"]["hours_later"]
    assert later == 1.0
    assert fs.capacity({**tree, "distillations": [{**student, "deadline": 15.0}]}).feasible


@pytest.mark.slow
def test_an_hour_of_a_student_is_worth_what_solving_anew_says() -> None:
    kinds = [{"name": name, "count": count, "usd_per_hour": usd, "paid": "used"}
             for name, count, usd in (("a", 40, 2.0), ("b", 100, 5.0), ("c", 10, 2.0))]  # fmt: skip
    student = {"name": "flash", "teacher": "next", "chip_hours": {"a": 220.0, "b": 220.0}, "deadline": 14.0}
    tree: dict[str, Any] = {
        "horizon_hours": 24.0, "chips": kinds, "distillations": [student],
        "runs": [{"name": "next", "chip_hours": {"c": 100.0}, "deadline": 12.0}],
    }  # fmt: skip
    base = fs.capacity(tree)
    assert base.duals is not None
    slack = base.duals["deadlines"]["flash"]
    for deadline, key in ((13.0, "one_hour_earlier"), (15.0, "one_hour_later")):
        other = copy.deepcopy(tree)
        other["distillations"][0]["deadline"] = deadline
        assert abs(fs.capacity(other).cost - base.cost) == pytest.approx(slack[key], abs=0.01)


def test_dates_are_in_the_time_zone_of_the_start_and_shapes_go_by_its_clock() -> None:
    dated = {**PLAN, "horizon_hours": 48.0, "start": "2026-03-02T06:00+02:00", "runs": [run(10.0, "2026-03-03")],
             "products": [{**PRODUCT, "shape": "day", "trough_ratio": 0.0}]}  # fmt: skip
    answer = fs.capacity(dated)
    assert answer.problem.plan.runs[0].deadline == 18.0
    assert np.argmax(answer.problem.demand[0, :24] > 59_000.0) == 8  # from 14:00 on, around 15:00
    week = [1.0 if hour == 30 else 0.5 for hour in range(168)]  # Tuesday, 6:00 to 7:00
    shaped = fs.capacity({**dated, "products": [{**PRODUCT, "shape": week}]}).problem.requests[0]
    assert (shaped[24], shaped[23], shaped[25]) == (600.0, 300.0, 300.0)
    assert fs.capacity({**dated, "start": date(2026, 3, 2)}).problem.plan.runs[0].deadline == 24.0
    with pytest.raises(BadInput, match=r"runs\[0\]\.deadline is .* with a time zone, but start has none"):
        fs.capacity({**dated, "start": "2026-03-02", "runs": [run(10.0, "2026-03-03T00:00Z")]})


def test_numbers_far_apart_keep_their_answers() -> None:
    """A bound is no looser for chips that stay idle; few chips beside many, and a run beyond any fleet, are told."""
    many = {**KIND, "count": 100_000_000}
    for requests in (0.0, 600.0):
        answer = fs.capacity({**PLAN, "chips": [many], "products": [{**PRODUCT, "peak_requests_per_s": requests}]})
        assert answer.status == "optimal"
    few = {**PRODUCT, "name": "few", "peak_requests_per_s": 10.0}
    much = {**PRODUCT, "peak_requests_per_s": 9e8, "tokens_per_s_per_chip": {"b": 1000.0}}
    beside = fs.capacity({**PLAN, "chips": [{**KIND, "count": 5}, {**many, "name": "b"}], "products": [few, much]})
    assert np.allclose(beside.relaxed.serving[0, 0], 1.0)
    assert fs.capacity({**PLAN, "runs": [run(1e15, 24.0)]}).status == "infeasible"


def test_training_counts_hours_and_no_dollars() -> None:
    answer = fs.capacity({**PLAN, "objective": "training", "runs": [run(100.0, 24.0)]})
    assert answer.status == "optimal"
    assert [answer.cost, answer.finishes[0]] == pytest.approx([5.0, 5.0])


def test_mistakes_from_python_are_told() -> None:
    product = Product(name="p", model="m", input_tokens=1, output_tokens=1, peak_requests_per_s=-5.0)
    for plan, more, said in (
        (CapacityPlan(horizon_hours=1.0, chips=(ChipKind(name="a", count=1),), products=(product,)), {}, "is -5"),
        (PLAN, {"frontier": "50%"}, "not a list"),
        (PLAN, {"rolling_hours": "a week"}, "rolling_hours is 'a week', not a number"),
        ({**PLAN, "runs": [run(1e-9, 24.0)]}, {}, r"runs\[0\] takes 1e-09 chip-hours"),
        ({**PLAN, "products": [{**PRODUCT, "growth_per_year": 1e6}], "horizon_hours": 5e5, "step_hours": 5e3}, {},
         r"products\[0\].growth_per_year is 1e\+06"),
        ({**PLAN, "horizon_hours": 5e5, "step_hours": 0.01}, {}, "take steps of about 0.025 hours"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            fs.capacity(plan, **more)  # type: ignore[arg-type]


def test_long_plans_tell_how_much_is_left() -> None:
    lines: list[str] = []
    fs.capacity(PLAN, rolling_hours=8.0, told=lines.append)
    assert [line.partition(",")[0] for line in lines] == ["window 1 of 3", "window 2 of 3", "window 3 of 3"]
    assert lines[-1].endswith("about 0 s left")


def test_one_more_chip_is_worth_it_where_a_run_takes_all_of_a_kind() -> None:
    """10 h of 2 good chips do 20 of 40 chip-hours, and dear ones the rest at $5: each more saves 10 h x $4."""
    kinds = [{"name": "good", "count": 2, "usd_per_hour": 1.0, "paid": "used"},
             {"name": "dear", "count": 50, "usd_per_hour": 5.0, "paid": "used"}]  # fmt: skip
    one = {"name": "next", "chip_hours": {"good": 40.0, "dear": 40.0}, "deadline": 10.0}
    answer = fs.capacity({"horizon_hours": 24.0, "chips": kinds, "runs": [one]})
    assert answer.duals is not None
    assert answer.duals["chips"]["good"]["one_more"] == pytest.approx(40.0, rel=1e-3)


@pytest.mark.parametrize(("work", "status"), [(475.0, "optimal"), (485.0, "infeasible")])
def test_windows_do_not_forget_what_typical_days_left_undone(work: float, status: str) -> None:
    """20 of 80 chips are free for 24 of 48 hours."""
    tree = {**PLAN, "horizon_hours": 48.0, "runs": [run(work, 24.0)]}
    assert fs.capacity(tree, rolling_hours=12.0).status == status
    assert fs.capacity(tree).status == status


def test_runs_that_end_together_share_the_chips_that_are_idle() -> None:
    """Two runs of 6 chip-hours have done 5; in the next hour each has a chip of its own, and of two idle ones one.
    A run that ends alone has all idle chips, and one of a gang none."""
    ones = np.ones((2, 2))
    problem: Any = SimpleNamespace(
        work=np.array([6.0, 6.0]), speed=np.ones((1, 2)), step_hours=1.0, starts=np.array([0.0, 1.0]), window=ones,
        open=ones, gangs=np.array([False, False]),
    )  # fmt: skip
    done, idle = np.array([[5.0, 1.0], [5.0, 1.0]]), np.array([[0.0, 2.0]])
    assert finishes(problem, done) == [2.0, 2.0]
    assert finishes(problem, done, idle) == [1.5, 1.5]
    assert finishes(problem, np.array([[5.0, 1.0], [6.0, 0.0]]), idle) == [pytest.approx(1.0 + 1 / 3), 1.0]
    problem.gangs = np.array([True, False])
    assert finishes(problem, done, idle) == [2.0, pytest.approx(1.0 + 1 / 3)]


@pytest.mark.parametrize("option", ["gang_gap", "gang_seconds"])
def test_a_setting_of_gangs_needs_a_run_with_one(option: str) -> None:
    with pytest.raises(BadInput, match=f"{option} is of gangs, and no run of the plan has one"):
        fs.capacity("docs/decide_fleet.toml", **{option: 0.5})  # type: ignore[arg-type]
