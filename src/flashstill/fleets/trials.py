"""Simulations of fleets, each run once: which bounds a number of replicas of a deployment breaks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from flashstill.fleets.copies import Candidate, Copies
from flashstill.fleets.demand import Demand, sample
from flashstill.fleets.floor import alone_s
from flashstill.fleets.slo import METRICS, Bound
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.compiled import RUNS_IN_THREADS
from flashstill.simulate.results import value_at
from flashstill.simulate.state import BUSY_S
from flashstill.simulate.tally import PREEMPTED, Tally
from flashstill.simulate.workers import cores

LATE = "not finished in time"
SCREENED, PART = 4_000, 0.125
"""requests from which on a busy part is looked at first, and its share of the time"""


class Traffic(NamedTuple):
    """So many times the demand, and the blocks of it that are simulated (None: all)."""

    times: float = 1.0
    part: tuple[int, int] | None = None


class Broken(NamedTuple):
    """A bound that is broken, the seconds that were reached, and those over the bound's."""

    name: str
    seconds: float
    ratio: float


class Trial(NamedTuple):
    """A run that is over: its counts (parts joined), the time of its last event, and the share of time worked: by
    replicas that decode, and by those that only prefill."""

    tally: Tally
    end_s: float
    busy: float
    prefill_busy: float
    preemptions: int


@dataclass(kw_only=True, slots=True)
class Trials:
    """Runs and their results so far. late_s: seconds after the last arrival in which everything must be over.

    needed: of the last question with a multiple of the traffic, that multiple and what each pair of pools needed.
    runs: that were looked at, and requests in them; those that threads ran ahead in vain do not count, so that it is
    the same everywhere.
    """

    demand: Demand
    late_s: float
    runs: int = 0
    requests: int = 0
    needed: dict[tuple[tuple[int, ...], tuple[Bound, ...]], tuple[float, Copies]] = field(default_factory=dict)
    _done: dict[tuple[object, ...], Trial] = field(default_factory=dict)
    _ahead: dict[tuple[object, ...], Trial] = field(default_factory=dict)
    _hard: dict[Traffic, list[int]] = field(default_factory=dict)
    _few: list[tuple[tuple[Any, ...], Bound, int]] = field(default_factory=list)
    _samples: dict[tuple[Any, ...], Arrivals] = field(default_factory=dict)
    _alone: dict[tuple[object, ...], float] = field(default_factory=dict)

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

    def broken_alone(self, candidate: Candidate, copies: Copies, bounds: Sequence[Bound]) -> Bound | None:
        """A bound that requests break even alone; None if there is none."""
        for bound in bounds:
            key = (candidate.key, copies, bound.metric, bound.share)
            if key not in self._alone:
                fleet, requests = candidate.fleet(copies), self.demand.requests
                self._alone[key] = alone_s(fleet, requests, bound.metric, bound.share)
            if self._alone[key] >= bound.seconds:
                return bound
        return None

    def of(self, candidate: Candidate, copies: Copies, seed: int, traffic: Traffic) -> Trial:
        """The run of a fleet, from memory if it was run before."""
        return self._run(candidate, copies, seed, self.arrivals(seed, traffic), (seed, traffic))

    def _run(self, candidate: Candidate, copies: Copies, seed: int, requests: Arrivals, name: tuple[Any, ...]) -> Trial:
        key = (candidate.key, copies, *name)
        if key not in self._done:
            ran = key in self._ahead
            self._done[key] = self._ahead.pop(key) if ran else _trial(candidate, copies, seed, requests)
            self.runs += 1
            self.requests += len(requests.arrival_s)
        return self._done[key]

    def _run_ahead(self, candidate: Candidate, copies: Copies, seeds: Sequence[int], traffic: Traffic) -> None:
        """Run the next seeds side by side, one for each core."""
        keys = {seed: (candidate.key, copies, seed, traffic) for seed in seeds}
        wanted = [seed for seed, key in keys.items() if key not in self._done and key not in self._ahead]
        if len(wanted) > 1:
            samples = [self.arrivals(seed, traffic) for seed in wanted]
            with ThreadPoolExecutor(len(wanted)) as threads:
                work = [threads.submit(_trial, candidate, copies, *each) for each in zip(wanted, samples, strict=True)]
            self._ahead |= {keys[seed]: each.result() for seed, each in zip(wanted, work, strict=True)}

    def broken(
        self, candidate: Candidate, copies: Copies, seed: int, bounds: Sequence[Bound], traffic: Traffic
    ) -> list[Broken]:
        """The bounds that a fleet breaks, the worst first; empty if it keeps all of them."""
        trial = self.of(candidate, copies, seed, traffic)
        reached = [(bound, value_at(trial.tally, METRICS[bound.metric], bound.share)) for bound in bounds]
        over = [Broken(bound.name, value, value / bound.seconds) for bound, value in reached if value >= bound.seconds]
        late = trial.end_s - self.span_s(traffic)
        if late > self.late_s:
            over.append(Broken(LATE, late, late / self.late_s))
        return sorted(over, key=lambda each: -each.ratio)

    def quickly_broken(
        self, candidate: Candidate, copies: Copies, seed: int, bounds: Sequence[Bound], traffic: Traffic
    ) -> tuple[Trial, list[Broken]]:
        """The same, and the run that shows it: of the busiest part alone where that is enough.

        It is enough if more of its requests are late than may be of all: those before and after it only add to them.
        """
        whole = self.arrivals(seed, traffic)
        is_long = traffic.times == 1.0 and len(whole.arrival_s) >= SCREENED
        if is_long and (candidate.key, copies, seed, traffic) not in self._done:
            part = self._part(seed, traffic)
            trial = self._run(candidate, copies, seed, part, (seed, traffic, "part"))
            broken = []
            for bound in bounds:
                ratio = _weight(whole, bound.metric) / max(_weight(part, bound.metric), 1.0)
                share = 1.0 - (1.0 - bound.share) * ratio
                seconds = value_at(trial.tally, METRICS[bound.metric], share) if share > 0.0 else 0.0
                if seconds >= bound.seconds:
                    broken.append(Broken(bound.name, seconds, seconds / bound.seconds))
            if broken:
                return trial, sorted(broken, key=lambda each: -each.ratio)
        found = self.broken(candidate, copies, seed, bounds, traffic)
        return self.of(candidate, copies, seed, traffic), found

    def note_too_few(
        self, role: str, layout: tuple[int, ...], seed: int, bounds: Sequence[Bound], traffic: Traffic, broken: Broken,
        count: int,
    ) -> None:  # fmt: skip
        """Remember that so many of a role were to blame for a broken bound."""
        bound = next((bound for bound in bounds if bound.name == broken.name), None)
        if bound is not None:
            self._few.append(((role, layout, seed, traffic), bound, count))

    def too_few(self, role: str, layout: tuple[int, ...], seed: int, bounds: Sequence[Bound], traffic: Traffic) -> int:
        """The most of a role that were to blame for a bound that is at least as tight among these ones; 0 if none."""
        return max(
            (
                count
                for key, broken, count in self._few
                if key == (role, layout, seed, traffic) and any(_as_tight(bound, broken) for bound in bounds)
            ),
            default=0,
        )

    def _part(self, seed: int, traffic: Traffic) -> Arrivals:
        """The span of a sample with the most tokens, `PART` of its time."""
        key = (seed, traffic, "part")
        if key not in self._samples:
            whole = self.arrivals(seed, traffic)
            width = PART * self.span_s(traffic)
            starts = np.linspace(0.0, self.span_s(traffic) - width, 4 * round(1.0 / PART))
            work = np.append(0, np.cumsum(whole.prompt - whole.cached + whole.output))
            ends = np.searchsorted(whole.arrival_s, np.stack([starts, starts + width]))
            first, last = ends[:, int(np.argmax(work[ends[1]] - work[ends[0]]))]
            rows = slice(int(first), int(last))
            arrival_s = whole.arrival_s[rows] - whole.arrival_s[rows][:1]
            self._samples[key] = Arrivals(arrival_s, whole.prompt[rows], whole.output[rows], whole.cached[rows])
        return self._samples[key]

    def note_hard(self, seed: int, traffic: Traffic) -> None:
        """Remember that a fleet that kept its bounds under another seed broke one under this one."""
        hard = self._hard.setdefault(traffic, [])
        if seed in hard:
            hard.remove(seed)
        hard.insert(0, seed)

    def hardest_first(self, seeds: Sequence[int], traffic: Traffic) -> list[int]:
        """The seeds, those first that were the last to break a bound: a burst in one is hard for every layout."""
        hard = [seed for seed in self._hard.get(traffic, []) if seed in seeds]
        return [*hard, *(seed for seed in seeds if seed not in hard)]

    def keeps(
        self, candidate: Candidate, copies: Copies, seeds: Sequence[int], bounds: Sequence[Bound], traffic: Traffic
    ) -> int | None:
        """The first seed in which a fleet breaks a bound; None if it keeps them in all."""
        at_once = cores() if RUNS_IN_THREADS else 1
        for place, seed in enumerate(seeds):
            if place % at_once == 0:
                self._run_ahead(candidate, copies, seeds[place : place + at_once], traffic)
            if self.broken(candidate, copies, seed, bounds, traffic):
                return seed
        return None


