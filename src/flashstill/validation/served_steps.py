"""The steps of a served stack, fitted so that its simulation gives the latencies that a server was measured to have.

Symbols: theta = (kernel, prompt, step_s, sequence_s, several_s, first_s, token_s), the fields of `ServedSteps`; u a
typical time of a step.

    minimise   sum over loads, latencies and percentiles  ( ln(simulated / measured) / spread )^2
             + (ln kernel / WIDE)^2 + (ln prompt / WIDE)^2 + sum over the times (time / u)^2

spread is what runs of a load differ by, and what the interval of the measured percentile leaves open: a median between
two kinds of requests says little.  The last line is a prior around the cost model without overheads: it decides only
what the loads leave open, such as the share of a step that grows with its sequences where one load was measured.  The
simulation repeats the protocol: as many requests, in a closed loop or arriving at the rate, of the lengths that were
counted.  Equal requests are of a few kinds, and a median may lie between two, so that its percentiles are taken as the
load test takes them.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flashstill.checked import json_object
from flashstill.errors import BadInput
from flashstill.facts import Fact, Facts
from flashstill.plan.bands import stack_of
from flashstill.plan.cells import case_of
from flashstill.plan.deployment import Deployment
from flashstill.plan.served import STEP_FIELDS, ServedSteps, without_served_ratios
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of, with_way
from flashstill.simulate.results import between_values
from flashstill.simulate.simulation import Prepared, prepared
from flashstill.simulate.tables import with_served_steps
from flashstill.simulate.tally import METRICS
from flashstill.simulate.traffic import Traffic

LATENCIES, PERCENTILES = ("ttft_s", "tpot_s"), (50, 90)
SIMULATED = ("concurrency", "rate")
"""loads whose requests follow from their number and lengths"""
SPREAD, WIDE = 0.05, 1.0
"""logs: of percentiles between runs of a load, and of the cost model's error of a machine that was not calibrated"""
NORMAL_95 = 1.96
"""standard deviations on either side of a 95 % interval"""
SEEDS, FEWEST_LOADS = 3, 2
START = np.array([0.0, 0.0, 0.3, 0.03, 0.1, 0.3, 0.003])
LEAST, MOST = np.array([-3.0, -3.0, 0.0, 0.0, 0.0, 0.0, 0.0]), np.array([3.0, 4.6, 20.0, 20.0, 20.0, 20.0, 20.0])
WIDTHS, SCALE = (0.1, 0.1, 0.05, 0.01, 0.05, 0.05, 0.001), np.array([0.3, 0.3, 0.3, 0.05, 0.3, 0.3, 0.005])
EVALUATIONS, CLOSE = 16, 1e-3
"""of theta as it is searched: ln kernel, ln prompt (both as far as fact rows allow), and the five times over u"""
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """One load of a measurement. traffic: of one run; measured: (latency, percentile) -> seconds.

    output_tokens_per_s: the median over runs.  intervals: 95 % intervals of the percentiles that have one, in seconds.
    """

    traffic: Traffic
    measured: dict[tuple[str, int], float]
    output_tokens_per_s: float
    intervals: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    def spread(self, key: tuple[str, int]) -> float:
        """Standard deviation of the logarithm of a measured percentile."""
        low, high = self.intervals.get(key, (1.0, 1.0))
        return math.hypot(SPREAD, math.log(high / low) / (2.0 * NORMAL_95))


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedSteps:
    """The fit. before, after: mean absolute error of the percentiles without and with it; chip, stack: of its facts."""

    chip: str
    stack: str
    model: str
    steps: ServedSteps
    loads: int
    before: float
    after: float


def fit_measured(facts: Facts, path: Path, given: Mapping[str, str], policy: Policy) -> FittedSteps | None:
    """The steps by a summary.json of `measure --server` with several loads; None for any other file.

    given: cells of the case, such as model, chip, engine and precision; policy: with the limits that the server had.
    """
    document = json_object(path) if path.suffix == ".json" else {}
    if not isinstance(document.get("levels"), list):
        return None
    loads = loads_of(document)
    if len(loads) < FEWEST_LOADS:
        return None
    isl, osl = loads[0].traffic.isl, loads[0].traffic.osl
    case = case_of({"model": str(document.get("served_model", "")), **given}, {"isl": isl, "osl": osl})
    return fit_steps(facts, case.scenario.model_name, case.deployment, policy, loads)


def loads_of(summary: Mapping[str, Any]) -> list[Load]:
    """The loads of a `measure --server` document that are made from lengths alone, not of a trace or of agents.

    BadInput if none of them has percentiles, or one no rate.
    """
    found = []
    levels = [level for level in summary["levels"] if level["load"] in SIMULATED]
    for level in levels:
        measured = {
            (name, percentile): float(value)
            for name in LATENCIES
            for percentile in PERCENTILES
            if (value := (level["latencies"].get(name, {}).get(f"p{percentile}") or {}).get("value"))
        }
        if not measured:
            continue
        rate = level["over_runs"].get("output_tokens_per_s", {}).get("median")
        if rate is None:
            raise BadInput(f"{level['load']} {level[level['load']]:g} of the measurement has no output_tokens_per_s")
        runs = max(len(level["runs"]), 1)
        asked = {level["load"]: level[level["load"]]}
        if level["load"] == "concurrency":
            asked["spacing_s"] = level.get("spacing_s") or 0.0
            asked["turnaround_s"] = level.get("turnaround_s")
        traffic = Traffic(
            requests=max(round(level["requests"] / runs), 1),
            isl=max(round(level["prompt_tokens"] or level["wanted_prompt_tokens"]), 1),
            osl=max(round(level["output_tokens"] or level["wanted_output_tokens"]), 1),
            **asked,
        )
        found.append(
            Load(
                traffic=traffic,
                measured=measured,
                output_tokens_per_s=float(rate),
                intervals=_intervals(level, measured),
            )
        )
    if levels and not found:
        raise BadInput("the measurement holds no load with percentiles; measure --server with more requests writes one")
    return found


