"""Sweeps of simulations over loads, policies, layouts and seeds: one flat row for each, in the order they were asked.

A row depends on its run alone, so that it is the same whatever the number of workers (workers.py).  What a fleet needs
before its first request is prepared once in each worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from flashstill.errors import BadInput, FlashstillError
from flashstill.facts import Facts, load
from flashstill.plan.deployment import Deployment
from flashstill.simulate.answer import Simulation
from flashstill.simulate.operations import AS_THEY_ARE, Operations
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.simulation import Prepared, prepared, simulated
from flashstill.simulate.traffic import Traffic

Row = dict[str, Any]
SHOWN = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run. label: of its series, where there are several; load: requests per second, or a trace's speed.

    facts: directories of facts and edits, with which a worker loads its own.  columns: of its row, before the figures.
    """

    label: str
    load: float
    model: str
    deployment: Deployment
    traffic: Traffic
    policy: Policy
    seed: int
    price: str
    facts: tuple[tuple[Path, ...], tuple[str, ...]]
    operations: Operations = AS_THEY_ARE
    columns: tuple[tuple[str, Any], ...] = ()

    @property
    def named(self) -> dict[str, Any]:
        """The columns of its row that say which run it is."""
        return {"label": self.label, "load": self.load, "seed": self.seed, **dict(self.columns)}


def load_of(traffic: Traffic) -> float:
    """The load of a traffic: its rate, the speed of its trace, the factor of its daily curve, or those in flight."""
    if traffic.trace is not None:
        return traffic.speed
    if traffic.daily is not None:
        return traffic.rate_scale
    load = next(each for each in (traffic.rate, traffic.concurrency, traffic.agents) if each is not None)
    return float(load)


def seeded(base: Job, seeds: int) -> list[Job]:
    """The same run with so many seeds, from its own on."""
    if seeds < 1:
        raise BadInput(f"a sweep needs at least one seed, not {seeds}")
    return [replace(base, load=load_of(base.traffic), seed=base.seed + number) for number in range(seeds)]


def jobs_of(base: Job, loads: Sequence[float], seeds: int) -> list[Job]:
    """Every load with every seed, from the base's seed on; loads change slowest."""
    if seeds < 1:
        raise BadInput(f"a sweep needs at least one seed, not {seeds}")
    for name in ("concurrency", "agents"):
        if getattr(base.traffic, name) is not None:
            raise BadInput(f"a sweep goes over rates, or the speeds of a trace; leave --{name} out")
    return [
        replace(base, load=load, seed=base.seed + number, traffic=_at(base.traffic, load))
        for load, number in itertools.product(loads, range(seeds))
    ]


def _at(traffic: Traffic, load: float) -> Traffic:
    if traffic.daily is not None:
        return replace(traffic, rate_scale=load)
    return replace(traffic, rate=load) if traffic.trace is None else replace(traffic, speed=load)


def label_of(columns: Mapping[str, Any]) -> str:
    """What a run sets, for people."""
    return ", ".join(f"{name}={value}" for name, value in columns.items())


def each_row(
    runs: Sequence[Job | Row], workers: int | None = None, dask: str | None = None
) -> Iterator[tuple[int, Row]]:
    """The row of every run with its place, as they are done. runs: also rows of those that cannot be, told first.

    Raises BadInput if a scheduler of the user's would have to run in other processes.
    """
    from flashstill.simulate.workers import each_done

    jobs = [(place, each) for place, each in enumerate(runs) if isinstance(each, Job)]
    if any(job.policy.function is not None for _, job in jobs):  # other processes do not know a function of a user
        if dask is not None or (workers or 1) > 1:
            raise BadInput("a scheduler of your own runs in one process; leave dask and workers out")
        workers = 1
    yield from ((place, each) for place, each in enumerate(runs) if not isinstance(each, Job))
    for number, row in each_done(row_of, [job for _, job in jobs], workers, dask):
        yield jobs[number][0], row


def row_of(job: Job) -> dict[str, Any]:
    """Simulate one run; a refusal is a row with its reason."""
    row: dict[str, Any] = job.named
    try:
        return {**row, "fits": True, **figures(run_of(job))}
    except FlashstillError as error:
        return {**row, "fits": False, "reason": str(error)}


def run_of(job: Job) -> Simulation:
    """The whole answer of one run."""
    return simulated(_fleet(replace(job, load=0.0, seed=0, label="", columns=())), job.traffic, _pieces(job), job.seed)


def _pieces(job: Job) -> Iterator[Any]:
    return requests_of(job.traffic, job.seed)[0]


@lru_cache(maxsize=4)
def _fleet_of(base: tuple[Any, ...]) -> Prepared:
    model, deployment, traffic, policy, price, facts, operations = base
    return prepared(_facts(*facts), model, deployment, policy, requests_of(traffic, 0)[1], price, operations)


def _fleet(job: Job) -> Prepared:
    """The fleet of a run; the same for all loads, as it depends on the lengths of requests alone."""
    return _fleet_of(
        (job.model, job.deployment, _at(job.traffic, 1.0), job.policy, job.price, job.facts, job.operations)
    )


@lru_cache(maxsize=1)
def _facts(directories: tuple[Path, ...], edits: tuple[str, ...]) -> Facts:
    return load(directories, edits)


def figures(answer: Simulation) -> dict[str, Any]:
    """The flat figures of a run: rates, shares, and percentiles with the ends of their intervals, in seconds."""
    row: dict[str, Any] = {
        name: getattr(answer, name)
        for name in (
            "requests", "finished", "refused", "refused_late", "failed", "preemptions", "seconds", "input_tokens",
            "cached_tokens", "output_tokens", "output_tokens_per_s", "goodput_ratio", "goodput_per_s", "utilisation",
            "mean_running", "joules_per_output_token", "usd_per_million_output_tokens",
        )
    }  # fmt: skip
    row["steady"] = None if answer.steady is None else answer.steady.is_steady
    for name, each in answer.latencies.items():
        short = name.removesuffix("_s")
        row[f"{short}_mean_s"] = each.mean_s
        for at in SHOWN:
            for part, value in zip(("", "_low", "_high"), each.percentiles[at], strict=True):
                row[f"{short}_p{at}{part}_s"] = value
    return row
