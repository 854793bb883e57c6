"""The knee: the load at which waiting begins to grow without bound, in closed form and by simulation.

    closed form    what a replica serves while its line never empties (saturated.py), times the replicas
    simulation     the same of the whole fleet, with a 95 % interval (saturation.py)

They agree if the closed form lies within `TOLERANCE` of the simulation or inside its interval.  With bounds on
latencies, the load at which a percentile first breaks one is found as well (bound_knee.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from flashstill.economics import RENTED
from flashstill.errors import BadInput, joined_notes
from flashstill.facts import Facts
from flashstill.plan.deployment import Deployment
from flashstill.progress import Progress, Silent
from flashstill.simulate.arrivals import NO_KEYS, Arrivals
from flashstill.simulate.bound_knee import BoundKnee, Bounds, bound_knee, rate_of
from flashstill.simulate.capacity import mix_of
from flashstill.simulate.engine import Outcome
from flashstill.simulate.policy import Policy
from flashstill.simulate.prepare import requests_of
from flashstill.simulate.saturated import Saturated, outside, saturated
from flashstill.simulate.saturation import Measured, saturated_rate
from flashstill.simulate.selection import WithinContext, joined, selected
from flashstill.simulate.simulation import Prepared, prepared
from flashstill.simulate.state import Limits
from flashstill.simulate.traffic import Traffic
from flashstill.tables import Displayed, Table, cell

TOLERANCE = 0.05
SEEDS, FEWEST, WAVES, WAVES_OF_A_REPLICA = 3, 3000, 14, 6
"""runs; requests of each, at least; and times that the running sequences change, of one replica and for each more"""
LENGTHS, MOST_REQUESTS = 10_000, 1_000_000
"""requests whose lengths count: as many are drawn, or at most so many of a trace"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knee(Displayed):
    """Requests per second at which waiting begins to grow without bound, with the ends of its 95 % interval.

    closed_form: the same from the equations of saturated.py; None where they do not hold.  agrees: whether both do.
    binds: sequences (the engine's limit), memory, prefill (tokens of a step), or compute: the steps themselves.
    running: sequences of all replicas that decode there.  speed: the trace's arrivals so many times as fast.
    requests: of each of the runs, one for each of the seeds.  bounds: where a bound on a latency is first broken.
    """

    rate: float
    low: float
    high: float
    closed_form: float | None
    agrees: bool | None
    binds: str
    running: float
    speed: float | None
    replicas: int
    requests: int
    seeds: int
    bounds: BoundKnee | None
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row, the bounds' knee as bounds_rate and so on."""
        row = asdict(self)
        bounds = row.pop("bounds") or {}
        return [
            {**row, "notes": joined_notes(self.notes), **{f"bounds_{name}": value for name, value in bounds.items()}}
        ]

    def _table(self) -> Table:
        row = self.as_records()[0]
        return Table(list(row), [[cell(value) for value in row.values()]], "the knee")


def knee(
    facts: Facts,
    model: str | Any,
    deployment: Deployment,
    traffic: Traffic,
    policy: Policy | None = None,
    seed: int = 0,
    percentile: float = 95.0,
    progress: Progress | None = None,
) -> Knee:
    """The knee of a fleet for requests of the traffic's lengths, and that of the policy's bounds at a percentile.

    Raises BadInput for traffic with a fixed number in flight, and what `simulate` raises.
    """
    if traffic.waits:
        raise BadInput(f"the knee is that of an open loop; leave the replay {traffic.replay} out")
    if traffic.closed or traffic.agents is not None:
        in_flight = f"{traffic.concurrency} requests in flight" if traffic.closed else f"{traffic.agents} agents"
        raise BadInput(f"with {in_flight} waiting cannot grow without bound; give a rate or a trace")
    if deployment.has_prefill_pool:
        raise BadInput("the knee is that of replicas that do both, not of pools; simulate pools at several rates")
    if not 0.0 < percentile < 100.0:
        raise BadInput(f"the percentile of the bounds must lie between 0 and 100, not {percentile}")
    if traffic.trace is None:
        traffic = replace(traffic, requests=LENGTHS)
    if policy is not None and policy.refuse_late:
        raise BadInput("with refuse_late waiting cannot grow without bound; leave it out to find the knee")
    pieces, sizes = requests_of(traffic, seed)
    fleet = prepared(facts, model, deployment, policy or Policy(), sizes, RENTED)
    if fleet.limits.unit:
        raise BadInput("the knee is found without a prefix cache; give prefix_cache off, or a trace without hashes")
    return knee_of(fleet, traffic, pieces, seed, percentile, progress or Silent())


