"""The command that simulates traffic."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.agent_options import AGENTS_HELP, agent_options
from flashstill.cli.documents import asked_facts, json_option, print_json
from flashstill.cli.drafting import acceptance_options, accepted
from flashstill.cli.operations import OPERATIONS, operations_options
from flashstill.cli.options import (
    COUNT,
    RATE,
    SECONDS,
    SHARE,
    chip_option,
    deployment_options,
    facts_options,
    model_option,
    price_option,
    spread_options,
    writable,
)
from flashstill.cli.patience import Patience, requests_expected
from flashstill.cli.policy_options import POLICY, policy_options
from flashstill.cli.trace_options import TRACE_HELP, reading_of, reading_options, replay_option
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.simulate.sweep import Job

_FILE = click.Path(path_type=Path, dir_okay=False)
_TRAFFIC = (
    "trace", "speed", "replay", "rate", "cv", "concurrency", "requests", "isl", "osl", "least_ratio", "isl_cv",
    "osl_cv", "cached_ratio", "daily", "rate_scale", "lengths", "agents", "turns", "think_s", "fan_out",
    "shared_prefix", "spacing_s", "turnaround_s",
)  # fmt: skip
_SOURCES = ("trace", "rate", "concurrency", "daily", "agents")
PERCENTILE = 95.0
"""at which the bounds of a knee are to hold, unless the user says another"""


@click.command()
@model_option(required=True)
@chip_option(required=True)
@deployment_options
@click.option("--trace", type=click.Path(path_type=Path), default=None, help=TRACE_HELP)
@reading_options
@click.option("--speed", type=float, default=1.0, show_default=True, help="The trace's arrivals so many times as fast.")
@replay_option
@click.option("--rate", type=RATE, default=None, help="Requests per second, arriving by themselves.")
@click.option("--cv", type=float, default=1.0, show_default=True, help="Burstiness of --rate; 1 is a Poisson process.")
@click.option("--concurrency", type=COUNT, default=None, help="Requests in flight: one comes when one is done.")
@click.option(
    "--spacing", "spacing_s", type=SECONDS, default=0.0, help="Between the first requests of --concurrency, as 1ms."
)
@click.option(
    "--turnaround", "turnaround_s", type=SECONDS, default=None,
    help="From the last token of an answer of --concurrency to the next request, as 2ms [default: a fact].",
)  # fmt: skip
@click.option("--requests", type=COUNT, default=10_000, show_default=True, help="How many, without a trace.")
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens, without a trace.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens, without a trace.")
@spread_options
@click.option(
    "--least-ratio", type=SHARE, default=1.0, show_default=True, help="Shortest drawn length over the nominal one."
)
@click.option(
    "--cached-ratio", type=SHARE, default=0.0, show_default=True, help="Share of each prompt found in a prefix cache."
)
@click.option(
    "--daily", type=click.Path(path_type=Path), default=None,
    help="CSV of rates over time: window_start_s, rate[, cv]; or a folder of ServeGen's clients.",
)  # fmt: skip
@click.option("--rate-scale", type=float, default=1.0, show_default=True, help="Factor of the rates of --daily.")
@click.option(
    "--lengths",
    type=click.Path(path_type=Path),
    default=None,
    help="CSV to draw lengths from: input_tokens, output_tokens.",
)
@click.option("--agents", type=COUNT, default=None, help=f"{AGENTS_HELP}.")
@agent_options
@policy_options
@click.option(
    "--draft", default=None, help="Draft with this model, the model's own 'heads', or 'new-heads' yet to be trained."
)
@click.option("--draft-tokens", type=COUNT, default=3, show_default=True, help="How many tokens are drafted ahead.")
@acceptance_options
@operations_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all that is drawn.")
@click.option(
    "--knee", "with_knee", is_flag=True, help="The load at which waiting grows without bound; no --rate needed."
)
@click.option(
    "--percentile", type=float, default=None, help="With --knee: at which the bounds are to hold [default: 95]."
)
@click.option("--rates", default=None, help="A sweep: loads as 1,2,4 (requests/s, or with --trace its speed).")
@click.option(
    "--cases", type=_FILE, default=None,
    help="A sweep over policies, layouts, ...: CSV with options as columns; each row is a run (or --rates of them).",
)  # fmt: skip
@click.option("--seeds", type=COUNT, default=1, show_default=True, help="Of a sweep: runs of each load.")
@click.option("--workers", type=COUNT, default=None, help="Of a sweep: processes [default: all cores].")
@click.option(
    "--dask", default=None, metavar="ADDRESS", help="Of a sweep: run it on the cluster of this Dask scheduler."
)
@click.option(
    "--out", type=_FILE, callback=writable, default=None, help="A page of it (.html), or a sweep's rows (.csv, .json)."
)
@price_option
@facts_options
@json_option
def simulate(
    model: str,
    seed: int,
    with_knee: bool,
    percentile: float | None,
    rates: str | None,
    cases: Path | None,
    seeds: int,
    workers: int | None,
    dask: str | None,
    out: Path | None,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """What traffic gets: latencies at percentiles, waiting, cache, energy and dollars, event by event."""
    from flashstill.cli.knees import print_knee
    from flashstill.cli.simulated import print_simulation
    from flashstill.cli.sweeping import check_sweep, chips_asked, jobs_asked, loads_of, print_rows, swept, write_rows
    from flashstill.console import Console
    from flashstill.report.simulation import write_simulation_page
    from flashstill.simulate.compiled import IS_COMPILED, telling
    from flashstill.simulate.knee import knee
    from flashstill.simulate.simulation import simulate as simulated

    facts = asked_facts(facts_directories, edits, as_json, chips=chips_asked(flags, cases) if edits else ())
    check_sweep(rates, seeds, workers, dask, cases)
    if percentile is not None and not with_knee:
        raise BadInput("--percentile is of the knee; give --knee")
    loads = None if rates is None else loads_of(rates)
    if loads is not None and flags["rate"] is not None:
        raise BadInput("give --rate or --rates, not both")
    if with_knee and cases is not None:
        raise BadInput("--knee is of one question; leave --cases out")
    if not IS_COMPILED:
        click.echo('numba is not installed, so events pass slowly; pip install "flashstill[simulate]"', err=True)
    click.get_current_context().with_resource(telling(lambda line: click.echo(line, err=True)))
    free, sweeps = all(flags[name] is None for name in _SOURCES), loads is not None or cases is not None
    flags = accepted(flags)
    asked = {"model": model, "seed": seed, **flags}
    make = partial(_job, price=price, facts=(facts_directories, edits), any_rate=with_knee or loads is not None)
    rows: list[dict[str, Any]] = []
    answer = found = None
    if sweeps:
        rows = swept(jobs_asked(make, asked, cases, loads, seeds), workers, dask, out)
    if cases is None:
        job = make(asked)
        parts = facts, model, job.deployment, job.traffic, job.policy, seed
        if with_knee and job.operations.changes:
            raise BadInput("the knee is that of replicas that always serve; leave failures and scaling out")
        found = knee(*parts, PERCENTILE if percentile is None else percentile, Console()) if with_knee else None
        if not (sweeps or (with_knee and free)):
            with Patience(requests_expected(job.traffic), Console()) as told:
                answer = simulated(*parts, price, job.operations, told)
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        write_rows(out, rows or next(each for each in (answer, found) if each is not None).as_records())
    elif out is not None:
        documents = None if answer is None else answer.as_dict(), None if found is None else found.as_dict()
        write_simulation_page(out, f"{model} on {flags['chip']}", *documents, rows)
    if as_json:
        document = {"rows": rows} if sweeps else {} if answer is None else answer.as_dict()
        print_json(document | ({} if found is None else {"knee": found.as_dict()}))
        return
    if answer is not None:
        print_simulation(model, answer)
    if sweeps:
        print_rows(rows)
    if found is not None:
        print_knee(found, flags["max_ttft_s"], flags["max_tpot_s"])


def _job(
    asked: Mapping[str, Any], columns: Mapping[str, Any] | None = None, *, price: str, facts: Any, any_rate: bool
) -> Job:
    """The run that the options ask for. columns: of a row of cases; any_rate: traffic without a rate gets one."""
    from flashstill.plan.deployment import Deployment
    from flashstill.simulate.operations import Operations
    from flashstill.simulate.own_scheduler import scheduler_of
    from flashstill.simulate.policy import Policy
    from flashstill.simulate.sweep import Job, label_of
    from flashstill.simulate.traffic import Traffic

    flags = dict(asked)
    model, seed = flags.pop("model"), flags.pop("seed")
    traffic = {name: flags.pop(name) for name in _TRAFFIC} | {"reading": reading_of(flags)}
    if any_rate and all(traffic[name] is None for name in _SOURCES):
        traffic["rate"] = 1.0
    flags["scheduler"] = scheduler_of(flags["scheduler"])
    return Job(
        label=label_of(columns or {}) or flags["chip"],
        load=0.0,
        model=model,
        traffic=Traffic(**traffic),
        policy=Policy(**{name: flags.pop(name) for name in POLICY}),
        operations=Operations(**{name: flags.pop(name) for name in OPERATIONS}),
        deployment=Deployment(**flags),
        seed=seed,
        price=price,
        facts=facts,
        columns=tuple((columns or {}).items()),
    )
