"""Which pool of a fleet is to blame for a bound that breaks, and grows.

tpot, gaps         decode
ttft               decode if half of the bound is spent between prefill and the first token, else prefill; the pool
                   whose network is the busier one, where that time goes into transfers
anything else      the pool that is busier
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flashstill.fleets.copies import Candidate, Copies
from flashstill.fleets.slo import METRICS, Bound
from flashstill.fleets.trials import Broken, Traffic, Trial, Trials
from flashstill.simulate.results import value_at
from flashstill.simulate.tally import GAP, TPOT, TRANSFER, TTFT

DECODE, PREFILL = Copies._fields
ROLES = (DECODE, PREFILL)
BUSY_LINKS, SHORT = 0.5, 0.1
"""share of the time from which on transfers wait for each other; of a bound, up to which they keep no prompt waiting"""


def blamed(trial: Trial, broken: Broken) -> str:
    """The role whose replicas are too few."""
    metric = METRICS.get(broken.name.rpartition("_p")[0])
    if metric in (TPOT, GAP):
        return DECODE
    if metric == TTFT:
        share = float(broken.name.rpartition("_p")[2]) / 100.0
        return DECODE if value_at(trial.tally, TRANSFER, share) > broken.seconds / 2.0 else PREFILL
    return PREFILL if trial.prefill_busy > trial.busy else DECODE


def is_alone_to_blame(trial: Trial, bounds: Sequence[Bound], broken: Broken) -> bool:
    """Whether the role to blame breaks the bound whatever the other pool does.

    Of the time to the first token that is so where it is above the bound even without what lies between prefill and the
    first token: with t so that a half of the 1 - q that may be late wait longer, where q - (1 - q) / 2 of the requests
    exceed the bound by t.  Where t is long, caches that wait to be sent keep memory from prompts, so that the wait for
    prefill is the other pool's as well.
    """
    bound = next((bound for bound in bounds if bound.name == broken.name), None)
    if bound is None or bound.metric == "end_to_end":
        return False
    if bound.metric != "ttft":
        return True
    half = (1.0 - bound.share) / 2.0
    between_s = value_at(trial.tally, TRANSFER, 1.0 - half)
    over_s = value_at(trial.tally, TTFT, max(bound.share - half, 0.0)) - bound.seconds
    return over_s >= between_s and between_s <= SHORT * bound.seconds


def to_grow(
    trials: Trials, candidate: Candidate, copies: Copies, seed: int, traffic: Traffic, trial: Trial, broken: Broken
) -> tuple[str, bool]:
    """The role to blame, and whether for its links: those of it are busy, and busier than the other pool's."""
    role = blamed(trial, broken)
    if role == PREFILL or not broken.name.startswith("ttft"):
        return role, False
    apart = candidate.fleet(copies).apart
    assert apart is not None
    pool, requests = apart.pool, trials.arrivals(seed, traffic)
    prompts = requests.prompt[requests.output > 1]
    work_s = float(np.interp(prompts, pool.links.contexts, pool.links.seconds).sum())
    lanes = candidate.fleet(copies).replicas * pool.links.receives, pool.replicas * pool.lanes
    if work_s < BUSY_LINKS * min(lanes) * trials.span_s(traffic):
        return role, False
    return (DECODE if lanes[0] <= lanes[1] else PREFILL), True