def knee_of(
    fleet: Prepared, traffic: Traffic, pieces: Iterable[Arrivals], seed: int, percentile: float, progress: Progress
) -> Knee:
    """The same for a fleet that is ready, with the requests of the traffic."""
    taken = WithinContext(fleet.resolved.model.context)
    requests, held = _read(taken.of(pieces), fleet.limits)
    form = saturated(fleet.tables, fleet.limits, mix_of(requests.prompt, requests.output, requests.cached))
    outputs, expected = float(requests.output.mean()), form.rate * fleet.replicas
    if not expected:
        raise BadInput("no request of the mean length fits into the cache of a replica, so that there is no knee")
    count = max(FEWEST, round(max(form.running, 1.0) * (WAVES + WAVES_OF_A_REPLICA * fleet.replicas)))
    stay_s = form.step_s * max(outputs, 1.0)
    seen = set[int]()
    with progress.task("knee", SEEDS * count, "requests") as advance:

        def serve(arrivals: Iterable[Arrivals], number: int) -> Outcome:
            outcome = fleet.serve(arrivals, False, number)
            advance(0.0 if number in seen else count)  # a seed may be run again, with more requests per second
            seen.add(number)
            return outcome

        found = saturated_rate(serve, requests, outputs, expected, stay_s, count, range(seed, seed + SEEDS))
    given, left_out = rate_of(requests), outside(fleet.policy, fleet.limits)
    agrees = None if left_out else _agree(expected, found)
    asked = Bounds(ttft_s=fleet.limits.ttft_s, tpot_s=fleet.limits.tpot_s, percentile=percentile)
    bounds = None
    if asked.any:
        more = replace(traffic, requests=max(traffic.requests, count))
        offered = requests
        if not traffic.trace:
            offered, _ = _read(WithinContext(taken.tokens).of(requests_of(more, seed)[0]), fleet.limits)
        bounds = bound_knee(fleet, offered, found, asked, seed, progress).times(1.0 / held)
    return Knee(
        rate=found.value / held,
        low=found.low / held,
        high=found.high / held,
        closed_form=None if left_out else expected / held,
        agrees=agrees,
        binds=form.binds,
        running=form.running * fleet.replicas,
        speed=found.value / given if traffic.trace and given < math.inf else None,
        replicas=fleet.replicas,
        requests=count,
        seeds=SEEDS,
        bounds=bounds,
        notes=(
            *fleet.notes,
            *taken.notes(),
            *_notes(form, found, expected, fleet.replicas / held, agrees, left_out, requests),
        ),
    )


def _agree(expected: float, found: Measured) -> bool:
    near = TOLERANCE * found.value
    return min(found.low, found.value - near) <= expected <= max(found.high, found.value + near)


def _notes(
    form: Saturated,
    found: Measured,
    expected: float,
    scale: float,
    agrees: bool | None,
    left_out: str,
    requests: Arrivals,
) -> Iterator[str]:
    """What a reader must know beside the figures. scale: from one replica to requests that arrive at all of them."""
    if left_out:
        yield f"the closed form leaves out {left_out}, so that only the simulation counts"
    elif not agrees:
        apart = expected / found.value - 1.0
        yield f"closed form and simulation disagree by {apart:+.0%}: the simulation counts"
        if np.ptp(requests.prompt) == np.ptp(requests.output) == 0:
            yield (
                "requests of one length that start together stay in step, and their prompts share passes, or wait for"
                " each other, again and again; lengths that differ, as with --least-ratio 0.8, do not"
            )
    if not left_out and form.best > 1.1 * form.rate:
        yield (
            f"preemption wastes work in saturation: about {form.best * scale:.3g} requests/s are served as long as no"
            " backlog has formed, but above the knee one that forms does not go away; fewer --sequences avoid this"
        )
    if len(requests.prompt) == MOST_REQUESTS:
        yield f"the lengths are those of the first {MOST_REQUESTS:,} requests"


def _read(pieces: Iterable[Arrivals], limits: Limits) -> tuple[Arrivals, float]:
    """All requests that a replica can hold, at most `MOST_REQUESTS`, without the names of their blocks, and the share
    that they are."""
    kept: list[Arrivals] = []
    total, rows = 0, 0
    for piece in pieces:
        fits = np.ceil((piece.prompt + piece.output) / limits.block) <= limits.blocks
        total += len(fits)
        unnamed = piece._replace(key_ends=NO_KEYS, keys=NO_KEYS)  # a knee is found without a prefix cache
        kept.append(selected(unnamed, np.flatnonzero(fits)[: MOST_REQUESTS - rows]))
        rows += len(kept[-1].prompt)
        if rows == MOST_REQUESTS:
            break
    if not rows:
        raise BadInput("no request of this traffic fits into the cache of a replica, so that there is no knee")
    return joined(kept), rows / total
