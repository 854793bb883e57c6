"""Latencies of requests that meet no other: what no number of replicas can go below.

ttft        the passes of a prompt, one after another, each of at most the step's tokens, the engine's own time, and the
            transfer of the cache to a replica that decodes
tpot        a decode step of one sequence, at the middle of its answer
end to end  ttft + (output - 1) tpot
"""

from __future__ import annotations

import numpy as np

from flashstill.simulate.arrivals import Arrivals
from flashstill.simulate.simulation import Prepared
from flashstill.simulate.state import Limits, Values
from flashstill.simulate.tables import StepTables


def alone_s(fleet: Prepared, requests: Arrivals, metric: str, share: float) -> float:
    """The latency that this share of the requests keeps where each is alone; below 0 if none has this latency. Gaps
    between tokens count as tpot."""
    pool, several = fleet.apart.pool if fleet.apart else None, requests.output > 1
    paced_s = pace_s(fleet.tables, requests)
    if metric in ("tpot", "inter_token"):
        values = paced_s[several]
    else:
        values = first_s(pool.tables if pool else fleet.tables, pool.limits if pool else fleet.limits, requests)
        if pool:
            values += np.where(several, np.interp(requests.prompt, pool.links.contexts, pool.links.seconds), 0.0)
        if metric == "end_to_end":
            values = values + (requests.output - 1) * paced_s
    return float(np.quantile(values, share)) if len(values) else -1.0


def first_s(tables: StepTables, limits: Limits, requests: Arrivals) -> Values:
    """Seconds until each request's first token."""
    from scipy.interpolate import RegularGridInterpolator

    added_s = RegularGridInterpolator((tables.tokens, tables.attended), tables.extra_s[0], bounds_error=False)
    done = requests.cached.astype(np.float64)
    left = (requests.prompt - requests.cached).astype(np.float64)
    total = np.full(len(left), limits.first_s)
    while len(rows := np.flatnonzero(left > 0.0)):
        chunk = np.minimum(left[rows], float(limits.tokens))
        attended = np.minimum(done[rows] + chunk / 2.0, tables.attended[-1])
        total[rows] += added_s(np.stack([chunk, attended], axis=1))
        done[rows] += chunk
        left[rows] -= chunk
    return total


def pace_s(tables: StepTables, requests: Arrivals) -> Values:
    """Seconds of each request's tokens after the first."""
    middle = requests.prompt + requests.output / 2.0
    found: Values = np.interp(middle, tables.contexts, tables.decode_s[1])
    return found
