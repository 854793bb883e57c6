"""Simulate traffic on a deployment: from a question to latencies, rates, energy and dollars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from flashstill.economics import RENTED, HourlyPrice, hourly_price
from flashstill.errors import BadInput, InfeasiblePlan
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.plan.served import served_steps
from flashstill.simulate.agents import Agents, agents_of
from flashstill.simulate.answer import Simulation, simulation_of
from flashstill.simulate.apart import Apart, check_pair, decode_pool, instance_on, prefill_instance, prefill_pool
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.course import STEADY, Course
from flashstill.simulate.engine import Outcome, Told, run
from flashstill.simulate.followers import Followers
from flashstill.simulate.operations import AS_THEY_ARE, Operations, course_of
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import Sizes, limits_of, replicas_of, requests_of, with_way
from flashstill.simulate.roles import RoleBill, role_bill
from flashstill.simulate.selection import WithinContext
from flashstill.simulate.sessions import Sessions, sessions_of
from flashstill.simulate.state import Limits
from flashstill.simulate.tables import StepTables, ranks_of, step_tables, with_served_steps
from flashstill.simulate.tally import ARRIVED, REFUSED
from flashstill.simulate.traffic import Traffic


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A fleet that is ready for requests: one deployment with its step tables and limits, copied `replicas` times.

    It serves any number of runs, and none of them changes it.  cache_tokens: room of one replica.  apart: the replicas
    that prefill for the others, if these have a pool of their own.  replicas: where their number changes, those of one
    copy of the deployment.  prefill_paid: the price of a chip that prefills, if it is another one.  way_s: into and out
    of the server, part of return_s of the limits.
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
    prefill_paid: HourlyPrice | None = None
    operations: Operations = AS_THEY_ARE
    apart: Apart | None = None
    course: Course = STEADY
    way_s: float = 0.0

    def with_client(self, traffic: Traffic) -> Prepared:
        """The fleet behind a client that takes as long as the traffic says, if it says so."""
        if traffic.turnaround_s is None:
            return self
        return replace(self, limits=self.limits._replace(return_s=traffic.turnaround_s + self.way_s))

    def serve(
        self, pieces: Iterable[Arrivals], closed: bool, seed: int, followers: Followers | None = None,
        is_brief: bool = False, told: Told = lambda arrived: None,
    ) -> Outcome:  # fmt: skip
        """Run requests, or those that follow others, through the fleet until the last one is finished.

        is_brief: without time lines, and without the parts of the run that intervals come from.  told: hears again and
        again how many requests have come.
        """
        return run(
            self.tables, self.limits, pieces, self.replicas, closed, seed, self.sizes.moment_s, self.policy.function,
            self.apart.pool if self.apart else None, self.course, followers, is_brief, told,
        )  # fmt: skip


def prepared(
    facts: Facts, model: str | Any, deployment: Deployment, policy: Policy, sizes: Sizes, price: str = RENTED,
    operations: Operations = AS_THEY_ARE,
) -> Prepared:  # fmt: skip
    """The fleet for requests of these sizes. BadInput for a mistake, InfeasiblePlan if the memory holds no request."""
    _check(deployment, policy, operations)
    scenario = Scenario(
        model=model,
        isl=sizes.isl,
        osl=sizes.osl,
        batch=1,
        draft=policy.draft,
        draft_tokens=policy.draft_tokens,
        acceptance=policy.acceptance,
        acceptance_decay=policy.acceptance_decay,
        measured_acceptance=policy.measured_acceptance,
    )
    other = policy.prefill_chip and instance_on(facts, scenario, deployment, policy.prefill_chip)
    whole = resolve(facts, scenario, deployment.of_decode if other else deployment)
    copies = 1 if operations.scales else policy.replicas
    resolved, replicas, notes = replicas_of(decode_pool(whole), copies)
    limits, cache_tokens = limits_of(facts, resolved, policy, sizes)
    if policy.cache_blocks and limits.blocks < policy.cache_blocks:
        notes = (*notes, f"the memory has room for {limits.blocks:,} of {policy.cache_blocks:,} cache blocks")
    tables = step_tables(resolved, limits.sequences, limits.tokens, resolved.model.context)
    apart = None
    if other:
        check_pair(other, resolved)
    if other or whole.prefill:
        each = deployment.prefill_instances or 1 if other else whole.prefill_instances
        apart = prefill_pool(
            facts, other or prefill_instance(whole), policy.prefill_replicas or each * copies, policy, sizes, resolved,
            tables, whole.degrees.chips * copies,
        )  # fmt: skip
    served, way_s = served_steps(facts, resolved.model, resolved.conditions), resolved.conditions.software.first_s
    if served is not None:
        tables, limits = with_served_steps(tables, served), with_way(limits, way_s, served.first_s)
        way_s = served.first_s
        notes = (*notes, "steps take what a server of this stack was measured to take")
        if apart:
            apart = apart.served(served)
    if operations.changes and apart and ranks_of(apart.prefill) > 1:
        raise BadInput("prefill instances whose attention is replicated (prefill_dp) neither fail nor scale here")
    course, estimates = course_of(facts, operations, policy.replicas, resolved, apart.prefill if apart else None)
    return Prepared(
        resolved=whole if apart else resolved,
        policy=policy,
        replicas=replicas,
        limits=limits,
        cache_tokens=cache_tokens,
        tables=tables,
        sizes=sizes,
        paid=hourly_price(facts, resolved.chip.name, price),
        prefill_paid=hourly_price(facts, other.chip.name, price) if other else None,
        notes=(*notes, *estimates),
        operations=operations,
        apart=apart,
        course=course,
        way_s=way_s,
    )


def _check(deployment: Deployment, policy: Policy, operations: Operations) -> None:
    """BadInput for settings that contradict each other."""
    if policy.prefill_replicas is not None:
        if not deployment.has_prefill_pool and policy.prefill_chip is None:
            raise BadInput("prefill_replicas are of a prefill pool; give its layout, as with prefill_chips")
        if operations.scales:
            raise BadInput(
                "prefill_replicas is a fixed number; where copies of the deployment come and go, give prefill_instances"
                " of one copy"
            )
    if operations.replicas_by_hour is not None and policy.replicas != 1:
        raise BadInput("give one of replicas and replicas_by_hour, not both")


def simulate(
    facts: Facts,
    model: str | Any,
    deployment: Deployment,
    traffic: Traffic,
    policy: Policy | None = None,
    seed: int = 0,
    price: str = RENTED,
    operations: Operations = AS_THEY_ARE,
    told: Told = lambda arrived: None,
) -> Simulation:
    """Serve the traffic on replicas of the deployment, event by event; the same answer for the same seed.

    Raises BadInput for a mistake, InfeasiblePlan if the memory holds no request.
    """
    pieces, sizes = requests_of(traffic, seed)
    fleet = prepared(facts, model, deployment, policy or Policy(), sizes, price, operations)
    return simulated(fleet, traffic, pieces, seed, told)


def simulated(
    fleet: Prepared, traffic: Traffic, pieces: Iterable[Arrivals], seed: int = 0, told: Told = lambda arrived: None
) -> Simulation:
    """Serve the requests of some traffic, in order of arrival, on a fleet that is ready."""
    if traffic.closed and fleet.policy.refuse_late:
        raise BadInput("refuse_late sends away requests of a closed loop, which would come again at once; give a rate")
    fleet = fleet.with_client(traffic)
    if traffic.spacing_s > 0.0 and fleet.limits.return_s == 0.0:
        raise BadInput("requests that follow without any return_s join the step that begins then; leave spacing_s out")
    taken = WithinContext(fleet.resolved.model.context)
    followers = _sessions(fleet, traffic, taken) if traffic.waits else _agents(fleet, traffic, seed)
    outcome = fleet.serve(taken.of(pieces), traffic.closed, seed, followers, told=told)
    _check_fitting(fleet, outcome)
    notes, replayed = fleet.notes, None
    if isinstance(followers, Sessions):
        notes, replayed = (*notes, *followers.trace.seen.notes(), *followers.notes), followers.replayed
    elif fleet.sizes.trace:
        notes = (*notes, *fleet.sizes.trace.seen.notes())
    prefill = fleet.apart.prefill.deployment if fleet.apart and fleet.policy.prefill_chip else None
    return simulation_of(
        fleet.resolved, fleet.policy, fleet.operations, traffic, seed, outcome, bills_of(fleet, outcome),
        fleet.cache_tokens, (*notes, *taken.notes()), prefill, replayed,
    )  # fmt: skip


def _check_fitting(fleet: Prepared, outcome: Outcome) -> None:
    """InfeasiblePlan if every request is larger than the cache."""
    arrived, refused = (int(outcome.tally.totals[each]) for each in (ARRIVED, REFUSED))
    if refused and refused == arrived:
        asked = f"none of the {arrived:,} requests fits" if arrived > 1 else "the only request does not fit"
        raise InfeasiblePlan(f"{asked} in the {_room(fleet):,} tokens of a replica's cache", {NOT_FITTING: arrived})


def _room(fleet: Prepared) -> int:
    """Tokens of the largest request that a replica of every role can hold."""
    limits = fleet.apart.pool.limits if fleet.apart else fleet.limits
    return min(fleet.cache_tokens, limits.blocks * limits.block)


def _sessions(fleet: Prepared, traffic: Traffic, taken: WithinContext) -> Sessions:
    """The conversations of the traffic's trace."""
    return sessions_of(traffic, fleet.limits, fleet.apart.pool.limits if fleet.apart else None, taken)


