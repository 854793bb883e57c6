"""Size a fleet: from a trace and latency bounds to the cheapest replicas, their proof, and variants of the question."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flashstill.arch import load_architecture
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.fleets.answer import Binds, Fleet, FleetPlan, Proof
from flashstill.fleets.apart import explained
from flashstill.fleets.demand import Demand, read_demand
from flashstill.fleets.lower_bound import lower_bound
from flashstill.fleets.question import Sizing, sizing_of
from flashstill.fleets.search import Question, Sized
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.space import Choices
from flashstill.fleets.trials import Broken, Traffic, reached, worst
from flashstill.fleets.variants import fleet_of, scales, tighter
from flashstill.fleets.windows import by_window, windows_of
from flashstill.traces.reading import DEFAULT, Reading
from flashstill.units import SECONDS_PER_HOUR, TOKENS_PER_MILLION, show

PROOF_SEEDS = 10


def plan_fleet(
    facts: Facts,
    model: str | Any,
    trace: Path,
    bounds: tuple[Bound, ...],
    choices: Choices,
    *,
    speed: float = 1.0,
    window_s: float = SECONDS_PER_HOUR,
    cold_start_s: float = 0.0,
    told: Callable[[str], None] = lambda text: None,
    reading: Reading = DEFAULT,
) -> FleetPlan:
    """The cheapest fleet that keeps the bounds under the trace.

    window_s: the number of replicas may change this often.  cold_start_s: replicas are paid so long before they serve.
    told: called with a line of progress.  Raises BadInput for a mistake, InfeasiblePlan with the reasons counted.
    """
    if not window_s > 0.0 or not cold_start_s >= 0.0:
        raise BadInput("the window must be above 0 seconds, and a cold start takes at least 0 seconds")
    architecture = load_architecture(model) if isinstance(model, str) else model
    demand = read_demand(trace, architecture.context, speed, reading)
    sizing = sizing_of(facts, architecture, demand, bounds, choices, told)
    windows = windows_of(demand, window_s)
    busiest = max(windows, key=lambda traffic: _tokens(demand, traffic))
    told(f"{len(demand.requests.arrival_s):,} requests; the cheapest fleet")
    best, reasons = sizing.sized(bounds, busiest, PROOF_SEEDS)
    if best is None:
        raise InfeasiblePlan(f"no fleet of these chips keeps the bounds of {architecture.name}", dict(reasons))
    asked = Question(bounds=bounds, traffic=busiest, seeds=tuple(range(PROOF_SEEDS)))
    plain = best if best.candidate.prefill is None else sizing.co_located(asked, math.inf, Counter[str]())

    def over_time(each: Sized) -> tuple[float, Fleet, Sized]:
        fleet = fleet_of(each, by_window(sizing.trials, each, bounds, windows, busiest, PROOF_SEEDS))
        return _mean_usd(fleet, demand.span_s, cold_start_s), fleet, each

    paid, fleet, best = over_time(best)
    if plain is not None and plain is not best and len(windows) > 1:  # pools of both shrink by less where few come
        paid, fleet, best = min((paid, fleet, best), over_time(plain), key=lambda each: each[0])
    shown = best if best.candidate.prefill is None else explained(sizing.trials, best, asked)
    least = _least_usd(sizing, bounds, len(windows))
    told("the price of a nine, and of half of each bound")
    nine, halves = tighter(sizing, best, busiest, PROOF_SEEDS)
    told("more traffic")
    at_scales = scales(sizing, best, busiest, PROOF_SEEDS)
    names = [each.fleet.design if each.fleet else None for each in at_scales]
    output = float(demand.requests.output.sum())
    return FleetPlan(
        model=architecture.name,
        slo=tuple(bound.text for bound in bounds),
        requests=len(demand.requests.arrival_s),
        span_s=demand.span_s,
        fleet=fleet,
        usd_per_hour=paid,
        usd_per_million_output_tokens=paid * demand.span_s / SECONDS_PER_HOUR / output * TOKENS_PER_MILLION,
        lower_bound_usd_per_hour=least,
        price_basis=best.candidate.prepared.paid.basis,
        proof=_proof(sizing, shown, busiest),
        binds=_binds(sizing, shown, busiest),
        price_of_a_nine=nine,
        price_of_halving=halves,
        scales=at_scales,
        flips=tuple(
            scale.question for before, now, scale in zip(names, names[1:], at_scales[1:], strict=False) if before != now
        ),
        considered=sum(len(kind.layouts) for kind in sizing.candidates.kinds),
        simulated=sizing.trials.runs,
        infeasible=dict(reasons),
        window_s=min(window_s, demand.span_s),
        notes=_notes(demand, best, windows, cold_start_s),
        co_located_usd_per_hour=None if plain is None else plain.usd_per_hour,
        pairs=sizing.pairs if choices.disaggregated else None,
        prefill_price_basis=_prefill_basis(best),
    )


def _sent(demand: Demand, best: Sized) -> str:
    """How caches travel between two kinds of chips."""
    apart = best.candidate.fleet(best.copies).apart
    assert apart is not None
    middle = float(np.median(demand.requests.prompt))
    seconds = float(np.interp(middle, apart.pool.links.contexts, apart.pool.links.seconds))
    held = best.candidate.deployment.kv_precision
    return (
        f"the {held} cache of a median prompt ({middle:,.0f} tokens) travels from {apart.prefill.chip.name} to"
        f" {best.candidate.deployment.chip} in {show(seconds, 's')}, at the slower side's network rate"
    )


def _tokens(demand: Demand, traffic: Traffic) -> int:
    start, end = traffic.part or (0, demand.blocks)
    rows = slice(int(demand.edges[start]), int(demand.edges[end]))
    requests = demand.requests
    return int((requests.prompt[rows] - requests.cached[rows] + requests.output[rows]).sum())


def _mean_usd(fleet: Fleet, span_s: float, cold_start_s: float) -> float:
    """Mean dollars per hour over the trace. Replicas are paid from `cold_start_s` before they serve."""

    def paid(price: float, by_window: Sequence[int]) -> float:
        counts = np.array(by_window, dtype=np.float64)
        started = float(np.maximum(np.diff(counts), 0.0).sum())
        return price * float(counts.mean() + started * cold_start_s / span_s)

    dollars = paid(fleet.usd_per_hour_of_a_replica, fleet.replicas_by_window)
    prefill = fleet.usd_per_hour_of_a_prefill_replica
    return dollars if prefill is None else dollars + paid(prefill, fleet.prefill_replicas_by_window)


def _least_usd(sizing: Sizing, bounds: Sequence[Bound], windows: int) -> float:
    """The lower bound: of whole replicas all the time, or where they may change, of fractions but at least one."""
    least = lower_bound(sizing.candidates.kinds, sizing.demand, bounds)
    if windows == 1:
        return least.usd_per_hour
    cheapest_one = min(float(kind.usd_per_hour.min()) for kind in sizing.candidates.kinds)
    return max(least.fractional_usd_per_hour, cheapest_one)


def _proof(sizing: Sizing, best: Sized, traffic: Traffic) -> Proof:
    trials = [sizing.trials.of(best.candidate, best.copies, seed, traffic) for seed in range(PROOF_SEEDS)]
    breaks, seconds, seed = _fewer(best.fewer)
    prefill_breaks, prefill_seconds, prefill_seed = _fewer(best.fewer_prefills)
    return Proof(
        seeds=PROOF_SEEDS,
        worst=worst([reached(trial, sizing.bounds) for trial in trials]),
        busy=float(np.mean([trial.busy for trial in trials])),
        preemptions=sum(trial.preemptions for trial in trials),
        fewer_breaks=breaks,
        fewer_seconds=seconds,
        fewer_seed=seed,
        prefill_busy=float(np.mean([trial.prefill_busy for trial in trials])) if best.copies.prefills else None,
        fewer_prefills_breaks=prefill_breaks,
        fewer_prefills_seconds=prefill_seconds,
        fewer_prefills_seed=prefill_seed,
    )


def _fewer(found: tuple[Broken, int] | None) -> tuple[str | None, float | None, int | None]:
    """The bound, seconds if finite, and the seed."""
    if found is None:
        return None, None, None
    broken, seed = found
    return broken.name, broken.seconds if math.isfinite(broken.seconds) else None, seed


def _binds(sizing: Sizing, best: Sized, traffic: Traffic) -> Binds:
    tpot_s = tightest(sizing.bounds, "tpot")
    capacity = best.candidate.capacity
    rate, batch = capacity.within(math.inf if tpot_s is None else tpot_s)
    is_paced = rate < capacity.best[0] * (1.0 - 1e-9)
    asked = len(sizing.trials.arrivals(0, traffic).arrival_s) / sizing.trials.span_s(traffic)
    return Binds(
        bound=best.fewer[0].name if best.fewer else None,
        batch="tpot" if is_paced else capacity.limit,
        batch_sequences=batch,
        whole_replicas=best.copies.replicas * rate / asked,
    )


def _prefill_basis(best: Sized) -> str | None:
    """The source of the price of a prefill pool on another kind of chip."""
    other = best.candidate.prefill
    return other.prepared.paid.basis if other and best.candidate.prefill_deployment else None


def _notes(demand: Demand, best: Sized, windows: Sequence[Traffic], cold_start_s: float) -> tuple[str, ...]:
    notes = list(best.candidate.prepared.notes)
    other = best.candidate.prefill
    if other is not None and best.candidate.prefill_deployment is not None:
        notes += [*other.prepared.notes, _sent(demand, best)]
    notes += demand.told
    if demand.left_out:
        notes.append(f"{demand.left_out:,} requests are longer than the model's context and are left out")
    if demand.has_names:
        notes.append("names of hash blocks are not followed: a prompt is cached where the trace says how much of it is")
    if len(windows) > 1 and cold_start_s == 0.0:
        notes.append("replicas start at once: --cold-start adds what it takes")
    return tuple(dict.fromkeys(notes))
