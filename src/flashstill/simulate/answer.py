"""The answer of a simulation: what was counted, as latencies, rates, energy and dollars."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved
from flashstill.simulate.engine import Outcome
from flashstill.simulate.kinds import caused, per_million
from flashstill.simulate.operations import Operations
from flashstill.simulate.policy import Policy
from flashstill.simulate.results import Latency, Steadiness, latencies, steadiness, too_few_to_tell
from flashstill.simulate.roles import RoleBill, RoleUse
from flashstill.simulate.sessions import Replayed
from flashstill.simulate.tally import (
    ARRIVED,
    CACHED_IN,
    DONE,
    EVICTED,
    FAILED,
    FAILURES,
    GOOD,
    LINES,
    PREEMPTED,
    REFUSED,
    RETRIED,
    SWAPPED,
    TOKENS_IN,
    TOKENS_OUT,
    TOO_LATE,
)
from flashstill.simulate.traffic import Traffic
from flashstill.tables import Displayed, Table, cell
from flashstill.units import TOKENS_PER_MILLION


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulation(Displayed):
    """What traffic gets on replicas of a deployment. Seconds; joules of the chips, host and facility excluded.

    prefill_deployment: a prefill instance that is on another kind of chip.
    refused: larger than the cache; refused_late: by the scheduler.  cached_tokens: of prompts, found in a
    prefix cache when they started; evicted_blocks: of prefix caches.  swapped_blocks: that
    went to the host or came back.  goodput_ratio: share of the requests that arrived
    which kept both bounds.  cache_tokens: room of one replica.  failed: given up after retries on other replicas;
    failures: of replicas.  replica_hours: paid for, cold starts included; roles: what "serve", or "prefill" and
    "decode", replicas did.
    usd_per_million, joules_per_million: by kind of token: cached, input (computed), output (kinds.py).
    replayed: the turns of a trace whose conversations wait for their answers (sessions.py).
    timeline: line -> mean value in each of consecutive intervals of moment_s seconds; utilisation: of the replicas.
    """

    deployment: Deployment
    prefill_deployment: Deployment | None
    policy: Policy
    operations: Operations
    traffic: Traffic
    seed: int
    requests: int
    finished: int
    refused: int
    refused_late: int
    failed: int
    retries: int
    failures: int
    preemptions: int
    seconds: float
    input_tokens: int
    cached_tokens: int
    evicted_blocks: int
    swapped_blocks: int
    output_tokens: int
    latencies: dict[str, Latency]
    goodput_ratio: float
    goodput_per_s: float
    output_tokens_per_s: float
    utilisation: float
    replica_hours: float
    roles: dict[str, RoleUse]
    mean_running: float
    mean_in_system: float
    cache_tokens: int
    joules_per_output_token: float
    usd_per_million_output_tokens: float | None
    joules_per_million: dict[str, float | None]
    usd_per_million: dict[str, float | None] | None
    price_basis: str
    steady: Steadiness | None
    moment_s: float
    timeline: dict[str, list[float]]
    notes: tuple[str, ...]
    replayed: Replayed | None = None

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row per latency: n, mean, and each percentile with its low and high end, in seconds."""
        rows = []
        for name, each in self.latencies.items():
            row: dict[str, Any] = {"latency": name, "n": each.n, "mean_s": each.mean_s}
            for at, (value, low, high) in each.percentiles.items():
                row |= {f"p{at}": value, f"p{at}_low": low, f"p{at}_high": high}
            rows.append(row)
        return rows

    def _table(self) -> Table:
        names = ("latency", "n", "mean_s", "p50", "p90", "p95", "p99")
        rows = [[cell(row[name]) for name in names] for row in self.as_records()]
        return Table(names, rows, f"{self.requests:,} requests in {self.seconds:,.0f} s")

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
        values["policy"], values["operations"] = self.policy.as_dict(), self.operations.as_dict()
        for name in ("trace", "daily", "lengths"):
            path = getattr(self.traffic, name)
            values["traffic"][name] = None if path is None else str(path)
        values["traffic"] |= values["traffic"].pop("reading")
        if self.steady is not None:
            values["steady"]["is_steady"] = self.steady.is_steady
        return values


