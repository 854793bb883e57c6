"""Simulate traffic on a deployment: from a question to latencies, rates, energy and dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flashstill.economics import RENTED, HourlyPrice, hourly_price
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.plan.served import served_steps
from flashstill.simulate.answer import Simulation, simulation_of
from flashstill.simulate.engine import Outcome, run
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import Sizes, limits_of, replicas_of, requests_of
from flashstill.simulate.state import Limits
from flashstill.simulate.tables import StepTables, step_tables, with_served_steps
from flashstill.simulate.traffic import Traffic


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A fleet that is ready for requests: one deployment with its step tables and limits, copied `replicas` times.

    It serves any number of runs, and none of them changes it.  cache_tokens: room of one replica.
    """

    resolved: Resolved
    policy: Policy
    replicas: int
    limits: Limits
    cache_tokens: int
    tables: StepTables
    sizes: Sizes
    paid: HourlyPrice
    notes: tuple[str, ...]

    def serve(self, pieces: Iterable[Arrivals], closed: bool, seed: int) -> Outcome:
        """Run requests through the fleet until the last one is finished."""
        return run(
            self.tables, self.limits, pieces, self.replicas, closed, seed, self.sizes.moment_s, self.policy.function
        )


def prepared(
    facts: Facts, model: str | Any, deployment: Deployment, policy: Policy, sizes: Sizes, price: str = RENTED
) -> Prepared:
    """The fleet for requests of these sizes. BadInput for a mistake, InfeasiblePlan if the memory holds no request."""
    if deployment.has_prefill_pool:
        raise BadInput("pools of their own for prefill and decoding are not simulated; `predict` answers for them")
    scenario = Scenario(
        model=model,
        isl=sizes.isl,
        osl=sizes.osl,
        batch=1,
        draft=policy.draft,
        draft_tokens=policy.draft_tokens,
        acceptance=policy.acceptance,
        acceptance_decay=policy.acceptance_decay,
    )
    resolved, replicas, notes = replicas_of(resolve(facts, scenario, deployment), policy.replicas)
    limits, cache_tokens = limits_of(facts, resolved, policy, sizes)
    tables = step_tables(resolved, limits.sequences, limits.tokens, resolved.model.context)
    served = served_steps(facts, resolved.model, resolved.conditions)
    if served is not None:
        tables, limits = with_served_steps(tables, served), limits._replace(first_s=served.first_s)
        notes = (*notes, "steps take what a server of this stack was measured to take")
    return Prepared(
        resolved=resolved,
        policy=policy,
        replicas=replicas,
        limits=limits,
        cache_tokens=cache_tokens,
        tables=tables,
        sizes=sizes,
        paid=hourly_price(facts, resolved.chip.name, price),
        notes=notes,
    )


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
    pieces, sizes = requests_of(traffic, seed)
    return simulated(prepared(facts, model, deployment, policy or Policy(), sizes, price), traffic, pieces, seed)


def simulated(fleet: Prepared, traffic: Traffic, pieces: Iterable[Arrivals], seed: int = 0) -> Simulation:
    """Serve the requests of some traffic, in order of arrival, on a fleet that is ready."""
    outcome = fleet.serve(pieces, traffic.closed, seed)
    return simulation_of(
        fleet.resolved, fleet.policy, traffic, seed, outcome, fleet.replicas, fleet.cache_tokens, fleet.paid,
        fleet.notes,
    )  # fmt: skip
