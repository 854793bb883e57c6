"""Simulations of fleets, each run once: which bounds a number of replicas of a deployment breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from flashstill.fleets.demand import Demand, sample
from flashstill.fleets.slo import METRICS, Bound
from flashstill.simulate.capacity import Capacity
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.results import value_at
from flashstill.simulate.simulation import Prepared
from flashstill.simulate.state import BUSY_S
from flashstill.simulate.tally import PREEMPTED, Tally

LATE = "not finished in time"


class Traffic(NamedTuple):
    """So many times the demand, and the blocks of it that are simulated (None: all)."""

    times: float = 1.0
    part: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A deployment that may be replicated. capacity: of one replica; usd_per_hour: of one replica."""

    key: tuple[int, int]
    prepared: Prepared
    capacity: Capacity
    usd_per_hour: float

    @property
    def name(self) -> str:
        """Chips and degrees, for people: 4 x h100-sxm (tp4)."""
        used = self.prepared.resolved.deployment
        degrees = " ".join(
            f"{name}{getattr(used, name)}"
            for name in ("tp", "pp", "ep", "dp")
            if name == "tp" or getattr(used, name) != 1
        )
        return f"{used.chips} x {used.chip} ({degrees})"


class Broken(NamedTuple):
    """A bound that is broken, the seconds that were reached, and those over the bound's."""

    name: str
    seconds: float
    ratio: float


class Trial(NamedTuple):
    """A run that is over: its counts (parts joined), the time of its last event, and the share of time worked."""

    tally: Tally
    end_s: float
    busy: float
    preemptions: int


@dataclass(kw_only=True, slots=True)
class Trials:
    """Runs and their results so far. late_s: seconds after the last arrival in which everything must be over."""

    demand: Demand
    late_s: float
    runs: int = 0
    _done: dict[tuple[object, ...], Trial] = field(default_factory=dict)
    _samples: dict[tuple[int, Traffic], Arrivals] = field(default_factory=dict)

    def arrivals(self, seed: int, traffic: Traffic) -> Arrivals:
        """The requests of a seed."""
        key = seed, traffic
        if key not in self._samples:
            if traffic.part is not None and len(self._samples) > 40:
                self._samples.clear()
            self._samples[key] = sample(self.demand, seed, traffic.times, traffic.part)
        return self._samples[key]

    def span_s(self, traffic: Traffic) -> float:
        """Seconds in which the requests of this traffic arrive."""
        blocks = self.demand.blocks
        start, end = traffic.part or (0, blocks)
        return self.demand.span_s * (end - start) / blocks

    def of(self, candidate: Candidate, replicas: int, seed: int, traffic: Traffic) -> Trial:
        """The run of a fleet, from memory if it was run before."""
        key = (candidate.key, replicas, seed, traffic)
        if key not in self._done:
            arrivals = self.arrivals(seed, traffic)
            outcome = replace(candidate.prepared, replicas=replicas).serve([arrivals], False, seed)
            tally, end_s = outcome.tally, outcome.end_s
            self.runs += 1
            self._done[key] = Trial(
                tally=tally._replace(histograms=tally.histograms.sum(axis=1, keepdims=True)),
                end_s=end_s,
                busy=float(outcome.fleet.clock[:, BUSY_S].sum()) / max(end_s * replicas, 1e-12),
                preemptions=int(tally.totals[PREEMPTED]),
            )
        return self._done[key]

    def broken(
        self, candidate: Candidate, replicas: int, seed: int, bounds: Sequence[Bound], traffic: Traffic
    ) -> list[Broken]:
        """The bounds that a fleet breaks, the worst first; empty if it keeps all of them."""
        trial = self.of(candidate, replicas, seed, traffic)
        reached = [(bound, value_at(trial.tally, METRICS[bound.metric], bound.share)) for bound in bounds]
        over = [Broken(bound.name, value, value / bound.seconds) for bound, value in reached if value >= bound.seconds]
        late = trial.end_s - self.span_s(traffic)
        if late > self.late_s:
            over.append(Broken(LATE, late, late / self.late_s))
        return sorted(over, key=lambda each: -each.ratio)

    def keeps(
        self, candidate: Candidate, replicas: int, seeds: Sequence[int], bounds: Sequence[Bound], traffic: Traffic
    ) -> int | None:
        """The first seed in which a fleet breaks a bound; None if it keeps them in all."""
        return next((seed for seed in seeds if self.broken(candidate, replicas, seed, bounds, traffic)), None)


def reached(trial: Trial, bounds: Sequence[Bound]) -> dict[str, float]:
    """Seconds at each bound's percentile."""
    return {bound.name: value_at(trial.tally, METRICS[bound.metric], bound.share) for bound in bounds}


def worst(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of each over several runs."""
    names = values[0] if values else {}
    return {name: float(np.max([each[name] for each in values])) if values else math.nan for name in names}
