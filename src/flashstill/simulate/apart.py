"""The prefill pool of a deployment, ready for the event loop: its replicas, and the transfers to the others.

The seconds and joules of a transfer are those of `predict` (cost/disaggregated.py), for every number of cached tokens.
Caches may go from any prefill replica to any decode replica, so that the fast links carry them only if one domain
joins all chips of the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flashstill.cost import Conditions
from flashstill.cost.disaggregated import Pools, transfer, transfer_joules_per_byte
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.plan.resolve import Resolved, resolve
from flashstill.plan.scenario import Scenario
from flashstill.plan.served import ServedSteps
from flashstill.simulate.course import PrefillPool
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import Sizes, limits_of, replicas_of
from flashstill.simulate.settings import Links
from flashstill.simulate.state import Limits, Values
from flashstill.simulate.tables import StepTables, ranks_of, step_tables, with_served_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Apart:
    """Prefill and decode replicas of a deployment with two pools. pool.replicas: of all copies of the deployment."""

    prefill: Resolved
    pool: PrefillPool

    def served(self, measured: ServedSteps) -> Apart:
        """With the steps that a server of this stack was measured to take."""
        tables = with_served_steps(self.pool.tables, measured)
        limits = self.pool.limits._replace(first_s=measured.first_s)
        return replace(self, pool=replace(self.pool, tables=tables, limits=limits))


def decode_pool(resolved: Resolved) -> Resolved:
    """The decode pool of a deployment as one of its own."""
    return replace(resolved, prefill=None)


def prefill_instance(resolved: Resolved) -> Resolved:
    """One prefill instance of a deployment that has them, as a deployment of its own."""
    assert resolved.prefill is not None
    return replace(resolved, degrees=resolved.prefill, prefill=None, setup=replace(resolved.setup, speculation=None))


def instance_on(facts: Facts, scenario: Scenario, deployment: Deployment, chip: str) -> Resolved:
    """One prefill instance on its own kind of chip; it drafts nothing."""
    resolved = resolve(facts, scenario, replace(deployment.of_prefill, chip=chip))
    return replace(resolved, setup=replace(resolved.setup, speculation=None))


def cache_layout(conditions: Conditions) -> tuple[str, str, float]:
    """What pools must have in common to send caches to each other: engine, format of the cache, bytes of a state."""
    held = conditions.precisions
    return conditions.software.name, held.kv, float(held.widths.activation)


def check_pair(prefill: Resolved, decode: Resolved) -> None:
    """BadInput if caches cannot go from one pool to the other, which is on another kind of chip."""
    names = f"{prefill.chip.name} and {decode.chip.name}"
    sends, receives = cache_layout(prefill.conditions), cache_layout(decode.conditions)
    if sends[0] != receives[0]:
        raise BadInput(f"{names} would run two engines, which lay out a cache in two ways; name one with engine")
    if sends != receives:
        raise BadInput(f"{names} would hold the cache in {sends[1]} and {receives[1]}; give one kv_precision")
    for each in (prefill, decode):
        if not each.chip.system.scale_out_bytes_per_s:
            raise BadInput(f"{each.chip.name} has no network beyond its own links over which a cache could travel")


def prefill_pool(
    facts: Facts, alone: Resolved, instances: int, policy: Policy, sizes: Sizes, decode: Resolved, tables: StepTables,
    decode_chips: int,
) -> Apart:  # fmt: skip
    """So many prefill instances. alone: one; decode, tables: one decode replica; decode_chips: of all of them.

    InfeasiblePlan if a prefill instance leaves no memory for a cache.
    """
    prefill, replicas, _ = replicas_of(alone, instances)
    limits = prompt_limits(facts, prefill, policy, sizes)
    everything = alone.degrees.chips * instances + decode_chips
    made = step_tables(prefill, limits.sequences, limits.tokens, prefill.model.context)
    return joined(prefill, decode, made, limits, replicas, everything, tables.contexts)


def prompt_limits(facts: Facts, prefill: Resolved, policy: Policy, sizes: Sizes) -> Limits:
    """The scheduler's settings of a prefill replica. InfeasiblePlan if it leaves no memory for a cache."""
    limits, _ = limits_of(facts, prefill, policy, replace(sizes, mean_tokens=float(sizes.isl)))
    return limits._replace(sends=True, reserves=False, ranks=1)  # prompts, never answers; ranks step alone


def joined(
    prefill: Resolved,
    decode: Resolved,
    tables: StepTables,
    limits: Limits,
    replicas: int,
    chips: int,
    contexts: Values,
) -> Apart:
    """Prefill replicas with the links to decode replicas. tables, limits, replicas: of the prefill pool; chips: of the
    whole fleet; contexts: knots of the cached tokens of a transfer.  The pools may be on two kinds of chips."""
    sender = prefill.conditions if prefill.chip.name != decode.chip.name else None
    pools = Pools(
        prefill=prefill.layout,
        instances=(chips - decode.layout.chips) / prefill.layout.chips,  # `transfer` asks only for all chips
        decode=decode.layout,
    )
    sent_bytes, seconds = transfer(decode.model, decode.conditions, pools, contexts, sender)
    joules_per_byte = transfer_joules_per_byte(decode.conditions, sender)
    shape = contexts.shape
    links = Links(
        contexts=contexts,
        seconds=np.broadcast_to(np.asarray(seconds, dtype=np.float64), shape).copy(),
        joules=np.broadcast_to(sent_bytes * joules_per_byte, shape).astype(np.float64),
        receives=int(decode.degrees.dp) // ranks_of(decode),
    )
    lanes = int(prefill.degrees.dp) // ranks_of(prefill)
    pool = PrefillPool(tables=tables, limits=limits, replicas=replicas, lanes=lanes, links=links)
    return Apart(prefill=prefill, pool=pool)
