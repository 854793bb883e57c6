"""Sweeps of simulations over loads, policies, layouts and seeds: one flat row for each, in the order they were asked.

A row depends on its run alone, so that it is the same whatever the number of workers (workers.py).  What a fleet needs
before its first request is prepared once in each worker.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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

SHOWN = (50, 90, 95, 99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run. label: of its series, where there are several; load: requests per second, or a trace's speed.

    facts: directories of facts and edits, with which a worker loads its own.
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


def row_of(job: Job) -> dict[str, Any]:
    """Simulate one run; a refusal is a row with its reason."""
    row: dict[str, Any] = {"label": job.label, "load": job.load, "seed": job.seed}
    try:
        return {**row, "fits": True, **figures(run_of(job))}
    except FlashstillError as error:
        return {**row, "fits": False, "reason": str(error)}


def run_of(job: Job) -> Simulation:
    """The whole answer of one run."""
    return simulated(_fleet(replace(job, load=0.0, seed=0, label="")), job.traffic, _pieces(job), job.seed)


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
            "requests", "finished", "refused", "preemptions", "seconds", "input_tokens", "cached_tokens",
            "output_tokens", "output_tokens_per_s", "goodput_ratio", "goodput_per_s", "utilisation", "mean_running",
            "joules_per_output_token", "usd_per_million_output_tokens",
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
