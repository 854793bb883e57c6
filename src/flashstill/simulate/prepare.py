"""What a simulation needs before its first event: requests and their sizes, replicas, and the scheduler's limits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from flashstill.cost import Conditions
from flashstill.cost.footprint import most_sequences, sequence_bytes
from flashstill.errors import BadInput, InfeasiblePlan, check_seed
from flashstill.facts import Facts
from flashstill.parallel import Layout
from flashstill.plan.engines import spare_ratio
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.resolve import Resolved
from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.policy import CHUNKED, DECODE_PRIORITY, LRU, OFF, PREFILL_FIRST, SLO_AWARE, SWAP, Policy
from flashstill.simulate.state import ALL, ANY_TIME, BEHIND, PREFIX_ROUTER, ROUTERS, TURNED_DOWN, Limits
from flashstill.simulate.tables import ranks_of
from flashstill.simulate.traces import pieces_of
from flashstill.simulate.traffic import Traffic, generated
from flashstill.traces.reader import Trace


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Typical sizes of the requests: of the first piece of a trace, or as asked."""

    isl: int
    osl: int
    mean_tokens: float
    moment_s: float
    hash_block: int = 0
    """tokens of a block that requests name for the prefix cache (or AS_CACHE_BLOCKS); 0 if they name none"""
    trace: Trace | None = None
    """where they come from, which tells at its end what was left out"""


AS_CACHE_BLOCKS = -1
"""in place of the tokens of a hash block: those of the engine's cache blocks"""


def requests_of(traffic: Traffic, seed: int) -> tuple[Iterator[Arrivals], Sizes]:
    """The requests, and their sizes; those of agents and of conversations come one after the other (agents.py,
    sessions.py)."""
    check_seed(seed)
    if traffic.agents is not None:
        sizes = Sizes(
            isl=traffic.shared_prefix + traffic.isl, osl=traffic.osl, mean_tokens=traffic.mean_tokens, moment_s=0.1,
            hash_block=AS_CACHE_BLOCKS,
        )  # fmt: skip
        return iter(()), sizes
    if traffic.trace is None and traffic.lengths is None and not traffic.by_clients:
        sizes = Sizes(isl=traffic.isl, osl=traffic.osl, mean_tokens=traffic.mean_tokens, moment_s=0.1)
        return generated(traffic, seed), sizes
    trace = None if traffic.trace is None else Trace(traffic.trace, traffic.reading, traffic.waits)
    if trace is None:
        pieces, source = generated(traffic, seed), traffic.daily or traffic.lengths
    else:
        pieces, source = pieces_of(trace, traffic.speed), trace.path
    first = next(pieces, None)
    if first is None:
        raise BadInput(f"{source} holds no requests")
    sizes = sizes_of(first)
    if trace is not None:
        named = trace.hash_block or (AS_CACHE_BLOCKS if traffic.waits else 0)
        sizes = replace(sizes, hash_block=named, trace=trace)
    if traffic.waits:
        return iter(()), sizes
    return itertools.chain([first], pieces), sizes


def sizes_of(requests: Arrivals) -> Sizes:
    """Typical sizes of requests in order of arrival."""
    prompt, output = requests.prompt, requests.output
    last_s = float(requests.arrival_s[-1])
    return Sizes(
        isl=max(int(np.median(prompt)), 1),
        osl=max(int(np.median(output)), 1),
        mean_tokens=float(np.average(prompt + output / 2.0, weights=output)),  # of the tokens that decode
        moment_s=max(last_s / 400.0, 1e-3) if math.isfinite(last_s) else 0.1,
    )


def replicas_of(resolved: Resolved, copies: int) -> tuple[Resolved, int, tuple[str, ...]]:
    """The replicas that run, each with its own cache and line. Those of a dense model inside a deployment (dp) run on
    their own; those of attention share their experts, and so step together (lockstep.py)."""
    degrees = resolved.degrees
    if degrees.dp == 1:
        return resolved, copies, resolved.notes
    if resolved.model.routed:
        note = (
            f"{degrees.dp} replicas of attention step together, each with sequences and a budget of tokens of its own"
        )
        return resolved, copies * degrees.dp, (*resolved.notes, note)
    alone = degrees._replace(dp=1)
    return replace(resolved, degrees=alone), copies * degrees.dp, resolved.notes


def engine_default(facts: Facts, conditions: Conditions, quantity: str) -> int:
    """A setting of the engine, as it has it on chips of this class if a row says so (cpu.steps_ahead), or that of most
    engines."""
    here = f"{conditions.chip.chip_class}.{quantity}"
    rows = (facts.find(owner, name) for owner in conditions.software.owners for name in (here, quantity))
    own = next((row for row in rows if row is not None), None)
    return int(facts.value("engine", quantity) if own is None else own.value)


def is_prefill_first(conditions: Conditions, policy: Policy) -> bool:
    """Whether prompts stop the decoding."""
    scheduler = policy.scheduler or (CHUNKED if conditions.software.mixed_ratio >= 0.5 else PREFILL_FIRST)
    return scheduler in (PREFILL_FIRST, DECODE_PRIORITY)


