"""A bound below the cost of every fleet of the same choices: all its work, packed perfectly on whole replicas.

    decoding   w_d = D_in c(x) + D_out c(inf)       seconds of a replica;  c(x) = min T(b) / b over steps T(b) <= x
    prompts    w_p = P e                            e: the least seconds that a prompt token adds to any step
    least      sum of n_i price_i,   n_i whole,   y_i w_d,i + z_i w_p,i <= n_i H,   sum y_i >= 1,   sum z_i >= 1

over all layouts i of all kinds of chips, with H the time in which all work must be done (`horizon_s`).  Of the
requests, the percentile's remainder (5 % for tpot_p95) may break the TPOT bound x: those with the longest answers are
taken, D_out tokens.

It is a bound because T(b) / b, as a function of T, is convex and falls: steps of unequal length that keep x on average
serve fewer tokens than equal ones of x (Jensen).  Decoding and prompts may lie on different layouts (disaggregation),
different requests on different chips, and queues are left out; so no schedule, router or ratio of pools costs less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flashstill.fleets.demand import Demand
from flashstill.fleets.slo import Bound, tightest
from flashstill.fleets.space import Kind
from flashstill.simulate.state import Counts, Values


@dataclass(frozen=True, kw_only=True, slots=True)
class LowerBound:
    """Dollars per hour of whole replicas all the time, and of fractions of replicas (which come and go at will)."""

    usd_per_hour: float
    fractional_usd_per_hour: float


def lower_bound(kinds: Sequence[Kind], demand: Demand, bounds: Sequence[Bound], times: float = 1.0) -> LowerBound:
    """The least cost of any fleet; infinite where no layout keeps the bounds even without waiting."""
    inside, outside, prompts = (times * each for each in tokens_of(demand, bounds))
    tpot_s, ttft_s = tightest(bounds, "tpot"), tightest(bounds, "ttft")
    price = np.concatenate([kind.usd_per_hour for kind in kinds])
    fast, any_s = (np.concatenate([kind.token_s(each) for kind in kinds]) for each in (tpot_s, None))
    first_s = np.concatenate([kind.first_s for kind in kinds])
    end_s = horizon_s(kinds, demand, bounds)
    decoding = (inside * fast if inside else 0.0) + (outside * any_s if outside else 0.0)
    decoding = np.broadcast_to(decoding, price.shape) / end_s
    filling = np.concatenate([kind.prompt_s for kind in kinds]) * prompts / end_s
    filling = np.where(first_s <= (np.inf if ttft_s is None else ttft_s), filling, np.inf)
    fraction = float(np.min(price * decoding) + np.min(price * filling))
    if not np.isfinite(fraction):
        return LowerBound(usd_per_hour=np.inf, fractional_usd_per_hour=np.inf)
    return LowerBound(usd_per_hour=_whole(price, decoding, filling), fractional_usd_per_hour=fraction)


def tokens_of(demand: Demand, bounds: Sequence[Bound]) -> tuple[float, float, float]:
    """Decoded tokens that must keep the TPOT bounds, those that need not, and prompt tokens to prefill."""
    steps = np.sort(demand.requests.output - 1)[::-1]
    free = max((1.0 - bound.share for bound in bounds if bound.metric == "tpot"), default=0.0)
    exempt = float(steps[: int(np.ceil(free * np.count_nonzero(steps)))].sum())
    return float(steps.sum()) - exempt, exempt, float((demand.requests.prompt - demand.requests.cached).sum())


def horizon_s(kinds: Sequence[Kind], demand: Demand, bounds: Sequence[Bound]) -> float:
    """Seconds in which a fleet must have finished: the trace, and twice as long as the longest request may take.

    Where nothing bounds its tokens, it may take them at the pace of the largest batch.
    """
    largest_s = max(float(np.nanmax(np.where(np.isfinite(kind.step_s), kind.step_s, kind.decode_s))) for kind in kinds)
    pace_s = tightest(bounds, "tpot") or largest_s
    longest_s = (tightest(bounds, "ttft") or 0.0) + float(demand.requests.output.max()) * pace_s
    return demand.span_s + 2.0 * min(longest_s, tightest(bounds, "end_to_end") or np.inf)


def _whole(price: Values, decoding: Values, filling: Values) -> float:
    """The integer programme. decoding, filling: replicas that would do all of it by themselves."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    usable = np.flatnonzero(np.isfinite(decoding) | np.isfinite(filling))
    usable = usable[_worthwhile(price[usable], decoding[usable], filling[usable])]
    count = len(usable)
    own, able = np.arange(count), [np.isfinite(each[usable]) for each in (decoding, filling)]
    work = [np.where(can, each[usable], 0.0) for can, each in zip(able, (decoding, filling), strict=True)]
    rows = np.concatenate([own, own, own, np.full(count, count), np.full(count, count + 1)])
    columns = np.concatenate([own, count + own, 2 * count + own, count + own, 2 * count + own])
    values = np.concatenate([np.ones(count), -work[0], -work[1], np.ones(2 * count)])
    needed = np.concatenate([np.zeros(count), [1.0, 1.0]])
    matrix = coo_array((values, (rows, columns)), shape=(count + 2, 3 * count)).tocsc()
    most = np.concatenate([np.full(count, np.inf), *(can.astype(np.float64) for can in able)])
    found = milp(
        np.concatenate([price[usable], np.zeros(2 * count)]),
        constraints=LinearConstraint(matrix, needed, np.inf),
        integrality=np.concatenate([np.ones(count), np.zeros(2 * count)]),
        bounds=Bounds(0.0, most),
        options={"mip_rel_gap": 1e-3, "time_limit": 2.0},
    )
    return float(found.mip_dual_bound)


def _worthwhile(price: Values, decoding: Values, filling: Values) -> Counts:
    """Layouts that no other one beats in price, decoding and prefill at the same time."""
    from flashstill.frontier import non_dominated

    large = 1e300
    costs = np.stack([price, np.minimum(decoding, large), np.minimum(filling, large)], axis=1)
    return np.array(non_dominated(costs), dtype=np.int64)
