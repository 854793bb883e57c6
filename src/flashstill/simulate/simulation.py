"""Simulate traffic on a deployment: from a question to latencies, rates, energy and dollars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flashstill.cost.footprint import most_sequences
from flashstill.economics import RENTED, HourlyPrice, hourly_price, usd_per_million_tokens
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.policy import CHUNKED, PREFILL_FIRST, Policy
from flashstill.simulate.results import Latency, Steadiness, latencies, steadiness
from flashstill.simulate.state import BUSY_S, JOULES, ROUTERS, Limits
from flashstill.simulate.tables import step_tables
from flashstill.simulate.tally import (
    ARRIVED,
    CACHED_IN,
    DONE,
    GOOD,
    LINES,
    PREEMPTED,
    REFUSED,
    TOKENS_IN,
    TOKENS_OUT,
)
from flashstill.simulate.traces import read_trace
from flashstill.simulate.traffic import Traffic, generated
from flashstill.tables import cell, html_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation:
    """What traffic gets on replicas of a deployment. Seconds; joules of the chips, host and facility excluded.

    goodput_ratio: share of the requests that arrived which kept both bounds.  cache_tokens: room of one replica.
    timeline: line -> mean value in each of consecutive intervals of moment_s seconds.
    """

    deployment: Deployment
    policy: Policy
    traffic: Traffic
    seed: int
    requests: int
    finished: int
    refused: int
    preemptions: int
    seconds: float
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    latencies: dict[str, Latency]
    goodput_ratio: float
    goodput_per_s: float
    output_tokens_per_s: float
    utilisation: float
    mean_running: float
    mean_in_system: float
    cache_tokens: int
    joules_per_output_token: float
    usd_per_million_output_tokens: float | None
    price_basis: str
    steady: Steadiness | None
    moment_s: float
    timeline: dict[str, list[float]]
    notes: tuple[str, ...]

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per latency: n, mean, and each percentile with its low and high end, in seconds."""
        rows = []
        for name, each in self.latencies.items():
            row: dict[str, Any] = {"latency": name, "n": each.n, "mean_s": each.mean_s}
            for at, (value, low, high) in each.percentiles.items():
                row |= {f"p{at}": value, f"p{at}_low": low, f"p{at}_high": high}
            rows.append(row)
        return rows

    def _repr_html_(self) -> str:
        names = ("latency", "n", "mean_s", "p50", "p90", "p95", "p99")
        rows = [[cell(row[name]) for name in names] for row in self.as_records()]
        return html_table(names, rows, f"{self.requests:,} requests in {self.seconds:,.0f} s")

    def as_dict(self) -> dict[str, Any]:
        """As plain values; percentiles as p50: {value, low, high}, and infinite bounds as None."""
        values = asdict(self)
        values["latencies"] = {
            name: {
                "n": each.n,
                "mean_s": each.mean_s,
                **{
                    f"p{at}": dict(zip(("value", "low", "high"), ends, strict=True))
                    for at, ends in each.percentiles.items()
                },
            }
            for name, each in self.latencies.items()
        }
        values["traffic"]["trace"] = None if self.traffic.trace is None else str(self.traffic.trace)
        if self.steady is not None:
            values["steady"]["is_steady"] = self.steady.is_steady
        return values


def simulate(
    facts: Facts,
    model: str | Any,
    deployment: Deployment,
    traffic: Traffic,
    policy: Policy | None = None,
    seed: int = 0,
    price: str = RENTED,
) -> Simulation:
    """Serve the traffic on replicas of the deployment, event by event; the same answer for the same seed.

    Raises BadInput for a mistake, InfeasiblePlan if the memory holds no request.
    """
    policy = policy or Policy()
    if deployment.has_prefill_pool:
        raise BadInput("pools of their own for prefill and decoding are not simulated; `predict` answers for them")
    pieces, sizes = _requests(traffic, seed)
    scenario = Scenario(model=model, isl=sizes.isl, osl=sizes.osl, batch=1)
    resolved, replicas, notes = _replicas(resolve(facts, scenario, deployment), policy.replicas)
    limits, cache_tokens = _limits(facts, resolved, policy, sizes)
    tables = step_tables(resolved, limits.sequences, limits.tokens, resolved.model.context)
    outcome = run(tables, limits, pieces, replicas, traffic.closed, seed, moment_s=sizes.moment_s)
    paid = hourly_price(facts, resolved.chip.name, price)
    return _simulation(resolved, policy, traffic, seed, outcome, replicas, cache_tokens, paid, notes)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sizes:
    """Typical sizes of the requests: of the first piece of a trace, or as asked."""

    isl: int
    osl: int
    mean_tokens: float
    moment_s: float


