"""The Python face of the simulation: what traffic gets on replicas of a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashstill.asking import OF_ALL, Edits, FactsLike, facts_of, of_kind, texts_of
from flashstill.calls import refuses_other_keywords
from flashstill.errors import BadInput, FlashstillError, unknown
from flashstill.plan.deployment import Deployment
from flashstill.simulate.answer import Simulation
from flashstill.simulate.hours import schedule_of
from flashstill.simulate.knee import Knee
from flashstill.simulate.knee import knee as knee_of_traffic
from flashstill.simulate.operations import Operations
from flashstill.simulate.own_scheduler import scheduler_of
from flashstill.simulate.policy import Policy
from flashstill.simulate.simulation import simulate as simulate_traffic
from flashstill.simulate.traffic import Traffic
from flashstill.sweeps import combinations, is_axis, several
from flashstill.traces.reading import READING, Reading

if TYPE_CHECKING:
    from flashstill.arch import Architecture

__all__ = ["knee", "simulate", "simulate_sweep"]
NO_AXES = ("replicas_by_hour",)
"""keywords of which a sequence is one value"""
_TRAFFIC, _POLICY, _OPERATIONS, _DEPLOYMENT = (
    tuple(field.name for field in fields(kind) if field.name not in ("chip", "reading"))
    for kind in (Traffic, Policy, Operations, Deployment)
)
_KINDS = {
    field.name: str(field.type).replace("Path | None", "str | Path | None")
    for kind in (Traffic, Reading, Policy, Operations, Deployment)
    for field in fields(kind)
}
"""keywords with their types as text; a path may be text"""


@refuses_other_keywords
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

    Give one of trace (a file of requests in one of the formats of docs/simulate.md), rate (requests per second that
    arrive by themselves), concurrency (requests in flight), daily (a CSV file of rates: window_start_s,
    rate[, cv]; or a folder of ServeGen's clients) and agents (sessions of turns).
    more: fields of the traffic (requests, isl, osl, least_ratio, isl_cv, osl_cv, cv, cached_ratio, speed, replay,
    rate_scale, lengths, turns, think_s, fan_out, shared_prefix, spacing_s, turnaround_s), of how a trace is read
    (hash_block, trace_format, time_unit, trace_columns, trace_only, trace_sort, turn_lengths, skip_failed,
    trace_from_s, trace_until_s), of the policy (scheduler, refill_sequences, refuse_late, step_tokens, sequences,
    block_tokens, cache_blocks, replicas, prefill_replicas, prefill_chip, router, prefix_cache, prefix_margin,
    preemption, max_ttft_s, max_tpot_s, draft, draft_tokens, acceptance, acceptance_decay, measured_acceptance), of
    failures and scaling (chip_mtbf_s, repair_s,
    retries, cold_start_s, replicas_by_hour, autoscale, scale_target, min_replicas, max_replicas, scale_interval_s,
    scale_down_s)
    and of a `Deployment`.
    scheduler: a name, or a function of your own, or FILE.py:NAME of one, which gets a `ReplicaView` before each step
    and returns a `Decision`.
    seed: the same seed gives the same answer.  price, facts and set work as in `predict`.
    Raises BadInput for invalid values or a trace with a mistake (its line is named), MissingFact for unknown names,
    and InfeasiblePlan if the memory holds no request.
    """
    model, chip = of_kind("model", model, ""), of_kind("chip", chip, "str")
    asked, policy, operations, used = _sorted("simulate", {"rate": rate, "concurrency": concurrency, **more})
    policy = _with_own(policy)
    traffic = Traffic(trace=None if trace is None else Path(trace), **asked)
    return simulate_traffic(
        facts_of(facts, set, (chip, policy.get("prefill_chip"))), model, Deployment(chip=chip, **used), traffic,
        Policy(**policy), seed, price,
        Operations(**operations),
    )  # fmt: skip


