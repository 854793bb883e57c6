"""plan --trace: the cheapest fleet under the requests of a trace."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import print_json
from flashstill.cli.options import given_options
from flashstill.cli.trace_options import READING
from flashstill.errors import BadInput
from flashstill.units import SECONDS_PER_HOUR, show

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.fleets.answer import FleetPlan

FLEET_ONLY = ("slo", "speed", "window", "cold_start", "router", "co_located", *READING)
REPEATED = ("model", "trace", "speed", "router", "price", *READING, "facts_directories", "edits")
"""what the simulation of a fleet needs as it was given: the traffic, and what prices and step times come from"""
DECIDED = (
    "chips_from", "max_chips", "precision", "kv_precision", "engine", "disaggregated", "co_located", "slo", "window",
    "cold_start", "as_json",
)  # fmt: skip
"""what the fleet answers, or what a simulation of it does not know"""
BESIDE_A_TRACE = (*REPEATED, *DECIDED)


def check_question(asked: Mapping[str, Any]) -> bool:
    """Whether a fleet is asked for; BadInput for options that have no place beside the others."""
    given = given_options()
    if asked["trace"] is None:
        for name in FLEET_ONLY:
            if name in given:
                raise BadInput(f"{given[name]} is of a fleet, which needs the requests of a --trace")
        if asked["max_chips"] is None:
            raise click.MissingParameter(
                ctx=click.get_current_context(), param_type="option", param_hint="'--max-chips'"
            )
        return False
    for name in given:
        if name not in BESIDE_A_TRACE:
            raise BadInput(f"{given[name]} has no place beside --trace: a fleet follows from its requests and --slo")
    if asked["slo"] is None:
        raise BadInput('a fleet needs bounds: give --slo, as "ttft_p95<0.5,tpot_p95<30ms"')
    return True


def plan_trace(facts: Facts, asked: Mapping[str, Any], as_json: bool) -> None:
    """Print the cheapest fleet, as text or as a JSON document. asked: chips_from and precision as lists."""
    from flashstill.fleet_sizing import plan_fleet
    from flashstill.simulate.compiled import IS_COMPILED, telling

    if not IS_COMPILED:
        click.echo('numba is not installed, so events pass slowly; pip install "flashstill[simulate]"', err=True)
    click.get_current_context().with_resource(telling(lambda line: click.echo(line, err=True)))
    shows = sys.stderr.isatty()
    answer = plan_fleet(
        model=asked["model"],
        chips=asked["chips_from"],
        trace=asked["trace"],
        slo=asked["slo"],
        max_chips=asked["max_chips"],
        precision=asked["precision"],
        kv_precision=asked["kv_precision"],
        engine=asked["engine"],
        speed=asked["speed"],
        window_s=SECONDS_PER_HOUR if asked["window"] is None else asked["window"],
        cold_start_s=asked["cold_start"] or 0.0,
        disaggregated=not asked["co_located"],
        price=asked["price"],
        told=(lambda text: click.echo(text, err=True)) if shows else (lambda text: None),
        facts=facts,
        router=asked["router"],
        **{name: asked[name] for name in READING},
    )
    if as_json:
        print_json(answer.as_dict())
    else:
        print_fleet(answer)
        print_again(answer, asked)


def print_again(answer: FleetPlan, asked: Mapping[str, Any]) -> None:
    """The command that serves the trace with the fleet, as far as it stays the same all the time."""
    used, given = answer.fleet.keywords, given_options()
    if used is None or len(answer.fleet.replicas_by_window) > 1:
        return
    words = ["flashstill", "simulate"]
    for name in REPEATED:
        if name in given:
            values = asked[name] if isinstance(asked[name], tuple) else (asked[name],)
            words += [word for value in values for word in _option(given[name], value)]
    words += [word for name, value in used.items() for word in _option(f"--{name.replace('_', '-')}", value)]
    click.echo(f"the same in a simulation: {shlex.join(words)}")


def _option(name: str, value: Any) -> list[str]:
    """A word or two of a command line: a flag stands alone."""
    return [name] if value is True else [name, str(value)]


def print_fleet(answer: FleetPlan) -> None:
    """The fleet and its proof, what binds, and a table of other bounds and more traffic."""
    from flashstill.printing import print_notes, print_table

    fleet, proof, binds = answer.fleet, answer.proof, answer.binds
    click.echo(f"{answer.model}: {answer.requests:,} requests in {show(answer.span_s, 's')}; {', '.join(answer.slo)}")
    basis = answer.price_basis
    if answer.prefill_price_basis is not None:
        basis += f"; prefill {answer.prefill_price_basis}"
    click.echo(f"{fleet.name}: ${answer.usd_per_hour:,.2f} an hour, {_bound(answer)} ({basis})")
    if answer.pairs is not None:
        click.echo(_kind(answer))
    if len(fleet.replicas_by_window) > 1:
        click.echo(f"replicas in each {show(answer.window_s, 's')}: {' '.join(map(str, fleet.replicas_by_window))}")
        if fleet.prefill_replicas:
            click.echo(f"prefill replicas: {' '.join(map(str, fleet.prefill_replicas_by_window))}")
    reached = ", ".join(f"{name} {show(seconds, 's')}" for name, seconds in proof.worst.items())
    busy = f"busy {proof.busy:.0%}" + ("" if proof.prefill_busy is None else f", prefill {proof.prefill_busy:.0%}")
    click.echo(f"kept under {proof.seeds} seeds, at worst {reached}; {busy}")
    role = "decode replica" if fleet.prefill_replicas else "replica"
    _print_fewer(role, proof.fewer_breaks, proof.fewer_seconds, proof.fewer_seed)
    _print_fewer(
        "prefill replica", proof.fewer_prefills_breaks, proof.fewer_prefills_seconds, proof.fewer_prefills_seed
    )
    batch = f"{binds.batch_sequences:,.0f} decode at a time at most, for {binds.batch}"
    click.echo(f"what binds: {batch}; {binds.whole_replicas:.1f} times the replicas of the mean load")
    heading = ["", "fleet", "$ per hour", "times", "lower bound", "gap"]
    rows = [
        [
            row["question"],
            row["fleet"],
            _number(row["usd_per_hour"], ",.2f"),
            _number(row["times"], ".2f"),
            _number(row["lower_bound_usd_per_hour"], ",.2f"),
            _number(row["gap"], ".0%"),
        ]
        for row in answer.as_records()
    ]
    print_table([heading, *rows])
    flips = " and ".join(name.removesuffix(" the traffic") for name in answer.flips)
    design = f"changes at {flips}" if flips else "stays"
    click.echo(
        f"times: of the dollars as asked, for more traffic per request; from 1x to 100x the traffic the design {design}"
    )
    click.echo(f"{answer.considered:,} layouts by the closed form, {answer.simulated:,} runs")
    print_notes(answer.notes)


def _kind(answer: FleetPlan) -> str:
    """Co-located or not, and what the other kind costs."""
    fleet, other = answer.fleet, answer.co_located_usd_per_hour
    if fleet.prefill_replicas:
        costs = "no co-located fleet keeps the bounds" if other is None else f"co-located ${other:,.2f} an hour"
        return f"{fleet.kind}, {fleet.prefill_replicas} prefill to {fleet.replicas} decode; {costs}"
    return f"{fleet.kind}: no pools of prefill and decode that were tried are cheaper"


def _print_fewer(role: str, breaks: str | None, seconds: float | None, seed: int | None) -> None:
    if breaks:
        reached = "" if seconds is None else f": {show(seconds, 's')}"
        click.echo(f"one {role} fewer breaks {breaks}{reached} (seed {seed})")


def _bound(answer: FleetPlan) -> str:
    return f"at least ${answer.lower_bound_usd_per_hour:,.2f} for any fleet, a gap of {answer.gap:.0%}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None or not math.isfinite(value) else format(value, form)
