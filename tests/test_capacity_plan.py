"""Capacity plans: who gets which chips when, what binds, what cannot be kept, and mistakes."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flashstill as fs
from flashstill.capacity.curves import step_means
from flashstill.capacity.supply import _quantile
from flashstill.cli import main
from flashstill.cli.capacity import sentence
from flashstill.errors import BadInput
from tests.commands import refuse
from tests.marks import examples

PRODUCT: dict[str, Any] = {
    "name": "chat", "model": "llama-3.1-70b", "input_tokens": 1000, "output_tokens": 500, "shape": "day",
    "peak_requests_per_s": 160.0, "tokens_per_s_per_chip": {"a": 1000.0, "b": 400.0},
}  # fmt: skip
RUN: dict[str, Any] = {"name": "frontier", "chip_hours": {"a": 600.0}, "deadline": 24.0}
PLAN: dict[str, Any] = {
    "horizon_hours": 24.0,
    "chips": [
        {"name": "a", "count": 80, "usd_per_hour": 2.0},
        {"name": "b", "count": 50, "usd_per_hour": 1.0, "paid": "used"},
    ],
    "products": [PRODUCT],
    "runs": [RUN],
}


def plan(**changes: Any) -> dict[str, Any]:
    """The plan with changes, each a path with "__" between its keys and places, as chips__0__count."""
    tree = copy.deepcopy(PLAN)
    for path, value in changes.items():
        *places, last = [int(key) if key.isdigit() else key for key in path.split("__")]
        at: Any = tree
        for place in places:
            at = at[place]
        at[last] = value
    return tree


def kinds_of(answer: Any) -> dict[str, Any]:
    return dict(answer.allocation()["kinds"])


def check_conservation(answer: Any) -> None:
    """Chips in use are those that are there; what is served and left over is what is owed."""
    problem, found = answer.problem, answer.relaxed
    used = found.serving.sum(axis=1) + found.trained.sum(axis=1)
    assert (used <= problem.available * (1.0 + 1e-6) + 1e-6).all()
    served = np.einsum("kpt,kpt->pt", problem.rate, found.serving)
    assert np.allclose(served + found.unserved, problem.demand, rtol=1e-6, atol=1e-6 * problem.demand.max(initial=1.0))
    work = np.einsum("kr,krt->r", problem.speed, found.trained) * problem.step_hours
    lost = 0.0 if answer.gangs is None else np.einsum("kr,krt->r", problem.speed, answer.gangs.lost)
    assert (work - lost + answer.missing >= problem.work * (1.0 - 1e-5)).all()


def test_chips_that_serve_by_day_train_at_night() -> None:
    answer = fs.capacity(plan(runs__0__chip_hours={"a": 500.0}))
    chips = np.array(kinds_of(answer)["a"]["runs"]["frontier"])
    hours = np.arange(24)
    night, day = chips[(hours < 7)], chips[(hours >= 12) & (hours < 18)]
    assert answer.status == "optimal"
    assert night.mean() > 3.0 * day.mean()
    check_conservation(answer)


def test_deepseeks_day_is_served_and_its_nights_train() -> None:
    """DeepSeek, open-infra-index, day 6: 226.75 nodes of 8 H800 on average, 278 at the peak, $87,072 a day at $2."""
    nodes, peak = 226.75, 278
    rate = 1.68e11 / (nodes * 8 * 86400)  # output tokens of the day
    product = {
        **PRODUCT, "model": "deepseek-v3", "trough_ratio": 2.0 * nodes / peak - 1.0, "output_tokens": 600,
        "peak_requests_per_s": peak * 8 * rate / 600, "tokens_per_s_per_chip": {"h800": rate},
    }  # fmt: skip
    released = (peak - nodes) * 8 * 24
    day = {
        "horizon_hours": 24.0,
        "chips": [{"name": "h800", "count": peak * 8, "usd_per_hour": 2.0, "paid": "used"}],
        "products": [product],
    }
    assert fs.capacity(day).cost == pytest.approx(87072.0, rel=1e-6)
    run = {"name": "next", "chip_hours": {"h800": released * 0.9999}, "deadline": 24.0}
    answer = fs.capacity({**day, "runs": [run]})
    assert answer.feasible
    chips = np.array(kinds_of(answer)["h800"]["runs"]["next"])
    served = np.array(kinds_of(answer)["h800"]["products"]["chat"])
    assert np.allclose(chips + served, peak * 8, rtol=2e-3)
    assert chips[2] > 600 > 20 > chips[14]
    late = fs.capacity({**day, "runs": [{**run, "chip_hours": {"h800": released * 1.01}}]})
    assert late.violations[0]["run"] == "next"
    assert late.violations[0]["missing_ratio"] == pytest.approx(1.0 - 1.0 / 1.01, rel=1e-3)


@pytest.mark.parametrize(("path", "unit"), [("chips__0__count", 1), ("chips__1__count", 1)])
def test_a_dual_lies_between_one_less_and_one_more(path: str, unit: int) -> None:
    tree = plan(products__0__peak_requests_per_s=190.0, runs__0__chip_hours={"a": 500.0}, chips__1__count=70)
    place = int(path.split("__")[1])
    base = fs.capacity(tree)

    def cost(more: int) -> float:
        changed = copy.deepcopy(tree)
        changed["chips"][place]["count"] += more
        found = fs.capacity(changed)
        paid_always = changed["chips"][place].get("paid", "always") == "always"
        return found.cost - (more * found.problem.supply.price_usd[place] * 24.0 if paid_always else 0.0)

    assert base.duals is not None
    dual = base.duals["chips"]["ab"[place]]["one_more"]
    saves, loses = cost(0) - cost(unit), cost(-unit) - cost(0)
    assert saves - 1e-3 <= dual <= loses + 1e-3
    assert saves > 0.0 or place


def test_deadlines_are_worth_what_solving_anew_says() -> None:
    tree = plan(runs__0__deadline=14.0, products__0__peak_requests_per_s=150.0, runs__0__chip_hours={"a": 500.0})
    base = fs.capacity(tree)
    assert base.duals is not None
    found = base.duals["deadlines"]["frontier"]
    for hours, key, sign in ((13.0, "one_hour_earlier", 1.0), (15.0, "one_hour_later", -1.0)):
        other = fs.capacity({**tree, "runs": [{**tree["runs"][0], "deadline": hours}]})
        assert sign * (other.cost - base.cost) == pytest.approx(found[key], abs=0.05)


def test_demand_that_cannot_be_served_says_what_would_mend_it() -> None:
    tree = plan(products__0__peak_requests_per_s=300.0)
    answer = fs.capacity(tree)
    worst = answer.violations[0]
    assert answer.status == "infeasible"
    assert answer.duals is None
    assert (worst["product"], worst["hour"]) == ("chat", 14.0)
    assert worst["from_hour"] < 14.0 < worst["until_hour"]
    # 300 requests/s of 500 tokens less 80 x 1000 + 50 x 400, at the hour around 15:00
    demand = answer.problem.demand[0, 14]
    assert worst["unserved_tokens_per_s"] == pytest.approx(demand - 100_000.0, rel=1e-6)
    more = worst["mend"]["more_chips"]
    assert more == {"a": math.ceil((demand - 100_000.0) / 1000.0), "b": math.ceil((demand - 100_000.0) / 400.0)}
    for place, name in enumerate("ab"):
        tree["runs"] = []
        enough, fewer = copy.deepcopy(tree), copy.deepcopy(tree)
        enough["chips"][place]["count"] += more[name]
        fewer["chips"][place]["count"] += more[name] - 1
        assert fs.capacity(enough).feasible
        assert not fs.capacity(fewer).feasible


@pytest.mark.slow
def test_a_late_run_says_what_would_mend_it() -> None:
    tree = plan(runs__0__deadline=10.0, runs__0__chip_hours={"a": 700.0})
    answer = fs.capacity(tree)
    (late,) = answer.violations
    assert (late["kind"], late["run"]) == ("deadline", "frontier")
    mend = late["mend"]
    assert mend["hours_later"] >= 1.0
    later = fs.capacity({**tree, "runs": [{**tree["runs"][0], "deadline": 10.0 + mend["hours_later"]}]})
    sooner = fs.capacity({**tree, "runs": [{**tree["runs"][0], "deadline": 9.0 + mend["hours_later"]}]})
    assert later.feasible
    assert not sooner.feasible
    tree["chips"][0]["count"] += mend["more_chips"]["a"]
    assert fs.capacity(tree).feasible
    tree["chips"][0]["count"] -= 1
    assert not fs.capacity(tree).feasible


@pytest.mark.slow
def test_a_gang_that_is_never_free_is_told_apart() -> None:
    answer = fs.capacity(plan(runs__0={**RUN, "gang": {"a": [90, 100]}}))
    assert answer.violations[0]["mend"]["more_chips"]["a"] == 10
    slow = {**RUN, "chip_hours": {"a": 500.0}, "gang": {"a": [30, 60]}, "restart_hours": 10.0}
    assert "not together" in sentence(fs.capacity(plan(runs__0=slow)).violations[0])


def test_as_early_as_possible_takes_all_that_users_leave() -> None:
    answer = fs.capacity(plan(objective="training", chips__1__count=0))
    load = answer.problem.demand[0] / 1000.0
    done = np.cumsum(80.0 - load)
    at = int(np.argmax(done >= 600.0))
    hour = at + (600.0 - (done[at - 1] if at else 0.0)) / (done[at] - (done[at - 1] if at else 0.0))
    assert answer.finishes[0] == pytest.approx(hour, rel=1e-5)
    assert answer.duals is not None
    assert answer.duals["unit"] == "hours"
    assert answer.status == "optimal"


@pytest.mark.slow
def test_an_early_end_that_pays_is_found() -> None:
    """The best of all deadlines, each tried as a plan of its own."""
    tree = plan(chips__0__paid="used")
    for value in (20.0, 100.0):
        best = math.inf
        for deadline in range(9, 25):
            other = fs.capacity({**tree, "runs": [{**RUN, "deadline": float(deadline)}]})
            if other.feasible:
                best = min(best, other.cost + value * float(other.finishes[0] or 0.0))
        answer = fs.capacity({**tree, "runs": [{**RUN, "value_usd_per_hour": value}]})
        assert answer.bound is not None
        assert answer.bound - 1e-2 <= answer.cost <= best + 1e-2
        assert answer.cost - answer.bound <= value + 1e-2


GANG = {"gang": {"a": [30, 60]}, "restart_hours": 0.5}


def test_gangs_keep_their_sizes_and_pay_for_restarts() -> None:
    answer = fs.capacity(plan(runs__0={**RUN, **GANG}))
    sizes = np.array(kinds_of(answer)["a"]["runs"]["frontier"])
    used = sizes[sizes > 0.0]
    assert answer.feasible
    assert ((used >= 30.0 - 1e-6) & (used <= 60.0 + 1e-6)).all()
    before = np.concatenate([[0.0], sizes[:-1]])
    changed = (sizes > 0.0) & (np.abs(sizes - before) > 1e-4)
    assert sizes.sum() - 0.5 * sizes[changed].sum() >= 600.0 - 1e-3
    assert answer.training_finishes()[0]["restarts"] == changed.sum()
    assert answer.bound is not None
    assert answer.bound <= answer.cost
    check_conservation(answer)


@pytest.mark.slow
def test_students_begin_after_their_teacher() -> None:
    flash = {"name": "flash", "teacher": "frontier", "chip_hours": {"a": 100.0, "b": 200.0}, "deadline": 24.0}
    for more in ({}, {"gang": {"a": [10, 40], "b": [10, 40]}}):
        answer = fs.capacity({**plan(), "distillations": [{**flash, **more}]})
        finish = answer.finishes[0]
        started = np.flatnonzero(answer.relaxed.trained[:, 1].sum(axis=0) > 1e-6)[0]
        assert answer.feasible
        assert finish is not None
        assert started >= finish - 1e-6


def test_appetite_delays_training() -> None:
    """Claim appetite: tokens per request that grow with a generation take chips from the next model."""
    hours: list[float] = []
    for factor in (1.0, 1.2, 1.4):
        grown = {**PRODUCT, "generations": [{"at": 4.0, "output_tokens_factor": factor}]}
        finish = fs.capacity(plan(objective="training", products__0=grown)).finishes[0]
        assert finish is not None
        hours.append(finish)
    assert hours == sorted(hours)
    assert hours[0] < hours[-1]


def test_more_users_later_training() -> None:
    """Claim users: the frontier of "training finishes by" against "users served"."""
    answer = fs.capacity(plan(), frontier=[1.0, 0.5, 0.75, 0.0])
    assert answer.frontier is not None
    shares = [point["served_ratio"] for point in answer.frontier]
    hours = [point["all_finish"] for point in answer.frontier]
    assert shares == pytest.approx([0.0, 0.5, 0.75, 1.0])
    assert hours == sorted(hours)
    assert hours[0] == pytest.approx(600.0 / 80.0, rel=1e-5)


def test_a_rolling_horizon_proves_its_gap() -> None:
    tree = plan(horizon_hours=96.0, runs__0={**RUN, "chip_hours": {"a": 2400.0}, "deadline": 90.0})
    whole, rolled = fs.capacity(tree), fs.capacity(tree, rolling_hours=24.0)
    assert whole.cost - 1e-3 <= rolled.cost <= whole.cost * 1.02
    assert rolled.gap is not None
    assert rolled.bound is not None
    assert rolled.bound <= whole.cost
    assert rolled.cost - whole.cost <= rolled.gap * rolled.cost + 1e-3
    check_conservation(rolled)


def test_spares_follow_the_binomial_law() -> None:
    for groups, share, nines in ((12, 0.05, 2.0), (40, 0.02, 3.0), (7, 0.3, 1.0), (3, 0.5, 6.0)):
        surely = 0
        for fewest in range(groups + 1):
            working = sum(
                math.comb(groups, n) * (1.0 - share) ** n * share ** (groups - n) for n in range(fewest, groups + 1)
            )
            surely = fewest if working >= 1.0 - 10.0**-nines else surely
        assert _quantile(np.array([float(groups)]), share, nines)[0] == surely


def test_means_over_steps_are_exact() -> None:
    means = step_means(np.array([0.0, 1.5, 4.0]), np.array([2.0, 6.0, 1.0]), np.array([0.0, 2.0, 4.0, 6.0]))
    assert means == pytest.approx([(1.5 * 2 + 0.5 * 6) / 2, 6.0, 1.0])


NO_MODEL = {key: value for key, value in PRODUCT.items() if key != "model"}
MISTAKES = [
    ({"products__0__peak_requests_per_s": -5.0}, r"products\[0\].peak_requests_per_s is -5; it must be at least 0"),
    ({"runs__0__deadline": 1e-300}, r"runs\[0\].deadline is less than a second after its start at hour 0"),
    ({"runs__0__deadline": 3.0, "runs__0__start": 4.0}, r"runs\[0\].deadline is hour 3, not after its start at hour 4"),
    ({"runs__0__deadline": 25.0}, r"runs\[0\].deadline is hour 25, after the horizon's end at hour 24"),
    ({"chips__1": {"name": "mine", "count": 3}, "products": []}, r"chips\[1\].usd_per_hour is missing"),
    ({"products__0": {**NO_MODEL, "tokens_per_s_per_chip": None}}, r"products\[0\].model is missing; or give tok"),
    ({"products__0__model": "llama-9"}, r"products\[0\]\.model: unknown model 'llama-9'.*or leave it out"),
    ({"products__0__generations": [{"at": 2.0, "model": "llama-9"}]}, r"generations\[0\]\.model: unknown model"),
    ({"chips__0__chip": "h100-smx"}, r"chips\[0\]\.chip: unknown chip 'h100-smx'"),
    ({"products__0__max_tpot_s": 0.1}, r"products\[0\].max_tpot_s has no effect beside tokens_per_s_per_chip"),
    ({"products__0__shape": "flat", "products__0__trough_ratio": 0.5}, 'trough_ratio has no effect without shape = "d'),
    ({"runs__0__mfu": 0.4}, r"runs\[0\].mfu has no effect beside chip_hours; leave it out"),
    ({"chips__0__cuont": 4}, r"unknown key 'chips\[0\].cuont'; the nearest known: count"),
    ({"chips__0__count": 2.5}, r"'chips\[0\].count' is 2.5, not a whole number"),
    ({"objective": "profit"}, "unknown objective 'profit'"),
    ({"runs__0__chip_hours": {"c": 5.0}}, r"runs\[0\].chip_hours names an unknown chip kind 'c'"),
    ({"runs__0__gang": {"a": [60, 30]}}, r"runs\[0\].gang.a is \[60, 30\], not the fewest and the most chips"),
    ({"runs__0__restart_hours": 0.5}, r"runs\[0\].restart_hours needs the gang"),
    ({"runs__0__teacher": "x"}, "teacher of 'frontier' is an unknown run 'x'"),
    ({"runs__0__teacher": "frontier"}, "learns from it in turn"),
    ({"runs__0__deadline": "2026-03-01"}, "give the plan's start as a date too"),
    ({"chips__0__failure_share": 0.01}, r"chips\[0\].failure_share needs the plan's nines"),
    ({"products__0__shape": [0.5] * 23}, "has 23 numbers, not 24"),
    ({"products__0__shape": [1.5] * 24}, "each number is a share of the peak"),
    ({"products__0__generations": [{"at": 1.5}]}, "not a whole number of steps"),
    ({"chips__0__maintenance": [{"start": 5.0, "end": 3.0, "chips": 1}]}, "not after its start"),
    ({"chips__0__maintenance": [{"start": 1.0, "end": 3.0, "chips": 100}]}, "takes more than all of its chips"),
    ({"horizon_hours": 24.5}, "not a whole number of steps"),
    ({"chips__1__name": "a"}, "has the name 'a' twice"),
    ({"products__0__name": "frontier"}, r"products\[0\].name is 'frontier', as a run's"),
    ({"products__0__name": "idle"}, "have the name 'idle', which is that of chips that do nothing"),
    ({"runs__0__name": "idle"}, "have the name 'idle', which is that of chips that do nothing"),
    ({"products__0__demand_csv": "x.csv"}, "demand_csv must be given, and not both"),
    ({"step_hours": 0.0}, "step_hours is 0; it must be positive"),
    ({"products__0__tokens_per_s_per_chip": None, "products__0__model": "llama-9"},
     r"products\[0\]\.model: unknown model 'llama-9'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES)
def test_mistakes_name_their_key(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        fs.capacity(plan(**changes))


def test_a_product_of_given_rates_needs_no_model() -> None:
    named, nameless = (fs.capacity(plan(products__0=product)) for product in (PRODUCT, NO_MODEL))
    assert nameless.cost == named.cost


def test_demand_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{hour},{100 + hour}" for hour in range(24)]
    (tmp_path / "chat.csv").write_text("\n".join(["hour,requests_per_s", *rows]) + "\n", encoding="utf-8")
    product = {**PRODUCT, "demand_csv": str(tmp_path / "chat.csv")}
    del product["peak_requests_per_s"]
    answer = fs.capacity(plan(products__0=product))
    assert answer.problem.requests[0] == pytest.approx(np.arange(100.0, 124.0))
    with pytest.raises(BadInput, match="covers 24 hours of the 48"):
        fs.capacity(plan(products__0=product, horizon_hours=48.0))
    (tmp_path / "chat.csv").write_text("hour,requests_per_s\n0,5\n1,-3\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 3: requests_per_s is '-3'"):
        fs.capacity(plan(products__0=product))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tomli_w

    path = tmp_path / "plan.toml"
    path.write_text(tomli_w.dumps(plan()), encoding="utf-8")
    main(["capacity", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    keys = {"status", "seconds", "allocation", "training_finishes", "duals", "violations"}
    assert keys <= document.keys()
    assert document["schema"] == "flashstill.capacity/1"
    path.write_text(tomli_w.dumps(plan(products__0__peak_requests_per_s=300.0)), encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["capacity", str(path), "--json"])
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert stop.value.code == 3
    assert document["status"] == "infeasible"
    assert "chat at hour 14" in captured.err
    assert "more a" in document["reason"]
    path.write_text(tomli_w.dumps(plan(chips__0__cuont=3)), encoding="utf-8")
    assert "nearest known: count" in refuse(capsys, "capacity", str(path), "--json")


@pytest.mark.slow
def test_gangs_are_as_good_as_trying_all_schedules() -> None:
    """Six hours, every schedule of whole sizes tried: the answer is at least as good, and no better than its bound."""
    loads = [70.0, 50.0, 20.0, 20.0, 60.0, 40.0]
    peak = max(loads)
    product = {**PRODUCT, "shape": [load / peak for load in loads] * 4, "peak_requests_per_s": peak * 2.0}
    for work, restart in ((60.0, 0.5), (90.0, 0.25), (40.0, 1.0), (110.0, 0.5)):
        run = {**RUN, "chip_hours": {"a": work}, "deadline": 6.0, "gang": {"a": [20, 40]}, "restart_hours": restart}
        kind = {"name": "a", "count": 80, "usd_per_hour": 1.0, "paid": "used"}
        product["tokens_per_s_per_chip"] = {"a": 1000.0}
        tree = {"horizon_hours": 6.0, "chips": [kind], "products": [product], "runs": [run]}
        grid = np.array(list(itertools.product([0.0, *range(20, 41, 4)], repeat=6)))
        before = np.concatenate([np.zeros((len(grid), 1)), grid[:, :-1]], axis=1)
        lost = restart * np.where((grid > 0.0) & (grid != before), grid, 0.0).sum(axis=1)
        keeps = (grid <= 80.0 - np.array(loads)).all(axis=1) & (grid.sum(axis=1) - lost >= work)
        best = float(grid[keeps].sum(axis=1).min()) if keeps.any() else math.inf
        answer = fs.capacity(tree, gang_gap=0.0)
        assert answer.feasible or not math.isfinite(best)
        if answer.feasible:
            assert answer.cost <= best + sum(loads) + 1e-3
            assert answer.bound is not None
            assert answer.cost >= answer.bound - 1e-3


SMALL = st.fixed_dictionaries(
    {
        "a": st.integers(20, 120), "b": st.integers(0, 80), "peak": st.floats(1.0, 250.0),
        "work": st.floats(10.0, 900.0), "deadline": st.integers(4, 22), "trough": st.floats(0.0, 1.0),
        "growth": st.floats(1.0, 3.0),
    }
)  # fmt: skip


def small(numbers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return plan(
        chips__0__count=numbers["a"], chips__1__count=numbers["b"], products__0__peak_requests_per_s=numbers["peak"],
        products__0__trough_ratio=numbers["trough"], products__0__growth_per_year=numbers["growth"],
        runs__0={**RUN, "chip_hours": {"a": numbers["work"], "b": 2.0 * numbers["work"]},
                 "deadline": float(numbers["deadline"])},
        **more,
    )  # fmt: skip


def badness(answer: Any) -> tuple[float, float, float]:
    """Unserved tokens, missing work, and dollars less those that are paid in any case."""
    unserved, missing = float(answer.relaxed.unserved.sum()), float(answer.missing.sum())
    return unserved, missing, answer.cost - float(answer.problem.supply.fixed_usd.sum())


def no_worse(one: Any, other: Any) -> bool:
    """Whether the first is at least as good as the second, demand first."""
    for ours, theirs in zip(badness(one), badness(other), strict=True):
        slack = 1e-5 * max(abs(ours), abs(theirs), 1.0)
        if abs(ours - theirs) > slack:
            return ours < theirs
    return True


@pytest.mark.slow
@given(numbers=SMALL, more=st.sampled_from(["a", "b", "deadline"]))
@examples(60)
def test_more_chips_and_later_deadlines_are_never_worse(numbers: dict[str, Any], more: str) -> None:
    base = fs.capacity(small(numbers))
    check_conservation(base)
    other = fs.capacity(small({**numbers, more: numbers[more] + 2}))
    assert no_worse(other, base)


@pytest.mark.slow
@given(numbers=SMALL, less=st.sampled_from(["peak", "work"]))
@examples(40)
def test_less_to_do_is_never_worse(numbers: dict[str, Any], less: str) -> None:
    base = fs.capacity(small(numbers))
    other = fs.capacity(small({**numbers, less: 0.8 * numbers[less]}))
    assert no_worse(other, base)


@pytest.mark.slow
@given(numbers=SMALL, least=st.integers(1, 30), restart=st.floats(0.0, 1.5))
@examples(30)
def test_gangs_hold_whatever_is_asked(numbers: dict[str, Any], least: int, restart: float) -> None:
    tree = small(numbers)
    most = least + 30
    tree["runs"][0] |= {"gang": {"a": [least, most], "b": [least, most]}, "restart_hours": restart}
    answer = fs.capacity(tree)
    check_conservation(answer)
    chips = answer.relaxed.trained[:, 0]
    used = chips[chips > 1e-6]
    assert ((used >= least - 1e-4) & (used <= most + 1e-4)).all()
    assert ((chips > 1e-6).sum(axis=0) <= 1).all()
    assert answer.bound is None or answer.bound <= answer.cost + 1e-3


@pytest.mark.slow
def test_a_gang_follows_the_days_of_a_plan_of_many() -> None:
    """Few break points over many days cannot: windows of a day do, where longer ones leave work undone."""
    answer = fs.capacity(
        plan(
            horizon_hours=480.0,
            step_hours=2.0,
            chips__0__count=84,
            chips__1__count=1,
            runs__0={
                "name": "frontier", "chip_hours": {"a": 8000.0}, "deadline": 480.0, "gang": {"a": [10, 60]},
                "restart_hours": 0.5,
            },
        )
    )  # fmt: skip
    assert answer.feasible
    assert answer.finishes[0] is not None
    check_conservation(answer)
