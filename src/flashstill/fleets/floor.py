"""Latencies of requests that meet no other: what no number of replicas can go below.

ttft        the passes of a prompt, one after another, each of at most the step's tokens, the engine's own time, and the
            transfer of the cache to a replica that decodes
tpot        a decode step of one sequence, at the middle of its answer
end to end  ttft + (output - 1) tpot
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flashstill.fleets.slo import Bound
from flashstill.simulate.loop import Arrivals
from flashstill.simulate.simulation import Prepared
from flashstill.simulate.state import Limits, Values
from flashstill.simulate.tables import StepTables


def broken_alone(fleet: Prepared, requests: Arrivals, bounds: Sequence[Bound]) -> Bound | None:
    """A bound that requests break even alone; None if there is none. Gaps between tokens count as tpot."""
    pool, several = fleet.apart.pool if fleet.apart else None, requests.output > 1
    ttft_s = first_s(pool.tables if pool else fleet.tables, pool.limits if pool else fleet.limits, requests)
    if pool:
        ttft_s += np.where(several, np.interp(requests.prompt, pool.links.contexts, pool.links.seconds), 0.0)
    tpot_s = pace_s(fleet.tables, requests)
    values = {
        "ttft": ttft_s,
        "tpot": tpot_s[several],
        "inter_token": tpot_s[several],
        "end_to_end": ttft_s + (requests.output - 1) * tpot_s,
    }
    return next(
        (
            bound
            for bound in bounds
            if len(values[bound.metric]) and np.quantile(values[bound.metric], bound.share) >= bound.seconds
        ),
        None,
    )


def first_s(tables: StepTables, limits: Limits, requests: Arrivals) -> Values:
    """Seconds until each request's first token."""
    from scipy.interpolate import RegularGridInterpolator

    added_s = RegularGridInterpolator((tables.tokens, tables.attended), tables.extra_s[0], bounds_error=False)
    done = requests.cached.astype(np.float64)
    left = (requests.prompt - requests.cached).astype(np.float64)
    total = np.full(len(left), limits.first_s)
    while (left > 0.0).any():
        chunk = np.minimum(left, float(limits.tokens))
        attended = np.minimum(done + chunk / 2.0, tables.attended[-1])
        total += np.where(chunk > 0.0, added_s(np.stack([chunk, attended], axis=1)), 0.0)
        done, left = done + chunk, left - chunk
    return total


def pace_s(tables: StepTables, requests: Arrivals) -> Values:
    """Seconds of each request's tokens after the first."""
    middle = requests.prompt + requests.output / 2.0
    found: Values = np.interp(middle, tables.contexts, tables.decode_s[1])
    return found