def simulation_of(
    resolved: Resolved,
    policy: Policy,
    operations: Operations,
    traffic: Traffic,
    seed: int,
    outcome: Outcome,
    bills: dict[str, RoleBill],
    cache_tokens: int,
    notes: tuple[str, ...],
    prefill: Deployment | None = None,
    replayed: Replayed | None = None,
) -> Simulation:
    """bills: by role, the one that puts tokens out last.  prefill: one instance that is on another kind of chip."""
    tally, span = outcome.tally, max(outcome.end_s, 1e-12)
    totals = tally.totals
    roles = {name: bill.use for name, bill in bills.items()}
    hours = sum(role.replica_hours for role in roles.values())
    busy_hours = sum(role.utilisation * role.replica_hours for role in roles.values())
    joules = sum(role.joules for role in roles.values())
    output = int(totals[TOKENS_OUT])
    width, moments = float(tally.moment[0]), math.ceil(span / float(tally.moment[0]))
    tokens = {"cached": int(totals[CACHED_IN]), "input": int(totals[TOKENS_IN] - totals[CACHED_IN]), "output": output}
    usd = {name: bill.usd for name, bill in bills.items()}
    known = {name: dollars for name, dollars in usd.items() if dollars is not None}
    dollars = sum(known.values()) if len(known) == len(usd) else None
    usd_by_kind = caused((paid, bills[name].seconds) for name, paid in known.items())
    lines = {name: (tally.lines[:moments, number] / width).tolist() for number, name in enumerate(LINES)}
    lines["utilisation"] = [
        working / up if up else 0.0 for working, up in zip(lines["working"], lines["replicas_paid"], strict=True)
    ]
    return Simulation(
        deployment=resolved.deployment,
        prefill_deployment=prefill,
        policy=policy,
        operations=operations,
        traffic=traffic,
        seed=seed,
        requests=int(totals[ARRIVED]),
        finished=int(totals[DONE]),
        refused=int(totals[REFUSED]),
        refused_late=int(totals[TOO_LATE]),
        failed=int(totals[FAILED]),
        retries=int(totals[RETRIED]),
        failures=int(totals[FAILURES]),
        preemptions=int(totals[PREEMPTED]),
        seconds=span,
        input_tokens=int(totals[TOKENS_IN]),
        cached_tokens=int(totals[CACHED_IN]),
        evicted_blocks=int(totals[EVICTED]),
        swapped_blocks=int(totals[SWAPPED]),
        output_tokens=output,
        latencies=latencies(tally),
        goodput_ratio=float(totals[GOOD] / max(totals[ARRIVED], 1)),
        goodput_per_s=float(totals[GOOD] / span),
        output_tokens_per_s=output / span,
        utilisation=busy_hours / hours if hours else 0.0,
        replica_hours=hours,
        roles=roles,
        mean_running=float(tally.lines[:, 0].sum() / span),
        mean_in_system=float(tally.area[0] / span),
        cache_tokens=cache_tokens,
        joules_per_output_token=joules / max(output, 1),
        joules_per_million=per_million(
            joules, caused((each.use.joules, each.joules) for each in bills.values()), tokens
        ),
        usd_per_million=None if dollars is None else per_million(dollars, usd_by_kind, tokens),
        usd_per_million_output_tokens=None if dollars is None else dollars / max(output, 1) * TOKENS_PER_MILLION,
        price_basis="; ".join(
            dict.fromkeys(
                f"prefill {bill.paid.basis}" if name == "prefill" and prefill is not None else bill.paid.basis
                for name, bill in reversed(bills.items())
            )
        ),
        steady=steadiness(tally),
        moment_s=width,
        timeline=lines,
        notes=notes if traffic.rate is None else (*too_few_to_tell(int(totals[DONE])), *notes),
        replayed=replayed,
    )