def _requests(traffic: Traffic, seed: int) -> tuple[Iterator[Arrivals], _Sizes]:
    if traffic.trace is None:
        sizes = _Sizes(isl=traffic.isl, osl=traffic.osl, mean_tokens=traffic.mean_tokens, moment_s=0.1)
        return generated(traffic, seed), sizes
    pieces = read_trace(traffic.trace, traffic.speed)
    first = next(pieces, None)
    if first is None:
        raise BadInput(f"{traffic.trace} holds no requests")
    prompt, output = first.prompt, first.output
    sizes = _Sizes(
        isl=max(int(np.median(prompt)), 1),
        osl=max(int(np.median(output)), 1),
        mean_tokens=float(np.average(prompt + output / 2.0, weights=output)),  # of the tokens that decode
        moment_s=max(float(first.arrival_s[-1]) / 400.0, 1e-3),
    )
    return itertools.chain([first], pieces), sizes


def _replicas(resolved: Resolved, copies: int) -> tuple[Resolved, int, tuple[str, ...]]:
    """Replicas of a dense model inside a deployment run on their own; those of attention share their experts."""
    degrees = resolved.degrees
    if degrees.dp == 1 or resolved.model.routed:
        return resolved, copies, resolved.notes
    alone = degrees._replace(dp=1)
    return replace(resolved, degrees=alone), copies * degrees.dp, resolved.notes


def _limits(facts: Facts, resolved: Resolved, policy: Policy, sizes: _Sizes) -> tuple[Limits, int]:
    """The scheduler's settings, those left open as the engine has them, and the tokens of cache of one replica."""
    model, conditions, layout = resolved.model, resolved.conditions, resolved.layout
    software = conditions.software

    def default(quantity: str) -> int:
        own = facts.find(f"engine-{software.name}", quantity)
        return int(facts.value("engine", quantity) if own is None else own.value)

    scheduler = policy.scheduler or (CHUNKED if software.mixed_ratio >= 0.5 else PREFILL_FIRST)
    tokens = max(sizes.mean_tokens, 1.0)
    room = float(most_sequences(model, conditions, layout, tokens)) * tokens
    block = policy.block_tokens or default("cache_block_tokens")
    blocks = int(min(room, 1e12) // block)
    if blocks < 1:
        raise InfeasiblePlan(f"{model.name} leaves no memory for a cache on {resolved.chips} chips", {NOT_FITTING: 1})
    limits = Limits(
        sequences=policy.sequences or default("running_sequences"),
        tokens=policy.step_tokens or int(software.prefill_tokens),
        block=block,
        blocks=blocks,
        prefill_first=scheduler == PREFILL_FIRST,
        reserves=software.reserved_ratio >= 1.0,
        router=ROUTERS.index(policy.router),
        ttft_s=policy.max_ttft_s or math.inf,
        tpot_s=policy.max_tpot_s or math.inf,
        first_s=software.first_s,
    )
    return limits, blocks * block


def _simulation(
    resolved: Resolved,
    policy: Policy,
    traffic: Traffic,
    seed: int,
    outcome: Outcome,
    replicas: int,
    cache_tokens: int,
    paid: HourlyPrice,
    notes: tuple[str, ...],
) -> Simulation:
    tally, fleet, span = outcome.tally, outcome.fleet, max(outcome.end_s, 1e-12)
    totals, chips = tally.totals, resolved.chips * replicas
    busy = float(fleet.clock[:, BUSY_S].sum())
    idle_j = resolved.chip.idle_w * resolved.chips * (span * replicas - busy)
    output = int(totals[TOKENS_OUT])
    width, moments = float(tally.moment[0]), math.ceil(span / float(tally.moment[0]))
    lines = {name: (tally.lines[:moments, number] / width).tolist() for number, name in enumerate(LINES)}
    return Simulation(
        deployment=resolved.deployment,
        policy=policy,
        traffic=traffic,
        seed=seed,
        requests=int(totals[ARRIVED]),
        finished=int(totals[DONE]),
        refused=int(totals[REFUSED]),
        preemptions=int(totals[PREEMPTED]),
        seconds=span,
        input_tokens=int(totals[TOKENS_IN]),
        cached_tokens=int(totals[CACHED_IN]),
        output_tokens=output,
        latencies=latencies(tally),
        goodput_ratio=float(totals[GOOD] / max(totals[ARRIVED], 1)),
        goodput_per_s=float(totals[GOOD] / span),
        output_tokens_per_s=output / span,
        utilisation=busy / (span * replicas),
        mean_running=float(tally.lines[:, 0].sum() / span),
        mean_in_system=float(tally.area[0] / span),
        cache_tokens=cache_tokens,
        joules_per_output_token=(float(fleet.clock[:, JOULES].sum()) + idle_j) / max(output, 1),
        usd_per_million_output_tokens=usd_per_million_tokens(paid, span, float(chips), float(max(output, 1))),
        price_basis=paid.basis,
        steady=steadiness(tally),
        moment_s=width,
        timeline=lines,
        notes=notes,
    )
