"""The Python face of the simulation: what traffic gets on replicas of a deployment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, facts_of
from flashstill.errors import BadInput, unknown
from flashstill.plan.deployment import Deployment
from flashstill.simulate.answer import Simulation
from flashstill.simulate.policy import Policy
from flashstill.simulate.simulation import simulate as simulate_traffic
from flashstill.simulate.traffic import Traffic

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["simulate"]
_TRAFFIC, _POLICY, _DEPLOYMENT = (
    tuple(field.name for field in fields(kind) if field.name != "chip") for kind in (Traffic, Policy, Deployment)
)


def simulate(
    *,
    model: str | Architecture,
    chip: str,
    trace: str | Path | None = None,
    rate: float | None = None,
    concurrency: int | None = None,
    seed: int = 0,
    price: str = "rented",
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> Simulation:
    """Serve traffic event by event: latencies at percentiles with intervals, goodput, joules and dollars.

    Give one of trace (a CSV file: arrival_s, input_tokens, output_tokens), rate (requests per second that arrive by
    themselves) and concurrency (requests in flight).
    more: fields of the traffic (requests, isl, osl, least_ratio, cv, cached_ratio, speed), of the policy (scheduler,
    refill_sequences, refuse_late, step_tokens, sequences, block_tokens, replicas, router, max_ttft_s, max_tpot_s,
    draft, draft_tokens, acceptance, acceptance_decay) and of a `Deployment`.
    scheduler: a name, or a function of your own, which gets a `ReplicaView` before each step and returns a `Decision`.
    seed: the same seed gives the same answer.  price, facts and set work as in `predict`.
    Raises BadInput for invalid values or a trace with a mistake (its line is named), MissingFact for unknown names,
    and InfeasiblePlan if the memory holds no request.
    """
    known = (*_TRAFFIC, *_POLICY, *_DEPLOYMENT)
    for name in more:
        if name not in known:
            raise BadInput(unknown("keyword of simulate", name, known))
    asked, policy, used = (
        {name: value for name, value in more.items() if name in names} for names in (_TRAFFIC, _POLICY, _DEPLOYMENT)
    )
    traffic = Traffic(trace=None if trace is None else Path(trace), rate=rate, concurrency=concurrency, **asked)
    return simulate_traffic(
        facts_of(facts, set), model, Deployment(chip=chip, **used), traffic, Policy(**policy), seed, price
    )
