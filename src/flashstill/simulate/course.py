"""What a run is given beside replicas: a pool that prefills, and the course of failures, starts and scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flashstill.errors import BadInput
from flashstill.simulate.settings import Changes, Links, Scaling, Settings
from flashstill.simulate.state import UNITS, Fleet, Limits, new_fleet
from flashstill.simulate.tables import StepTables


@dataclass(frozen=True, kw_only=True, slots=True)
class PrefillPool:
    """Replicas that only prefill. replicas: how many, of one unit where units are scaled.  lanes: transfers that each
    sends at a time.  links: seconds and joules of a transfer, and how many a decode replica takes at a time."""

    tables: StepTables
    limits: Limits
    replicas: int
    lanes: int
    links: Links


@dataclass(frozen=True, kw_only=True, slots=True)
class Autoscaler:
    """It keeps what it looks at (metric: index into settings.SCALE_ON) at `target`, every interval_s, within tolerance;
    fewer units have to be enough for patience_s before some are taken away. begin: units at first."""

    metric: int
    target: float
    interval_s: float
    tolerance: float
    patience_s: float
    least: int
    most: int
    begin: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """Failures, starts, and numbers of units over time. mtbf_s, cold_s: of a decode and of a prefill replica.

    schedule: (seconds, units) from the beginning on, or empty.  At most one of schedule and autoscaler is given.
    """

    mtbf_s: tuple[float, float] = (math.inf, math.inf)
    cold_s: tuple[float, float] = (0.0, 0.0)
    repair_s: float = 0.0
    retries: int = 0
    schedule: tuple[tuple[float, int], ...] = ()
    autoscaler: Autoscaler | None = None

    @property
    def scales(self) -> bool:
        """Whether the number of units changes."""
        return bool(self.schedule) or self.autoscaler is not None

    @property
    def most_units(self) -> int:
        """Units that there may be at a time."""
        if self.autoscaler is not None:
            return self.autoscaler.most
        return max((units for _, units in self.schedule), default=1)

    @property
    def first_units(self) -> int:
        """Units at the beginning."""
        if self.autoscaler is not None:
            return self.autoscaler.begin
        return self.schedule[0][1] if self.schedule else 1


STEADY = Course()
"""nothing fails, and the number of replicas does not change"""


def set_up(
    tables: StepTables, limits: Limits, replicas: int, prefill: PrefillPool | None, course: Course, seed: int
) -> tuple[Fleet, Settings]:
    """The replicas at time 0 and the settings of a run. replicas: of one unit, where units are scaled."""
    if limits.ranks > 1 and course is not STEADY:
        raise BadInput("replicas of attention that share experts (dp) neither fail nor scale in the simulation")
    units, pool = course.most_units, prefill
    prefills = pool.replicas if pool else 0
    none = np.zeros(2)
    settings = Settings(
        prefills=prefills * units,
        tables=tables,
        limits=limits,
        prefill_tables=pool.tables if pool else tables,
        prefill_limits=pool.limits if pool else limits,
        links=pool.links if pool else Links(np.array([0.0, 1.0]), none, none, 0),
        changes=Changes(np.array(course.mtbf_s), np.array(course.cold_s), course.repair_s, course.retries),
        scaling=_scaling(course, replicas, prefills),
    )
    fleet = new_fleet(
        replicas * units, limits, seed, prefills * units, settings.prefill_limits, pool.lanes if pool else 1,
        course is not STEADY,
    )  # fmt: skip
    fleet.scaling[UNITS] = course.first_units
    return fleet, settings


def is_on(settings: Settings, first_units: int, r: int) -> bool:
    """Whether a replica is switched on at time 0."""
    if r < settings.prefills:
        return r < first_units * settings.scaling.prefills
    return r - settings.prefills < first_units * settings.scaling.decodes


def _scaling(course: Course, decodes: int, prefills: int) -> Scaling:
    auto = course.autoscaler
    schedule = course.schedule or ((0.0, 1),)
    return Scaling(
        starts_s=np.array([start for start, _ in schedule], dtype=np.float64),
        units=np.array([units for _, units in schedule], dtype=np.int64),
        decodes=decodes,
        prefills=prefills,
        interval_s=auto.interval_s if auto else 0.0,
        metric=auto.metric if auto else 0,
        target=auto.target if auto else 1.0,
        tolerance=auto.tolerance if auto else 0.0,
        patience_s=auto.patience_s if auto else 0.0,
        least=auto.least if auto else 1,
        most=auto.most if auto else 1,
    )
