"""A capacity plan in numbers: arrays over chip kinds [K], products [P], runs [R] and steps [T]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.capacity.curves import Values, edges, generation_of, requests_per_s
from flashstill.capacity.plan import CapacityPlan
from flashstill.capacity.rates import check_models, lengths_of, run_chip_hours, serving_rates
from flashstill.capacity.supply import Supply, supply_of
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.units import TOKENS_PER_MILLION

Flags = npt.NDArray[np.bool_]
LEAST_WORK = 1e-3
"""chip-hours of a run: a few chip-seconds are below the solver's tolerance"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the solver sees.

    demand [P, T], rate [K, P, T]: output tokens/s owed, and of one chip (0: cannot serve).  requests [P, T]: a second.
    reference, slowest [P]: tokens/s of the fastest kind, and how many times as fast it is as the slowest.
    usd_per_token [P]: what a served token earns; NaN: it must be served.
    work [R]: chip-hours of the fastest kind.  speed [K, R]: work of a chip-hour (0: cannot train).
    window [R, T]: share of each step that lies between a run's start and its deadline.  open [R, T]: the same without
    its deadline.  least, most [K, R]: chips of a gang; least is 0 where there is none.  teacher [R]: run or -1.
    weight [T]: how many equal steps a step stands for (1 in the plan itself).
    """

    plan: CapacityPlan
    supply: Supply
    step_hours: float
    starts: Values
    weight: Values
    demand: Values
    requests: Values
    rate: Values
    reference: Values
    slowest: Values
    usd_per_token: Values
    work: Values
    speed: Values
    window: Values
    open: Values
    least: Values
    most: Values
    restart_hours: Values
    value_usd_per_hour: Values
    teacher: npt.NDArray[np.int64]
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Numbers of kinds, products, runs and steps."""
        kinds, products, steps = self.rate.shape
        return kinds, products, len(self.work), steps

    @property
    def available(self) -> Values:
        """Chips [K, T]."""
        return self.supply.available

    @property
    def gangs(self) -> Flags:
        """Runs [R] that have a fewest number of chips or lose hours as they restart."""
        found: Flags = (self.least > 0.0).any(axis=0) | (self.restart_hours > 0.0)
        return found


def problem_of(facts: Facts, plan: CapacityPlan, price: str = "rented") -> Problem:
    """The arrays of a plan; BadInput names a key, InfeasiblePlan a product or run that no kind can do."""
    notes: list[str] = []
    supply = supply_of(facts, plan, price)
    steps = plan.periods
    bounds = edges(plan)
    requests = [requests_per_s(plan, each, f"products[{place}]") for place, each in enumerate(plan.products)]
    numbers = [generation_of(plan, each) for each in plan.products]
    outputs = [np.array([float(one.output_tokens) for one in lengths_of(each)]) for each in plan.products]
    for place, product in enumerate(plan.products):
        check_models(product, f"products[{place}]")
    rates = [serving_rates(facts, plan, each, notes)[:, at] for each, at in zip(plan.products, numbers, strict=True)]
    kinds = [kind.name for kind in plan.chips]
    work, speed = _work(facts, plan, kinds, notes)
    runs, position = plan.trainings, {run.name: place for place, run in enumerate(plan.trainings)}
    least, most = np.zeros((len(kinds), len(runs))), np.full((len(kinds), len(runs)), np.inf)
    for place, run in enumerate(runs):
        for kind, (low, high) in (run.gang or {}).items():
            least[kinds.index(kind), place], most[kinds.index(kind), place] = low, high
    products = [each.usd_per_million_tokens for each in plan.products]
    requested = np.array(requests).reshape(len(requests), steps)
    answered = np.array([out[at] for out, at in zip(outputs, numbers, strict=True)]).reshape(requested.shape)
    rate = np.array(rates).reshape(len(rates), len(kinds), steps).transpose(1, 0, 2)
    fastest = rate.max(axis=(0, 2), initial=0.0) if rates else np.zeros(0)
    least_rate = np.where(rate > 0.0, rate, np.inf).min(axis=(0, 2), initial=np.inf) if rates else np.zeros(0)
    return Problem(
        plan=plan,
        supply=supply,
        step_hours=plan.step_hours,
        starts=bounds[:-1],
        weight=np.ones(steps),
        demand=requested * answered,
        requests=requested,
        rate=rate,
        reference=np.where(fastest > 0.0, fastest, 1.0),
        slowest=np.where(fastest > 0.0, fastest / least_rate, 1.0),
        usd_per_token=np.array([np.nan if usd is None else usd / TOKENS_PER_MILLION for usd in products]),
        work=work,
        speed=speed,
        window=_shares(bounds, [(run.start, run.deadline) for run in runs]),
        open=_shares(bounds, [(run.start, plan.horizon_hours) for run in runs]),
        least=least,
        most=most,
        restart_hours=np.array([run.restart_hours for run in runs]),
        value_usd_per_hour=np.array([run.value_usd_per_hour for run in runs]),
        teacher=np.array([position.get(run.teacher, -1) for run in runs], dtype=np.int64),
        notes=(*_priced(plan, supply), *notes),
    )


def _work(facts: Facts, plan: CapacityPlan, kinds: list[str], notes: list[str]) -> tuple[Values, Values]:
    runs = plan.trainings
    work, speed = np.zeros(len(runs)), np.zeros((len(kinds), len(runs)))
    keys = [*(f"runs[{place}]" for place in range(len(plan.runs)))]
    keys += [f"distillations[{place}]" for place in range(len(plan.distillations))]
    for place, (run, key) in enumerate(zip(runs, keys, strict=True)):
        hours = run_chip_hours(facts, plan, run, key, notes)
        work[place] = min(hours.values())
        if work[place] < LEAST_WORK:
            raise BadInput(f"{key} takes {work[place]:.3g} chip-hours; a run needs at least {LEAST_WORK:g}")
        for kind, needed in hours.items():
            speed[kinds.index(kind), place] = work[place] / needed
        for kind in sorted(set(hours) - set(run.gang or hours)):
            speed[kinds.index(kind), place] = 0.0
            notes.append(f"{run.name}: not trained on {kind}, for which its gang has no sizes")
        if not speed[:, place].any():
            raise InfeasiblePlan(f"{key}: no kind that can train {run.name!r} has a gang", {"no gang": 1})
    return work, speed


def _shares(bounds: Values, windows: list[tuple[float, float]]) -> Values:
    """Share of each step that lies within each window [R, T]."""
    found: Any = [np.clip(np.minimum(bounds[1:], end) - np.maximum(bounds[:-1], start), 0.0, None) / np.diff(bounds)
                  for start, end in windows]  # fmt: skip
    return np.array(found).reshape(len(windows), len(bounds) - 1)


def _priced(plan: CapacityPlan, supply: Supply) -> list[str]:
    return [
        f"{kind.name}: ${usd:,.2f} a chip-hour, paid {kind.paid} ({basis})"
        for kind, usd, basis in zip(plan.chips, supply.price_usd, supply.basis, strict=True)
    ]