def _agents(fleet: Prepared, traffic: Traffic, seed: int) -> Agents | None:
    """The agents of the traffic, if it is theirs. BadInput, InfeasiblePlan if their last turns are too long."""
    if traffic.agents is None:
        return None
    longest, model = traffic.longest_tokens, fleet.resolved.model
    asked = f"the last turn of an agent has {longest:,} tokens with its answer"
    if longest > model.context:
        raise BadInput(f"{asked}, and {model.name} takes at most {model.context:,}; give fewer turns or shorter ones")
    limits = fleet.apart.pool.limits if fleet.apart else fleet.limits
    if longest > _room(fleet):
        raise InfeasiblePlan(f"{asked}, and the cache of a replica has room for {_room(fleet):,}", {NOT_FITTING: 1})
    return agents_of(traffic, seed, limits.unit, fleet.limits.return_s)


def bills_of(fleet: Prepared, outcome: Outcome) -> dict[str, RoleBill]:
    """What the replicas of each role did and cost: "serve", or "prefill" and "decode"."""
    if fleet.apart is None:
        return {"serve": role_bill(fleet.resolved, outcome.fleet, slice(None), fleet.paid)}
    decode, _, _ = replicas_of(decode_pool(fleet.resolved), 1)
    prefills, decodes = slice(0, outcome.prefills), slice(outcome.prefills, None)
    return {
        "prefill": role_bill(fleet.apart.prefill, outcome.fleet, prefills, fleet.prefill_paid or fleet.paid),
        "decode": role_bill(decode, outcome.fleet, decodes, fleet.paid),
    }
