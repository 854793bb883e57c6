"""How a fleet is operated: failures and repairs, cold starts, and how many replicas there are over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashstill.cost.footprint import chip_weight_bytes
from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts
from flashstill.plan.resolve import Resolved
from flashstill.simulate.course import STEADY, Autoscaler, Course
from flashstill.simulate.hours import MOST_REPLICAS, Hours, schedule_of
from flashstill.simulate.settings import SCALE_ON
from flashstill.units import SECONDS_PER_HOUR, show

BOUNDS = {
    "chip_mtbf_s": (1.0, 1e12), "repair_s": (0.0, 1e9), "cold_start_s": (0.0, 1e7), "scale_target": (1e-3, 1e6),
    "scale_interval_s": (1e-3, 1e7), "scale_down_s": (0.0, 1e7),
}  # fmt: skip
MOST_RETRIES = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Operations:
    """Failures, starts and scaling of the copies of a deployment. Without any of these, the same copies always serve.

    chip_mtbf_s: mean seconds between failures of one chip; a failed chip stops its replica.  repair_s: mean seconds
    until it can start again.  Both times are exponential.  retries: of a request that a failure meets; it keeps the
    tokens that it has got, and is computed anew elsewhere.  cold_start_s: from a replica's start until it serves;
    default: an estimate from its weights.
    replicas_by_hour: how many copies, as one number for each hour, as pairs (hour, copies), or as a CSV file with the
    columns hour and replicas; copies are started at that time, and those that are too many serve what they have.
    autoscale: what an autoscaler looks at in every replica: "requests" (in flight), "busy" (share of the time) or
    "cache" (share of the blocks).  scale_target: the value to keep.  min_replicas, max_replicas: copies; it begins with
    `replicas` of the policy.  scale_interval_s, scale_down_s: how often it looks, and for how long fewer copies must be
    enough before some are taken away; default: as the autoscaler of Kubernetes.
    """

    chip_mtbf_s: float | None = None
    repair_s: float | None = None
    retries: int = 3
    cold_start_s: float | None = None
    replicas_by_hour: str | Path | Hours | None = None
    autoscale: str | None = None
    scale_target: float | None = None
    min_replicas: int = 1
    max_replicas: int | None = None
    scale_interval_s: float | None = None
    scale_down_s: float | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise BadInput(f"{name} must lie between {least:g} and {most:g}, not {value}")
        if (self.chip_mtbf_s is None) != (self.repair_s is None):
            raise BadInput("failures need both times: chip_mtbf_s between them, and repair_s until a replica can start")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise BadInput(f"retries must lie between 0 and {MOST_RETRIES}, not {self.retries}")
        if self.chip_mtbf_s is None and self.retries != self.__dataclass_fields__["retries"].default:
            raise BadInput("retries are of failures; give chip_mtbf_s and repair_s")
        if self.cold_start_s is not None and not self.changes:
            raise BadInput(
                "cold_start_s is of replicas that come and go: with chip_mtbf_s, replicas_by_hour or autoscale"
            )
        if self.autoscale is None:
            names = ("scale_target", "max_replicas", "scale_interval_s", "scale_down_s")
            given = [name for name in names if getattr(self, name) is not None]
            given += ["min_replicas"] if self.min_replicas != 1 else []
            if given:
                raise BadInput(f"{given[0]} is of an autoscaler; say what it looks at with autoscale")
            return
        if self.autoscale not in SCALE_ON:
            raise BadInput(unknown("value to scale on", self.autoscale, SCALE_ON))
        if self.replicas_by_hour is not None:
            raise BadInput("give one of replicas_by_hour and autoscale, not both")
        if self.scale_target is None or self.max_replicas is None:
            raise BadInput("an autoscaler needs scale_target and max_replicas")
        if not 0 <= self.min_replicas <= self.max_replicas <= MOST_REPLICAS or self.max_replicas < 1:
            raise BadInput(
                f"min_replicas and max_replicas must be in order, from 0 to {MOST_REPLICAS}, not"
                f" {self.min_replicas} and {self.max_replicas}"
            )

    @property
    def changes(self) -> bool:
        """Whether replicas fail, or their number changes."""
        return bool(self.chip_mtbf_s is not None or self.replicas_by_hour is not None or self.autoscale)

    @property
    def scales(self) -> bool:
        """Whether the number of copies changes."""
        return self.replicas_by_hour is not None or self.autoscale is not None

    def as_dict(self) -> dict[str, Any]:
        """As plain values; the schedule as pairs (hour, copies)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        schedule = schedule_of(self.replicas_by_hour)
        return values | {"replicas_by_hour": [list(row) for row in schedule] or None}


