"""A measured server as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flashstill.load_test.answer import Measurement
    from flashstill.load_test.summary import LevelResult


def print_measurement(found: Measurement) -> None:
    """Every level as a table, and what must be known of it."""
    from flashstill.load_test.answer import notes
    from flashstill.load_test.summary import DEFINITIONS
    from flashstill.printing import print_notes, print_table
    from flashstill.units import show

    dialect = found.dialect
    click.echo(f"{dialect.model} at {found.asked.address}, /v1{dialect.path}, asked as {dialect.name}")
    for level in found.levels:
        click.echo(f"\n{level.level}: {level.ok:,} of {level.requests:,} requests ended well, {len(level.runs)} runs")
        for name, unit in (("output_tokens_per_s", "output tokens/s"), ("requests_per_s", "requests/s")):
            if name in level.over_runs:
                each = level.over_runs[name]
                ends = f"{each.low:,.4g} to {each.high:,.4g}"
                click.echo(f"{each.median:,.4g} {unit} ({ends}, {each.confidence:.0%} of the median over runs)")
        _print_turns(found.asked.replay, level)
        heading = ["", "mean", "p50", "p90", "p95", "p99", "n"]
        rows = [
            [name.removesuffix("_s").replace("_", " "), show(each.mean, "s"),
             *("-" if end.value is None else show(end.value, "s") for end in each.percentiles.values()), f"{each.n:,}"]
            for name, each in level.latencies.items()
        ]  # fmt: skip
        if rows:
            print_table([heading, *rows])
    if found.saturation is not None:
        limit = found.saturation
        click.echo(f"\nsaturated at {limit.beyond:g} ({limit.why}); {limit.output_tokens_per_s:,.4g} output tokens/s")
    click.echo(f"\nenergy: {found.energy}")
    for name, text in DEFINITIONS.items():
        click.echo(f"{name}: {text}")
    print_notes(notes(found))


def _print_turns(replay: str, level: LevelResult) -> None:
    """How many turns waited for others, of a trace that is replayed so and of agents."""
    from flashstill.units import show

    if level.level.kind == "agents":
        click.echo(f"{level.turns:,} requests waited for the answers of the turn before them")
    elif replay != "open-loop":
        late = f", by {show(level.late_turn_mean_s, 's')} on average" if level.late_turns else ""
        click.echo(
            f"{replay}: {level.turns:,} turns waited for the one before them, and {level.late_turns:,} were due later"
            f" than in the trace{late}"
        )
