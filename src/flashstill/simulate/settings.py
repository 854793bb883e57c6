"""What does not change during a run: tables and limits by role, links between pools, failures, and scaling."""

from __future__ import annotations

from typing import NamedTuple

from flashstill.simulate.state import Counts, Limits, Values
from flashstill.simulate.tables import StepTables

SCALE_ON = ("requests", "busy", "cache")
"""what an autoscaler looks at in each replica: requests in flight, share of time busy, share of cache blocks in use"""


class Links(NamedTuple):
    """Transfers of caches between pools. contexts, seconds, joules [S]: of one request's cache, by its tokens.

    receives: transfers at a time that a decode replica takes.
    """

    contexts: Values
    seconds: Values
    joules: Values
    receives: int


class Changes(NamedTuple):
    """Failures and starts. mtbf_s, cold_s [2]: mean seconds between failures of a replica and seconds of its start, for
    decode and for prefill replicas.  repair_s: mean.  retries: of a request; at the next failure it is given up."""

    mtbf_s: Values
    cold_s: Values
    repair_s: float
    retries: int


class Scaling(NamedTuple):
    """Number of units, each of which is `decodes` replicas and `prefills` prefill replicas.

    starts_s [K], units [K]: a schedule.  interval_s: of an autoscaler, 0 without one; it keeps what it looks at
    (metric: index into SCALE_ON) at `target`, does nothing within `tolerance` of it, keeps between `least` and `most`
    units, and takes units away when fewer have been enough for `patience_s`.
    """

    starts_s: Values
    units: Counts
    decodes: int
    prefills: int
    interval_s: float
    metric: int
    target: float
    tolerance: float
    patience_s: float
    least: int
    most: int


class Settings(NamedTuple):
    """prefills: replicas [0, prefills) only prefill, by tables and limits of their own, and the others only decode;
    0: each does both."""

    prefills: int
    tables: StepTables
    limits: Limits
    prefill_tables: StepTables
    prefill_limits: Limits
    links: Links
    changes: Changes
    scaling: Scaling