def _intervals(level: Mapping[str, Any], keys: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[float, float]]:
    told = {key: level["latencies"][key[0]][f"p{key[1]}"] for key in keys}
    return {key: (each["low"], each["high"]) for key, each in told.items() if each.get("low") and each.get("high")}


def percentiles(fleet: Prepared, load: Load, seeds: int = SEEDS) -> dict[tuple[str, int], float]:
    """Percentiles of a load on a fleet: (latency, percentile) -> seconds, of all runs together, as they are measured.

    A closed loop of equal requests is the same for every seed.
    """
    own, closed = fleet.with_client(load.traffic), load.traffic.closed
    runs = [own.serve(requests_of(load.traffic, seed)[0], closed, seed) for seed in range(1 if closed else seeds)]
    counts = {name: sum(run.tally.histograms[METRICS.index(name)].sum(axis=0) for run in runs) for name in LATENCIES}
    return {
        (name, percentile): between_values(counts[name], percentile / 100.0)
        for name, percentile in load.measured
        if counts[name].any()
    }


def fit_steps(facts: Facts, model: str, deployment: Deployment, policy: Policy, loads: Sequence[Load]) -> FittedSteps:
    """The steps that fit these loads best. BadInput or InfeasiblePlan as in `simulate`."""
    from scipy.optimize import least_squares

    _, sizes = requests_of(loads[-1].traffic, 0)
    fleet = prepared(without_served_ratios(facts), model, deployment, policy, sizes)
    typical = min(value for load in loads for (name, _), value in load.measured.items() if name == LATENCIES[-1])

    def residuals(theta: Vector) -> Vector:
        own = _with(fleet, _steps(theta, typical))
        off = [math.log(ratio) / load.spread(key) for load in loads for key, ratio in _ratios(own, load).items()]
        return np.array([*off, theta[0] / WIDE, theta[1] / WIDE, *theta[2:]])

    def slopes(theta: Vector) -> Vector:
        """Differences wide enough for percentiles, which move in steps of a histogram's width."""
        here = residuals(theta)
        columns = []
        for place, width in enumerate(WIDTHS):
            moved = theta.copy()
            moved[place] += width
            columns.append((residuals(moved) - here) / width)
        return np.stack(columns, axis=1)

    found = least_squares(
        residuals, START, jac=slopes, bounds=(LEAST, MOST), x_scale=SCALE, max_nfev=EVALUATIONS, ftol=CLOSE
    )
    steps = _steps(found.x, typical)

    def error(own: Prepared) -> float:
        return float(np.mean([np.mean([abs(each - 1.0) for each in _ratios(own, load).values()]) for load in loads]))

    return FittedSteps(
        chip=fleet.resolved.chip.name,
        stack=stack_of(fleet.resolved.model, fleet.resolved.conditions),
        model=model,
        steps=steps,
        loads=len(loads),
        before=error(fleet),
        after=error(_with(fleet, steps)),
    )


def _ratios(fleet: Prepared, load: Load) -> dict[tuple[str, int], float]:
    """Simulated over measured, of the percentiles that both have."""
    ours = percentiles(fleet, load)
    return {key: ours[key] / value for key, value in load.measured.items() if key in ours}


def _with(fleet: Prepared, steps: ServedSteps) -> Prepared:
    limits = with_way(fleet.limits, fleet.way_s, steps.first_s)
    return replace(fleet, tables=with_served_steps(fleet.tables, steps), limits=limits, way_s=steps.first_s)


def _steps(theta: Vector, typical: float) -> ServedSteps:
    kernel, prompt = np.exp(theta[:2])
    step_s, sequence_s, several_s, first_s, token_s = theta[2:] * typical
    return ServedSteps(
        kernel=float(kernel), prompt=float(prompt), step_s=float(step_s), sequence_s=float(sequence_s),
        several_s=float(several_s), first_s=float(first_s), token_s=float(token_s),
    )  # fmt: skip


def step_facts(fitted: FittedSteps, path: Path) -> list[Fact]:
    """Fact rows of the fit, for a directory that --facts names."""
    source, today = f"{path.name}, measured by the user", datetime.date.today().isoformat()
    values = asdict(fitted.steps)
    return [
        Fact(
            name=fitted.chip, quantity=quantity, value=float(f"{values[field]:.4g}"),
            low=float(f"{values[field]:.4g}"), high=float(f"{values[field]:.4g}"),
            unit="s" if field.endswith("_s") else "1", per="chip", condition=fitted.stack, kind="measured",
            source=source, as_of=today, note=f"{fitted.loads} loads of {fitted.model}",
        )
        for quantity, field in STEP_FIELDS.items()
    ]  # fmt: skip
