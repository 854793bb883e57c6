"""The Python face of fleet sizing: the cheapest replicas that keep latency bounds under a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import Edits, FactsLike, facts_of, of_kind
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, check_counts, unknown
from flashstill.fleets.answer import FleetPlan
from flashstill.fleets.sizing import plan_fleet as sized_fleet
from flashstill.fleets.slo import parse_slo
from flashstill.fleets.space import Choices
from flashstill.plan.deployment import AS_PUBLISHED
from flashstill.simulate.policy import Policy
from flashstill.traces.reading import READING, Reading
from flashstill.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["plan_fleet"]
_OWN = ("replicas", "max_ttft_s", "max_tpot_s")
_POLICY = {field.name: str(field.type) for field in fields(Policy) if field.name not in _OWN}
_READING = {field.name: str(field.type) for field in fields(Reading)}
"""settings of the scheduler and router, and how a trace is read, with their types as text"""


@refuses_other_keywords
def plan_fleet(
    *,
    model: str | Architecture,
    chips: str | Sequence[str],
    trace: str | Path,
    slo: str,
    max_chips: int | None = None,
    precision: str | Sequence[str] = AS_PUBLISHED,
    kv_precision: str | None = None,
    engine: str | None = None,
    speed: float = 1.0,
    window_s: float = SECONDS_PER_HOUR,
    cold_start_s: float = 0.0,
    disaggregated: bool = True,
    price: str = "rented",
    told: Callable[[str], None] = lambda text: None,
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> FleetPlan:
    """The cheapest fleet that keeps latency bounds under the requests of a trace, proved by simulation.

    chips: kinds to choose from.  slo: bounds as text, such as "ttft_p95<0.5,tpot_p95<30ms".  max_chips: the most chips
    of one replica (default: 16, or as many as one request needs).  window_s: the number of replicas may change so
    often.  cold_start_s: replicas are paid so long before they serve.  disaggregated: whether prefill may have replicas
    of its own.  told: called with lines of progress.
    more: settings of the scheduler and router (`Policy`), and how the trace is read, as in `simulate`.
    price, facts and set work as in `predict`.
    Raises BadInput for a mistake in the bounds or the trace, and InfeasiblePlan, with the reasons counted, if no fleet
    keeps the bounds.
    """
    model = of_kind("model", model, "")
    read = {name: more.pop(name) for name in READING if name in more}
    reading = Reading(**{name: of_kind(name, value, _READING[name]) for name, value in read.items()})
    for name in more:
        if name not in _POLICY:
            named = [each for each in signature(plan_fleet).parameters if each != "more"]
            raise BadInput(unknown("keyword of plan_fleet", name, (*_POLICY, *READING, *named)))
    more = {name: of_kind(name, value, _POLICY[name]) for name, value in more.items()}
    given = [chips] if isinstance(chips, str) or not isinstance(chips, Iterable) else chips
    names = [of_kind("a chip", each, "str") for each in given]
    kinds = tuple(each.strip() for name in names for each in name.split(",") if each.strip())
    if not kinds:
        raise BadInput("chips is empty; give at least one kind to choose from")
    check_counts({"max_chips": max_chips})
    choices = Choices(
        chips=kinds,
        max_chips=max_chips,
        precisions=(precision,) if isinstance(precision, str) else tuple(precision),
        kv_precisions=(kv_precision,),
        engine=engine,
        policy=Policy(**more),
        price=price,
        disaggregated=disaggregated,
    )
    return sized_fleet(
        facts_of(facts, set, kinds), model, Path(trace), parse_slo(of_kind("slo", slo, "str")), choices,
        speed=speed, window_s=window_s, cold_start_s=cold_start_s, told=told,
        reading=reading,
    )  # fmt: skip