AS_THEY_ARE = Operations()
"""the same copies always serve"""


def course_of(
    facts: Facts, operations: Operations, copies: int, decode: Resolved, prefill: Resolved | None
) -> tuple[Course, tuple[str, ...]]:
    """The course of a run, and notes on what is estimated. copies: of the deployment, at first."""
    if not operations.changes:
        return STEADY, ()
    both = (decode, prefill or decode)
    cold = [cold_start_s(facts, each) if operations.cold_start_s is None else operations.cold_start_s for each in both]
    notes: tuple[str, ...] = ()
    if operations.cold_start_s is None:
        low, high = cold_start_range(facts, decode)
        notes = (
            f"a replica is taken to serve {show(cold[0], 's')} after its start ({show(low, 's')} to {show(high, 's')}:"
            " an estimate from its weights and the engine's start; cold_start_s sets it)",
        )
    mtbf = operations.chip_mtbf_s
    schedule = schedule_of(operations.replicas_by_hour)
    return (
        Course(
            mtbf_s=(math.inf, math.inf) if mtbf is None else (mtbf / both[0].chips, mtbf / both[1].chips),
            cold_s=(cold[0], cold[1]),
            repair_s=operations.repair_s or 0.0,
            retries=operations.retries,
            schedule=tuple((hour * SECONDS_PER_HOUR, count) for hour, count in schedule),
            autoscaler=_autoscaler(facts, operations, copies) if operations.autoscale else None,
        ),
        notes,
    )


def _autoscaler(facts: Facts, operations: Operations, copies: int) -> Autoscaler:
    target, most, asked = operations.scale_target, operations.max_replicas, operations.autoscale
    assert target is not None
    assert most is not None
    assert asked is not None
    if not operations.min_replicas <= copies <= most:
        raise BadInput(
            f"the autoscaler begins with {copies} replicas, which is not between {operations.min_replicas} and {most}"
        )

    def default(value: float | None, quantity: str) -> float:
        return facts.value("autoscaler", quantity) if value is None else value

    return Autoscaler(
        metric=SCALE_ON.index(asked),
        target=target,
        interval_s=default(operations.scale_interval_s, "interval_s"),
        tolerance=facts.value("autoscaler", "tolerance_ratio"),
        patience_s=default(operations.scale_down_s, "scale_down_s"),
        least=operations.min_replicas,
        most=most,
        begin=copies,
    )


def cold_start_s(facts: Facts, resolved: Resolved) -> float:
    """Estimated seconds from a replica's start until it serves: each chip loads its weights, then the engine starts."""
    rate, start = facts.value("engine", "weight_load_bytes_per_s"), facts.value("engine", "start_up_s")
    return _weights(resolved) / rate + start


def cold_start_range(facts: Facts, resolved: Resolved) -> tuple[float, float]:
    """The ends of what is known of a cold start, in seconds."""
    rate, start = facts.get("engine", "weight_load_bytes_per_s"), facts.get("engine", "start_up_s")
    weights = _weights(resolved)
    return weights / rate.high + start.low, weights / rate.low + start.high


def _weights(resolved: Resolved) -> float:
    widths = resolved.conditions.precisions.widths
    return float(chip_weight_bytes(resolved.model, widths, resolved.layout))