def most_running(facts: Facts, conditions: Conditions, policy: Policy) -> int:
    """Most sequences of a replica that run at once."""
    return policy.sequences or engine_default(facts, conditions, "running_sequences")


def most_step_tokens(conditions: Conditions, policy: Policy, layout: Layout) -> int:
    """Most tokens of a step: of each of the batches that go round in a pipeline as many as the engine takes at once."""
    return int(layout.pp) * most_pass_tokens(conditions, policy)


def most_pass_tokens(conditions: Conditions, policy: Policy) -> int:
    """Most tokens that an engine takes at once."""
    return policy.step_tokens or int(conditions.software.prefill_tokens)


def steps_ahead(facts: Facts, conditions: Conditions, layout: Layout) -> int:
    """Steps ahead of which the engine schedules. In a pipeline none: SGLang turns its overlap schedule off, and
    TensorRT-LLM has another loop; a step is a round of batches here, in which one waits for more than a batch."""
    return 0 if float(layout.pp) > 1.0 else engine_default(facts, conditions, "steps_ahead")


def with_way(limits: Limits, before_s: float, way_s: float) -> Limits:
    """The limits of a measured server, whose way in and out is known and takes the place of the engine's, before_s:
    in first tokens, and in the loop from the end of an answer over the client to the next request."""
    return limits._replace(first_s=way_s, return_s=limits.return_s - before_s + way_s)


def limits_of(facts: Facts, resolved: Resolved, policy: Policy, sizes: Sizes) -> tuple[Limits, int]:
    """The scheduler's settings, those left open as the engine has them, and the tokens of cache of one replica."""
    model, conditions, layout = resolved.model, resolved.conditions, resolved.layout
    software = conditions.software
    tokens = max(sizes.mean_tokens, 1.0)
    speculation = resolved.setup.speculation
    small = speculation.draft if speculation else None
    ranks = ranks_of(resolved)
    room = float(most_sequences(model, conditions, layout, tokens, small)) * tokens / ranks
    block = policy.block_tokens or engine_default(facts, conditions, "cache_block_tokens")
    blocks = min(int(min(room, 1e12) // block), policy.cache_blocks or ALL)
    if blocks < 1:
        raise InfeasiblePlan(f"{model.name} leaves no memory for a cache on {resolved.chips} chips", {NOT_FITTING: 1})
    limits = Limits(
        sequences=min(most_running(facts, conditions, policy), policy.cache_blocks or ALL),
        tokens=most_step_tokens(conditions, policy, layout),
        block=block,
        blocks=blocks,
        prefill_first=is_prefill_first(conditions, policy),
        reserves=software.reserved_ratio >= 1.0,
        router=ROUTERS.index(policy.router),
        ttft_s=policy.max_ttft_s or math.inf,
        tpot_s=policy.max_tpot_s or math.inf,
        first_s=software.first_token_s,
        few=policy.refill_sequences if policy.scheduler == DECODE_PRIORITY else ALL,
        late=(TURNED_DOWN if policy.refuse_late else BEHIND) if policy.scheduler == SLO_AWARE else ANY_TIME,
        asks=policy.function is not None,
        # a client waits for the way in and out before its next request; launches (first_token_s) are the server's own
        return_s=facts.value("engine", "return_s") + software.first_s,
        ahead=steps_ahead(facts, conditions, layout),
        spare=math.ceil(spare_ratio(software.name) * blocks),
        ranks=ranks,
    )
    if policy.preemption == SWAP:
        if ranks > 1:
            raise BadInput("preemption swap is not simulated for replicas of attention that step together (dp above 1)")
        rate = facts.value(resolved.chip.name, "host_link_bytes_per_s")
        held = sequence_bytes(model, tokens, conditions.precisions.widths, layout)
        if small is not None:
            held = held + sequence_bytes(small, tokens, conditions.precisions.widths, layout)
        swap_s = float(held) / tokens * block / rate
        limits = limits._replace(swap_s=swap_s, swap_w=resolved.chip.idle_w * resolved.chips)
    return _with_prefix_cache(facts, policy, sizes.hash_block, limits), blocks * block


def _with_prefix_cache(facts: Facts, policy: Policy, hash_block: int, limits: Limits) -> Limits:
    """Settings of the prefix cache: a unit is a hash block, or a cache block of several of them."""
    margin = policy.prefix_margin
    if margin is None:
        margin = int(facts.value("engine", "prefix_router_requests"))
    if hash_block == 0 or policy.prefix_cache == OFF:
        if policy.prefix_cache == LRU or policy.router == PREFIX_ROUTER:
            asked = f"the router {PREFIX_ROUTER}" if policy.router == PREFIX_ROUTER else f"prefix_cache {LRU}"
            raise BadInput(
                f"{asked} needs a prefix cache and requests that name their blocks: agents, or a trace with hash_ids"
            )
        return limits
    block = limits.block
    hash_block = block if hash_block == AS_CACHE_BLOCKS else hash_block
    unit = max(hash_block, block)
    if hash_block % block and block % hash_block:
        raise BadInput(f"cache blocks of {block} tokens and hash blocks of {hash_block} do not divide each other")
    return limits._replace(unit=unit, unit_blocks=unit // block, key_stride=unit // hash_block, margin=margin)
