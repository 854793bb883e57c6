"""The linear programme of a capacity problem.

    x[k, p, t]  chips of kind k that serve product p in step t
    y[k, r, t]  chips of kind k that train run r in step t (a mean over the step)
    s[p, t]     demand that is not served, in chips of the fastest kind
    u[r]        work that is not done by the deadline, in chip-hours of the fastest kind

    chips       sum_p x + sum_r y / share <= available               every kind and step; share: of the step within the
                                                                     run's window: a run's chips are its own all step
    demand      sum_k (rate / reference) x + s = demand / reference  every product and step
    work        sum_k,t speed h y + u >= work                        every run, within its window; h: hours of a step
    gangs       sum_k y / most <= 1                                  every gang that may be of several kinds

    cost        dollars of chips that are paid by use, of demand that earns nothing, of finishing late (value x the mean
                hour at which the work is done, the linear relaxation of the hour at which it is finished)

Demand without a price and work that is late cost more than anything else, demand more than work; so a programme always
has a solution, and what is left over says what cannot be had.  Ties go to fewer chips (by price) and earlier hours.
With the objective "training" the cost is hours: the mean hour at which the work is done, summed over the runs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.capacity.curves import Values
from flashstill.capacity.problem import Problem
from flashstill.capacity.solver import Rows
from flashstill.units import SECONDS_PER_HOUR

TIE = 1e-6
"""relative cost that breaks ties: far below any price, far above the solver's tolerance"""
TIE_OF_DOLLARS = 1e-4
"""weight of the dearest chip-hour against an hour's delay of one chip-hour of work, with the objective "training" """
ABOVE = 100.0
"""how much more late work costs than the dearest chip, and unserved demand more than late work"""
WORST = 1e4
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Places of the variables: x and y by pair (kind, product or run) and step; s by product and step; u by run."""

    x_kind: Indices
    x_product: Indices
    x: Indices
    y_kind: Indices
    y_run: Indices
    y: Indices
    s: Indices
    u: Indices
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Programme:
    """Costs, rows and bounds, and where things stand in them. reference [P]: tokens/s of the fastest kind.

    real_cost: costs without ties and penalties.  must_serve [P]: products whose demand has no price.
    rows_of_chips, rows_of_demand: numbers of rows [K, T], [P, T]; rows_of_work [R].  work_unit [R]: chip-hours of the
    fastest kind that one unit of its row stands for.
    """

    columns: Columns
    cost: Values
    real_cost: Values
    rows: Rows
    lower: Values
    upper: Values
    reference: Values
    must_serve: npt.NDArray[np.bool_]
    rows_of_chips: Indices
    rows_of_demand: Indices
    rows_of_work: Indices
    work_unit: Values


def columns_of(problem: Problem) -> Columns:
    """The variables of a problem: pairs that can never serve or train have none."""
    _, products, runs, steps = problem.shape
    x_kind, x_product = np.nonzero(problem.rate.any(axis=2))
    y_kind, y_run = np.nonzero(problem.speed > 0.0)
    sizes = np.cumsum([0, len(x_kind) * steps, len(y_kind) * steps, products * steps, runs])
    places = [np.arange(low, high) for low, high in itertools.pairwise(sizes)]
    return Columns(
        x_kind=x_kind, x_product=x_product, x=places[0].reshape(-1, steps),
        y_kind=y_kind, y_run=y_run, y=places[1].reshape(-1, steps),
        s=places[2].reshape(products, steps), u=places[3], count=int(sizes[-1]),
    )  # fmt: skip


def programme_of(
    problem: Problem, held: Values | None = None, need: Values | None = None, price_of_work: Values | None = None
) -> Programme:
    """The programme of a problem.

    held [K, R, T]: chips of the runs that have gangs, whose work then counts as done.  need [R]: work to be done, if
    not all of it.  price_of_work [R]: what a chip-hour of work earns where none has to be done.
    """
    kinds, products, runs, steps = problem.shape
    at = columns_of(problem)
    reference = problem.reference
    chips_rows = np.arange(kinds * steps).reshape(kinds, steps)
    demand_rows = kinds * steps + np.arange(products * steps).reshape(products, steps)
    work_rows = (kinds + products) * steps + np.arange(runs)
    hours = problem.step_hours * problem.weight
    ratio = problem.rate[at.x_kind, at.x_product] / reference[at.x_product, None]
    done = problem.speed[at.y_kind, at.y_run][:, None] * hours
    unit = _work_unit(problem)
    triplets = [
        _entries(chips_rows[at.x_kind], at.x, 1.0),
        _entries(chips_rows[at.y_kind], at.y, 1.0 / np.where(problem.window > 0.0, problem.window, 1.0)[at.y_run]),
        _entries(demand_rows[at.x_product], at.x, ratio),
        _entries(demand_rows, at.s, 1.0),
    ]
    free = price_of_work is not None
    if not free:
        triplets.append(_entries(work_rows[at.y_run][:, None], at.y, -done / unit[at.y_run][:, None]))
        triplets.append(_entries(work_rows, at.u, -1.0 / unit))
    shared, shares = _one_kind(problem, at, (kinds + products) * steps + runs)
    triplets.append(shared)
    row, column, value = (np.concatenate(parts) for parts in zip(*triplets, strict=True))
    owed = np.zeros(runs) if free else -(least_work(problem) if need is None else need) / unit
    rows = Rows(
        row=row, column=column, value=value,
        side=np.concatenate([problem.available.ravel(), (problem.demand / reference[:, None]).ravel(), owed, shares]),
        at_most=np.repeat([True, False, True], [kinds * steps, products * steps, runs + len(shares)]),
    )  # fmt: skip
    lower, upper = np.zeros(at.count), np.full(at.count, np.inf)
    upper[at.x] = np.where(ratio > 0.0, np.inf, 0.0)
    most, share = problem.most[at.y_kind, at.y_run][:, None], problem.window[at.y_run]
    binds = most < problem.available[at.y_kind]  # else rows of chips are the bound, so that their dual values count it
    upper[at.y] = np.where(share > 0.0, np.where(binds, np.where(binds, most, 0.0) * share, np.inf), 0.0)
    if free:
        upper[at.u] = 0.0
    if held is not None:
        gangs = problem.gangs[at.y_run]
        lower[at.y[gangs]] = upper[at.y[gangs]] = held[at.y_kind, at.y_run][gangs]
        rows.side[work_rows[problem.gangs]] = 0.0
    must_serve = np.isnan(problem.usd_per_token) | (problem.plan.objective != "cost")
    cost, real = _costs(problem, at, must_serve)
    if price_of_work is not None:
        cost[at.y] -= price_of_work[at.y_run][:, None] * done
    return Programme(
        columns=at, cost=cost, real_cost=real, rows=rows, lower=lower, upper=upper, reference=reference,
        must_serve=must_serve, rows_of_chips=chips_rows, rows_of_demand=demand_rows, rows_of_work=work_rows,
        work_unit=unit,
    )  # fmt: skip


def _one_kind(problem: Problem, at: Columns, first: int) -> tuple[tuple[Indices, Indices, Values], Values]:
    """Entries and sides of the rows, from `first` on, that keep gangs from more than their most on several kinds."""
    steps = len(problem.starts)
    several = problem.gangs & ((problem.speed > 0.0).sum(axis=0) > 1)
    several &= (np.isfinite(problem.most) | (problem.speed <= 0.0)).all(axis=0)
    rows = first + np.cumsum(np.repeat(several, steps)).reshape(-1, steps) - 1
    pairs = several[at.y_run]
    most = problem.most[at.y_kind, at.y_run][pairs]
    return _entries(rows[at.y_run[pairs]], at.y[pairs], 1.0 / most[:, None]), problem.window[several].ravel()


def least_work(problem: Problem) -> Values:
    """Work [R] that each run takes at the least: a gang loses the hours of its first start in any case."""
    lost = np.where(problem.speed > 0.0, problem.least * problem.speed, np.inf).min(axis=0, initial=np.inf)
    found: Values = problem.work + problem.restart_hours * np.where(np.isfinite(lost), lost, 0.0)
    return found


def _work_unit(problem: Problem) -> Values:
    """Work is counted in shares of what the run takes, times the steps, so that entries lie near 1; of a run that is
    far beyond any fleet in millions of chip-hours, as the solver drops entries below 1e-9."""
    return np.clip(problem.work / max(len(problem.starts), 1), 1e-9, 1e6)


def _entries(rows: Any, columns: Any, values: Any) -> tuple[Indices, Indices, Values]:
    row, column, value = np.broadcast_arrays(rows, columns, values)
    return row.ravel(), column.ravel(), value.ravel().astype(np.float64)


def _costs(problem: Problem, at: Columns, must_serve: npt.NDArray[np.bool_]) -> tuple[Values, Values]:
    """What is minimised, and the same without ties and penalties: dollars, or `cost_unit` times hours."""
    plan, supply, horizon = problem.plan, problem.supply, problem.plan.horizon_hours
    hours = problem.step_hours * problem.weight
    early, scale = plan.objective == "training", _scale(problem)
    dollar = TIE_OF_DOLLARS / scale if early else 1.0
    ties = TIE * supply.price_usd * dollar
    real, penalties = np.zeros(at.count), np.zeros(at.count)
    paid = penalties if early else real  # with the objective "training" dollars only break ties
    paid[at.x] = dollar * supply.usd_per_hour[at.x_kind][:, None] * hours
    paid[at.y] = dollar * supply.usd_per_hour[at.y_kind][:, None] * hours
    ends = problem.starts + problem.step_hours
    worth = cost_unit(problem) if early else problem.value_usd_per_hour
    per_work = worth / np.maximum(problem.work, 1e-9)
    share = problem.speed[at.y_kind, at.y_run][:, None] * hours
    real[at.y] += per_work[at.y_run][:, None] * share * ends
    penalties[at.x] += ties[at.x_kind][:, None] * hours
    penalties[at.y] += ties[at.y_kind][:, None] * hours * (1.0 + ends / horizon)
    dearest = scale * dollar + float((per_work * horizon).max(initial=0.0))
    slowest = float((1.0 / np.where(problem.speed > 0.0, problem.speed, 1.0)).max(initial=1.0))
    late = ABOVE * dearest * min(slowest, WORST)
    penalties[at.u] = late
    unserved = ABOVE * late * np.minimum(problem.slowest, WORST)
    earned = np.where(must_serve, 0.0, np.nan_to_num(problem.usd_per_token) * problem.reference * SECONDS_PER_HOUR)
    real[at.s] = dollar * earned[:, None] * hours
    penalties[at.s] = np.where(must_serve, unserved, 0.0)[:, None] * hours
    return real + penalties, real


def cost_unit(problem: Problem) -> float:
    """By what the cost is divided to be dollars or hours: hours are counted for each chip-hour of the largest run."""
    return max(float(problem.work.max(initial=0.0)), 1.0) if problem.plan.objective == "training" else 1.0


def most_ties(problem: Problem) -> float:
    """What ties can add to the cost at the most, in dollars or hours: a bound is lower by so much.

    No kind works more than it would if it did all by itself; gangs, whose restarts are not known, may take all chips.
    """
    hours = problem.step_hours * problem.weight
    chips = (problem.available * hours).sum(axis=1)
    if not problem.gangs.any():
        rate, speed = problem.rate, problem.speed
        served = np.divide(problem.demand[None], rate, out=np.zeros_like(rate), where=rate > 0.0) @ hours
        trained = np.divide(problem.work[None], speed, out=np.zeros_like(speed), where=speed > 0.0)
        chips = np.minimum(chips, served.sum(axis=1) + trained.sum(axis=1))
    if problem.plan.objective == "training":
        return 2.0 * TIE_OF_DOLLARS * float(chips.sum()) / cost_unit(problem)
    return 2.0 * TIE * float(problem.supply.price_usd @ chips)


def _scale(problem: Problem) -> float:
    """The dearest chip-hour: its price, or what it earns."""
    earned = np.nan_to_num(problem.usd_per_token) * problem.reference * SECONDS_PER_HOUR
    return max(float(problem.supply.price_usd.max(initial=0.0)), float(earned.max(initial=0.0)), 1e-6)
