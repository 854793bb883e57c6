"""The command that simulates traffic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import echo_edits, json_option, print_json
from flashstill.cli.operations import OPERATIONS, operations_options
from flashstill.cli.options import (
    COUNT,
    RATE,
    SECONDS,
    SHARE,
    WORD,
    chip_option,
    deployment_options,
    facts_options,
    model_option,
    price_option,
)
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.simulate.answer import Simulation

_FILE = click.Path(path_type=Path, dir_okay=False)
_TRAFFIC = (
    "trace", "speed", "rate", "cv", "concurrency", "requests", "isl", "osl", "least_ratio", "cached_ratio", "daily",
    "rate_scale", "lengths", "hash_block", "agents", "turns", "think_s", "fan_out", "shared_prefix",
)  # fmt: skip
_POLICY = (
    "scheduler", "refill_sequences", "refuse_late", "step_tokens", "sequences", "block_tokens", "replicas", "router",
    "prefill_replicas", "prefix_cache", "prefix_margin", "preemption", "max_ttft_s", "max_tpot_s", "draft",
    "draft_tokens", "acceptance", "acceptance_decay",
)  # fmt: skip


@click.command()
@model_option(required=True)
@chip_option(required=True)
@deployment_options
@click.option(
    "--trace",
    type=_FILE,
    default=None,
    help="CSV: arrival_s, input_tokens, output_tokens[, ...]; or JSON lines as Mooncake's.",
)
@click.option("--speed", type=float, default=1.0, show_default=True, help="The trace's arrivals so many times as fast.")
@click.option("--rate", type=RATE, default=None, help="Requests per second, arriving by themselves.")
@click.option("--cv", type=float, default=1.0, show_default=True, help="Burstiness of --rate; 1 is a Poisson process.")
@click.option("--concurrency", type=COUNT, default=None, help="Requests in flight: one comes when one is done.")
@click.option("--requests", type=COUNT, default=10_000, show_default=True, help="How many, without a trace.")
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens, without a trace.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens, without a trace.")
@click.option(
    "--least-ratio", type=SHARE, default=1.0, show_default=True, help="Shortest drawn length over the nominal one."
)
@click.option(
    "--cached-ratio", type=SHARE, default=0.0, show_default=True, help="Share of each prompt found in a prefix cache."
)
@click.option("--daily", type=_FILE, default=None, help="CSV of rates over time: window_start_s, rate[, cv].")
@click.option("--rate-scale", type=float, default=1.0, show_default=True, help="Factor of the rates of --daily.")
@click.option("--lengths", type=_FILE, default=None, help="CSV to draw lengths from: input_tokens, output_tokens.")
@click.option(
    "--hash-block", type=COUNT, default=None, help="Tokens of a block of JSON lines' hash_ids [default: 512]."
)
@click.option("--agents", type=COUNT, default=None, help="Sessions of turns whose prompts repeat what was said.")
@click.option("--turns", type=COUNT, default=10, show_default=True, help="Of each agent.")
@click.option("--think", "think_s", type=SECONDS, default=0.0, help="Mean time of an agent between turns, as 20s.")
@click.option("--fan-out", type=COUNT, default=1, show_default=True, help="Requests at once of each turn of an agent.")
@click.option(
    "--shared-prefix", type=click.IntRange(min=0), default=0, help="Tokens that all prompts of agents begin with."
)
@click.option(
    "--scheduler",
    default=None,
    help="chunked, prefill-first, decode-priority, slo-aware, or a function of your own as FILE.py:NAME, which is run"
    " [default: the engine's].",
)
@click.option(
    "--refill-sequences",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="decode-priority: prompts start once only so many sequences decode.",
)
@click.option("--refuse-late", is_flag=True, help="slo-aware: turn away requests that can no longer keep --max-ttft.")
@click.option("--step-tokens", type=COUNT, default=None, help="Most tokens of one step [default: the engine's].")
@click.option("--sequences", type=COUNT, default=None, help="Most sequences running at once [default: the engine's].")
@click.option("--block-tokens", type=COUNT, default=None, help="Tokens of a cache block [default: the engine's].")
@click.option("--replicas", type=COUNT, default=1, show_default=True, help="Copies of the deployment.")
@click.option("--prefill-replicas", type=COUNT, default=None, help="Prefill instances of all copies together.")
@click.option(
    "--router", type=WORD, default="least-requests", show_default=True,
    help="round-robin, least-requests, two-choices, least-tokens, central or prefix.",
)  # fmt: skip
@click.option("--preemption", type=WORD, default="recompute", show_default=True, help="recompute, or swap to the host.")
@click.option("--prefix-cache", type=WORD, default=None, help="lru or off [default: lru where the trace has hashes].")
@click.option(
    "--prefix-margin", type=click.IntRange(min=0), default=None,
    help="--router prefix: most requests above the least loaded replica [default: as SGLang's].",
)  # fmt: skip
@click.option("--max-ttft", "max_ttft_s", type=SECONDS, default=None, help="Bound of goodput, as 500ms.")
@click.option("--max-tpot", "max_tpot_s", type=SECONDS, default=None, help="Bound of goodput, as 30ms.")
@click.option(
    "--draft", default=None, help="Draft with this model, the model's own 'heads', or 'new-heads' yet to be trained."
)
@click.option("--draft-tokens", type=COUNT, default=3, show_default=True, help="How many tokens are drafted ahead.")
@click.option("--acceptance", type=SHARE, default=0.7, show_default=True, help="Rate at which a draft is accepted.")
@click.option(
    "--acceptance-decay",
    type=SHARE,
    default=1.0,
    show_default=True,
    help="Its factor for each position after the first.",
)
@operations_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--knee", "with_knee", is_flag=True, help="The load at which waiting grows without bound; no --rate needed."
)
@click.option(
    "--percentile", type=float, default=95.0, show_default=True, help="With --knee: at which the bounds are to hold."
)
@click.option("--rates", default=None, help="A sweep: loads as 1,2,4 (requests/s, or with --trace its speed).")
@click.option("--seeds", type=COUNT, default=1, show_default=True, help="Of a sweep: runs of each load.")
@click.option("--workers", type=COUNT, default=None, help="Of a sweep: processes [default: all cores].")
@click.option(
    "--dask", default=None, metavar="ADDRESS", help="Of a sweep: run it on the cluster of this Dask scheduler."
)
@click.option("--out", type=_FILE, default=None, help="A page of it (.html), or a sweep's rows (.csv, .json).")
@price_option
@facts_options
@json_option
def simulate(
    model: str,
    seed: int,
    with_knee: bool,
    percentile: float,
    rates: str | None,
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
    from flashstill.cli.sweeping import check_sweep, loads_of, print_rows, swept, write_rows
    from flashstill.console import Console
    from flashstill.facts import load
    from flashstill.plan.deployment import Deployment
    from flashstill.report.simulation import write_simulation_page
    from flashstill.simulate.compiled import IS_COMPILED, telling
    from flashstill.simulate.knee import knee
    from flashstill.simulate.operations import Operations
    from flashstill.simulate.own_scheduler import scheduler_of
    from flashstill.simulate.policy import Policy
    from flashstill.simulate.simulation import simulate as simulated
    from flashstill.simulate.sweep import Job, jobs_of
    from flashstill.simulate.traffic import SOURCES, Traffic

    facts = load(facts_directories, edits)
    echo_edits(facts, as_json)
    asked = {name: flags.pop(name) for name in _TRAFFIC}
    free = all(asked[name] is None for name in SOURCES)
    check_sweep(rates, seeds, workers, dask)
    loads, only_knee = None if rates is None else loads_of(rates), with_knee and free
    if loads is not None and asked["rate"] is not None:
        raise BadInput("give --rate or --rates, not both")
    traffic = Traffic(**asked | ({"rate": 1.0} if free and (with_knee or loads) else {}))
    flags["scheduler"] = scheduler_of(flags["scheduler"])
    policy = Policy(**{name: flags.pop(name) for name in _POLICY})
    if not IS_COMPILED:
        click.echo('numba is not installed, so events pass slowly; pip install "flashstill[simulate]"', err=True)
    click.get_current_context().with_resource(telling(lambda line: click.echo(line, err=True)))
    operations = Operations(**{name: flags.pop(name) for name in OPERATIONS})
    if with_knee and operations.changes:
        raise BadInput("the knee is that of replicas that always serve; leave failures and scaling out")
    deployment = Deployment(**flags)
    found = knee(facts, model, deployment, traffic, policy, seed, percentile, Console()) if with_knee else None
    rows: list[dict[str, Any]] = []
    if loads is not None:
        base = Job(
            label=deployment.chip, load=0.0, model=model, deployment=deployment, traffic=traffic, policy=policy,
            seed=seed, price=price, facts=(facts_directories, edits), operations=operations,
        )  # fmt: skip
        rows = swept(jobs_of(base, loads, seeds), workers, dask, out)
    alone = not only_knee and loads is None
    answer = simulated(facts, model, deployment, traffic, policy, seed, price, operations) if alone else None
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        write_rows(out, rows or next(each for each in (answer, found) if each is not None).as_records())
    elif out is not None:
        title = f"{model} on {deployment.chip}"
        documents = None if answer is None else answer.as_dict(), None if found is None else found.as_dict()
        write_simulation_page(out, title, *documents, rows)
    if as_json:
        document = {"rows": rows} if loads is not None else {} if answer is None else answer.as_dict()
        print_json(document | ({} if found is None else {"knee": found.as_dict()}))
        return
    if answer is not None:
        print_simulation(model, answer)
    if loads is not None:
        print_rows(rows)
    if found is not None:
        print_knee(found, policy.max_ttft_s, policy.max_tpot_s)


def print_simulation(model: str, answer: Simulation) -> None:
    """A summary, the percentiles as a table, and warnings."""
    from flashstill.printing import print_notes, print_table
    from flashstill.units import SECONDS_PER_HOUR, show

    used = answer.deployment
    replicas = f"{answer.policy.replicas} x " if answer.policy.replicas > 1 else ""
    click.echo(
        f"{model} on {replicas}{used.chips} x {used.chip} (tp{used.tp}), {used.engine}: {answer.requests:,} requests"
    )
    click.echo(
        f"in {show(answer.seconds, 's')}: {answer.output_tokens_per_s:,.0f} output tokens/s, {answer.mean_running:.1f}"
        f" running on average, busy {answer.utilisation:.0%}, {answer.preemptions:,} preemptions"
    )
    if answer.cached_tokens:
        click.echo(
            f"{answer.cached_tokens / answer.input_tokens:.1%} of the prompt tokens were cached;"
            f" {answer.evicted_blocks:,} cache blocks were evicted"
        )
    for name, role in answer.roles.items() if len(answer.roles) > 1 else ():
        click.echo(f"{name}: {role.replicas} x {role.chips} chips, busy {role.utilisation:.0%}")
    if answer.operations.changes:
        up = SECONDS_PER_HOUR * answer.replica_hours / answer.seconds
        click.echo(
            f"{up:.2f} replicas on average ({answer.replica_hours:,.2f} replica-hours), {answer.failures:,} failures,"
            f" {answer.retries:,} requests tried again"
        )
    heading = ["", "mean", "p50", "p90", "p95", "p99", "n"]
    rows = [
        [name.removesuffix("_s").replace("_", " "), show(each.mean_s, "s"),
         *(show(value, "s") for value, _, _ in each.percentiles.values()), f"{each.n:,}"]
        for name, each in answer.latencies.items()
    ]  # fmt: skip
    print_table([heading, *rows])
    dollars = answer.usd_per_million_output_tokens
    price = "no price is known" if dollars is None else f"${dollars:,.2f} per million output tokens"
    click.echo(f"{answer.joules_per_output_token:.3g} J per output token; {price} ({answer.price_basis})")
    if answer.usd_per_million is not None:
        kinds = {kind: each for kind, each in answer.usd_per_million.items() if each is not None}
        parts = ", ".join(f"{kind} ${each:,.3g}" for kind, each in kinds.items())
        click.echo(f"per million tokens of each kind, by the step time it causes: {parts}")
    if answer.policy.max_ttft_s or answer.policy.max_tpot_s:
        click.echo(f"goodput: {answer.goodput_per_s:.3g} requests/s, {answer.goodput_ratio:.1%} of those that came")
    if answer.refused:
        click.echo(f"{answer.refused:,} requests are larger than the cache and were refused", err=True)
    if answer.failed:
        click.echo(f"{answer.failed:,} requests failed", err=True)
    if answer.refused_late:
        click.echo(f"{answer.refused_late:,} requests could no longer keep their bound and were refused", err=True)
    if answer.steady is not None and not answer.steady.is_steady:
        click.echo(
            f"not steady: waiting grows from {show(answer.steady.before_s, 's')} to {show(answer.steady.after_s, 's')};"
            " this is more than the replicas can serve, and percentiles depend on the length of the run",
            err=True,
        )
    print_notes("; ".join(answer.notes))
