"""Search over prefill and decode pools: the best layouts of each pool by itself, then every pair of them.

Apart from each other, a decode pool matters only by its seconds per token, chips per token/s and joules per token, and
a prefill instance by its seconds, chips per prompt/s and joules per prompt.  So only the Pareto fronts are paired, with
the number of instances that keeps pace with the decode pool, one fewer and one more; pairs are priced as in `predict`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flashstill.arch import Architecture
from flashstill.cost import Conditions, Load, Speculation
from flashstill.cost.admission import capacity
from flashstill.cost.disaggregated import Pools, PoolServing, serve_apart
from flashstill.cost.phases import batch_step, prefill_step
from flashstill.economics import HourlyPrice, usd_per_million_tokens
from flashstill.frontier import Values, non_dominated
from flashstill.plan.deployment import PREFILL
from flashstill.plan.fronts import SHARES
from flashstill.plan.layouts import Degrees, layout_of
from flashstill.plan.scenario import Scenario
from flashstill.plan.tables import Candidates


class Paired(NamedTuple):
    """Pairs of pools, one entry each: columns as those of a search, whether it fits, and chips of both pools."""

    columns: dict[str, Values]
    fits: Any


def paired(
    model: Architecture,
    conditions: Conditions,
    chosen: Candidates,
    scenario: Scenario,
    most_chips: int,
    speculation: Speculation | None,
    paid: HourlyPrice,
) -> Paired | None:
    """The pairs of pools on up to `most_chips`, priced; None if there are none. chosen: layouts of either pool."""
    degrees = chosen.degrees[:, :, 0]
    decode, batches, decode_s = _decode_front(model, conditions, degrees, chosen.batches[0], scenario, speculation)
    prefill, rates = _prefill_front(model, conditions, degrees, scenario)
    if not decode.size or not prefill.size:
        return None
    ours, theirs = (index.reshape(-1) for index in np.indices((len(batches), len(rates))))
    needed = np.ceil(batches[ours] / (scenario.osl * decode_s[ours]) / rates[theirs])
    ours, theirs = np.tile(ours, 3), np.tile(theirs, 3)
    instances = np.concatenate([needed, needed - 1.0, needed + 1.0])
    pools = Pools(prefill=layout_of(prefill[:, theirs]), instances=instances, decode=layout_of(decode[:, ours]))
    allowed = (instances >= 1) & (np.asarray(pools.chips) <= most_chips)
    if not allowed.any():
        return None
    ours, theirs, instances = ours[allowed], theirs[allowed], instances[allowed]
    pools = Pools(prefill=layout_of(prefill[:, theirs]), instances=instances, decode=layout_of(decode[:, ours]))
    load = Load(
        isl=float(scenario.isl),
        osl=float(scenario.osl),
        concurrency=batches[ours],
        burst_share=scenario.burst_share,
        cohort=scenario.cohort,
        cached=float(scenario.cached_tokens),
        isl_cv=scenario.isl_cv,
        osl_cv=scenario.osl_cv,
    )
    served = serve_apart(model, conditions, pools, load, speculation)
    columns = _columns(served, pools, batches[ours], paid)
    columns |= dict(zip(Degrees._fields, decode[:, ours], strict=True))
    columns |= {f"{PREFILL}{name}": values for name, values in zip(Degrees._fields, prefill[:, theirs], strict=True)}
    return Paired(columns, np.asarray(served.batch) > 0)


def _columns(served: PoolServing, pools: Pools, batches: Values, paid: HourlyPrice) -> dict[str, Values]:
    chips, rate = np.asarray(pools.chips), np.asarray(served.output_tokens_per_s)
    dollars = usd_per_million_tokens(paid, 1.0, chips, rate, served.watts_per_chip)
    columns: dict[str, Any] = {
        "tpot_s": served.tpot_s,
        "ttft_s": served.ttft_s,
        "output_tokens_per_s": rate,
        "tokens_per_s_per_chip": rate / chips,
        "joules_per_output_token": served.joules_per_output_token,
        "usd_per_million_output_tokens": np.inf if dollars is None else dollars,
        "watts_per_chip": served.watts_per_chip,
        **{name: getattr(served, name) for name in SHARES},
        "chips": chips,
        "batch": batches,
        "prefill_chips": pools.prefill.chips,
        "prefill_instances": pools.instances,
    }
    return {name: np.broadcast_to(column, chips.shape) for name, column in columns.items()}


def _decode_front(
    model: Architecture,
    conditions: Conditions,
    degrees: Values,
    batches: Values,
    scenario: Scenario,
    speculation: Speculation | None,
) -> tuple[Values, Values, Values]:
    """(degrees, requests in flight, seconds per token) of the decode pools that no other one beats."""
    layouts = layout_of(degrees[:, :, None])
    load = Load(
        isl=float(scenario.isl),
        osl=float(scenario.osl),
        concurrency=batches,
        isl_cv=scenario.isl_cv,
        osl_cv=scenario.osl_cv,
    )
    alone, fitting = capacity(model, conditions, layouts, load, speculation)
    running = np.minimum(batches, np.maximum(fitting, 1.0))
    step = batch_step(model, conditions, layouts, running, load.context, speculation)
    drafted = speculation.tokens_per_step if speculation else 1.0
    shape = np.broadcast_shapes(running.shape, (degrees.shape[1], len(batches)))
    usable = np.broadcast_to((np.asarray(alone) >= 1.0) & (batches >= layouts.dp), shape).reshape(-1)
    seconds = np.broadcast_to(step.seconds / drafted, shape).reshape(-1)
    size = np.broadcast_to(running, shape).reshape(-1)
    chips = np.broadcast_to(layouts.chips, shape).reshape(-1)
    joules = np.broadcast_to(step.total_joules, shape).reshape(-1)
    places = np.flatnonzero(usable)
    costs = np.stack([seconds, chips * seconds / size, joules / size], axis=1)[places]
    best = places[non_dominated(costs)] if len(places) else places
    asked = np.broadcast_to(batches, shape).reshape(-1)
    return degrees[:, best // len(batches)], asked[best], seconds[best]


def _prefill_front(
    model: Architecture, conditions: Conditions, degrees: Values, scenario: Scenario
) -> tuple[Values, Values]:
    """(degrees, prompts/s of an instance) of the prefill instances that no other one beats."""
    layouts = layout_of(degrees)
    cached = float(scenario.cached_tokens)
    load = Load(isl=float(scenario.isl), osl=1.0, concurrency=1.0, cached=cached, isl_cv=scenario.isl_cv)
    alone, _ = capacity(model, conditions, layouts, load)
    step = prefill_step(model, conditions, layouts, 1.0, load.computed, past=load.past)
    seconds = np.asarray(step.seconds)
    rate = np.asarray(layouts.dp * layouts.pp) / seconds
    costs = np.stack([seconds, layouts.chips / rate, step.total_joules / (layouts.dp * layouts.pp)], axis=1)
    places = np.flatnonzero(np.asarray(alone) >= 1.0)
    best = places[non_dominated(costs[places])] if len(places) else places
    return degrees[:, best], rate[best]