@refuses_other_keywords
def simulate_sweep(
    *,
    model: str | Sequence[str],
    chip: str | Sequence[str],
    seeds: int = 1,
    seed: int = 0,
    workers: int | None = None,
    dask: str | None = None,
    price: str = "rented",
    facts: str | Path | Iterable[str | Path] = (),
    set: Edits | None = None,
    told: Callable[[int, int], None] = lambda done, runs: None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Simulate every combination of the values, on all cores: one flat row for each run, for pandas or polars.

    model, chip and more: as in `simulate`, each one value or several (a list, tuple, range or array); the last varies
    fastest.  seeds: runs of each, from `seed` on.  workers: processes [all cores; scripts need `if __name__ ==
    "__main__"`]; 1 stays in this one.  dask: the address of a scheduler.  facts: directories.  told: gets
    the number of runs that are done, and of all, after each.
    A combination without an answer is a row whose `fits` is False, with its `reason`; BadInput for an unknown keyword.
    """
    from flashstill.simulate.sweep import Job, Row, each_row, label_of, seeded

    keywords = {"model": model, "chip": chip, **more}
    whole = {name: schedule_of(keywords.pop(name)) or None for name in NO_AXES if name in keywords}
    runs: list[Job | Row] = []
    for values in combinations({name: value for name, value in keywords.items() if value is not None})[0]:
        varied = {name: value for name, value in values.items() if is_axis(keywords[name])}
        on = {name: values.pop(name) for name in ("model", "chip")}
        asked, policy, operations, used = _sorted("simulate_sweep", {**values, **whole})
        try:
            run = Job(
                label=label_of(varied) or on["chip"], load=0.0, model=on["model"], seed=seed, price=price,
                deployment=Deployment(chip=on["chip"], **used), traffic=Traffic(**asked), policy=Policy(**policy),
                operations=Operations(**operations), columns=tuple(varied.items()),
                facts=(tuple(Path(each) for each in several(facts)), tuple(texts_of(set))),
            )  # fmt: skip
            runs += seeded(run, seeds)
        except FlashstillError as error:
            runs.append({"label": label_of(varied), **varied, "fits": False, "reason": str(error)})
    if set:
        facts_of(facts, set, (*several(chip), *several(more.get("prefill_chip"))))
    rows: dict[int, Row] = {}
    for place, row in each_row(runs, workers, dask):
        rows[place] = row
        told(len(rows), len(runs))
    return [rows[place] for place in sorted(rows)]


@refuses_other_keywords
def knee(
    *,
    model: str | Architecture,
    chip: str,
    trace: str | Path | None = None,
    percentile: float = 95.0,
    seed: int = 0,
    facts: FactsLike = (),
    set: Edits | None = None,
    **more: Any,
) -> Knee:
    """The load at which waiting begins to grow without bound, in requests per second with a 95 % interval.

    In closed form and by simulation, which are compared; what binds: sequences, memory, prefill or compute.  With
    max_ttft_s or max_tpot_s, also the load at which that percentile of the latency first breaks its bound.
    The lengths are those of a trace, or isl and osl.  more, seed, facts and set: as in `simulate`.
    Raises what `simulate` raises.
    """
    model, chip = of_kind("model", model, ""), of_kind("chip", chip, "str")
    asked, policy, operations, used = _sorted("knee", more)
    policy = _with_own(policy)
    if operations:
        raise BadInput(f"the knee is that of replicas that always serve; leave {next(iter(operations))} out")
    if trace is None and not {"rate", "concurrency", "daily", "agents"} & asked.keys():
        asked["rate"] = 1.0  # the knee depends on the lengths, not on the rate
    traffic = Traffic(trace=None if trace is None else Path(trace), **asked)
    table = facts_of(facts, set, (chip, policy.get("prefill_chip")))
    return knee_of_traffic(table, model, Deployment(chip=chip, **used), traffic, Policy(**policy), seed, percentile)


_Keywords = dict[str, Any]


def _with_own(policy: _Keywords) -> _Keywords:
    """The policy with the function in place of FILE.py:NAME."""
    text = policy.get("scheduler")
    return {**policy, "scheduler": scheduler_of(text)} if isinstance(text, str) else policy


def _sorted(function: str, more: _Keywords) -> tuple[_Keywords, _Keywords, _Keywords, _Keywords]:
    """Keywords of the traffic, the policy, operations and the deployment. BadInput for one that is unknown."""
    known = (*_TRAFFIC, *READING, *_POLICY, *_OPERATIONS, *_DEPLOYMENT)
    for name in more:
        if name not in known:
            raise BadInput(unknown(f"keyword of {function}", name, (*known, *OF_ALL)))
    more = {name: of_kind(name, value, _KINDS[name]) for name, value in more.items()}
    traffic, policy, operations, deployment = (
        {name: Path(value) if name in ("daily", "lengths") and value is not None else value
         for name, value in more.items() if name in names}
        for names in (_TRAFFIC, _POLICY, _OPERATIONS, _DEPLOYMENT)
    )  # fmt: skip
    reading = {name: value for name, value in more.items() if name in READING}
    return traffic | ({"reading": Reading(**reading)} if reading else {}), policy, operations, deployment
