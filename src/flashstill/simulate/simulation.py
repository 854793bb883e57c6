"""Simulate traffic on a deployment: from a question to latencies, rates, energy and dollars."""

from __future__ import annotations

from typing import Any

from flashstill.economics import RENTED, hourly_price
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import resolve
from flashstill.plan.scenario import Scenario
from flashstill.simulate.answer import Simulation, simulation_of
from flashstill.simulate.engine import run
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import limits_of, replicas_of, requests_of
from flashstill.simulate.tables import step_tables
from flashstill.simulate.traffic import Traffic


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
    pieces, sizes = requests_of(traffic, seed)
    scenario = Scenario(model=model, isl=sizes.isl, osl=sizes.osl, batch=1)
    resolved, replicas, notes = replicas_of(resolve(facts, scenario, deployment), policy.replicas)
    limits, cache_tokens = limits_of(facts, resolved, policy, sizes)
    tables = step_tables(resolved, limits.sequences, limits.tokens, resolved.model.context)
    outcome = run(tables, limits, pieces, replicas, traffic.closed, seed, moment_s=sizes.moment_s)
    paid = hourly_price(facts, resolved.chip.name, price)
    return simulation_of(resolved, policy, traffic, seed, outcome, replicas, cache_tokens, paid, notes)