def _trial(candidate: Candidate, copies: Copies, seed: int, requests: Arrivals) -> Trial:
    outcome = candidate.fleet(copies).serve([requests], False, seed, is_brief=True)
    tally, end_s, busy_s = outcome.tally, outcome.end_s, outcome.fleet.clock[:, BUSY_S]
    return Trial(
        tally=tally._replace(histograms=tally.histograms[:, :1].copy()),  # all in the first part
        end_s=end_s,
        busy=float(busy_s[outcome.prefills :].mean()) / max(end_s, 1e-12),
        prefill_busy=float(busy_s[: outcome.prefills].sum()) / max(end_s * outcome.prefills, 1e-12),
        preemptions=int(tally.totals[PREEMPTED]),
    )


def _as_tight(bound: Bound, other: Bound) -> bool:
    same = bound.metric == other.metric
    return same and bound.percentile >= other.percentile and bound.seconds <= other.seconds


def _weight(requests: Arrivals, metric: str) -> float:
    """How often a latency is counted."""
    later = requests.output - 1
    return float({"tpot": np.count_nonzero(later), "inter_token": later.sum()}.get(metric, len(later)))


def reached(trial: Trial, bounds: Sequence[Bound]) -> dict[str, float]:
    """Seconds at each bound's percentile."""
    return {bound.name: value_at(trial.tally, METRICS[bound.metric], bound.share) for bound in bounds}


def worst(values: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of each over several runs."""
    names = values[0] if values else {}
    return {name: float(np.max([each[name] for each in values])) if values else math.nan for name in names}
