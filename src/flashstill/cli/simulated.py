"""What the simulation of one run says on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flashstill.units import SECONDS_PER_HOUR, show

if TYPE_CHECKING:
    from flashstill.simulate.answer import Simulation


def print_simulation(model: str, answer: Simulation) -> None:
    """A summary, the percentiles as a table, and warnings."""
    from flashstill.printing import print_notes

    _print_load(model, answer)
    _print_latencies(answer)
    _print_prices(answer)
    _print_warnings(answer)
    print_notes(answer.notes)


def _print_load(model: str, answer: Simulation) -> None:
    """What ran, how busy it was, and what happened to replicas, caches and turns."""
    from flashstill.fleets.copies import layout_name

    used = answer.deployment
    replicas = f"{answer.policy.replicas} x " if answer.policy.replicas > 1 else ""
    click.echo(f"{model} on {replicas}{layout_name(used)}, {used.engine}: {answer.requests:,} requests")
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
        other = answer.prefill_deployment if name == "prefill" else None
        kind = "chips" if other is None else other.chip
        click.echo(f"{name}: {role.replicas} x {role.chips} {kind}, busy {role.utilisation:.0%}")
    if answer.operations.changes:
        up = SECONDS_PER_HOUR * answer.replica_hours / answer.seconds
        click.echo(
            f"{up:.2f} replicas on average ({answer.replica_hours:,.2f} replica-hours), {answer.failures:,} failures,"
            f" {answer.retries:,} requests tried again"
        )
    if answer.replayed is not None:
        turns = answer.replayed
        late = f", by {show(turns.late_mean_s, 's')} on average" if turns.late else ""
        click.echo(
            f"{turns.replay}: {turns.turns:,} turns waited for the one before them, and {turns.late:,} came later than"
            f" in the trace{late}"
        )


def _print_latencies(answer: Simulation) -> None:
    from flashstill.printing import print_table

    heading = ["", "mean", "p50", "p90", "p95", "p99", "n"]
    rows = [
        [name.removesuffix("_s").replace("_", " "), show(each.mean_s, "s"),
         *(show(value, "s") for value, _, _ in each.percentiles.values()), f"{each.n:,}"]
        for name, each in answer.latencies.items()
    ]  # fmt: skip
    print_table([heading, *rows])


def _print_prices(answer: Simulation) -> None:
    """Joules and dollars, and the requests that kept their bounds."""
    dollars = answer.usd_per_million_output_tokens
    price = answer.price_basis
    if dollars is not None:
        price = f"${dollars:,.2f} per million output tokens ({answer.price_basis})"
    click.echo(f"{answer.joules_per_output_token:.3g} J per output token; {price}")
    if answer.usd_per_million is not None:
        kinds = {kind: each for kind, each in answer.usd_per_million.items() if each is not None}
        parts = ", ".join(f"{kind} ${each:,.3g}" for kind, each in kinds.items())
        click.echo(f"per million tokens of each kind, by the step time it causes: {parts}")
    if answer.policy.max_ttft_s or answer.policy.max_tpot_s:
        click.echo(f"goodput: {answer.goodput_per_s:.3g} requests/s, {answer.goodput_ratio:.1%} of those that came")


def _print_warnings(answer: Simulation) -> None:
    """What was refused or failed, and whether the load can be served at all, on standard error."""
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
