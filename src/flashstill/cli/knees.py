"""Print the knee: a sentence for the load, one for the closed form, and one for the bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flashstill.simulate.knee import Knee

_BINDS = {
    "sequences": "the engine's limit on running sequences binds",
    "memory": "the memory for the cache binds",
    "prefill": "the tokens of a step bind, which are used up by prompts",
    "compute": "the time of the steps binds: raising no limit helps",
}


def print_knee(found: Knee, max_ttft_s: float | None, max_tpot_s: float | None) -> None:
    """Where waiting begins to grow, how it compares with the closed form, and where bounds are broken first."""
    from flashstill.printing import print_notes
    from flashstill.units import show

    speed = "" if found.speed is None else f", {found.speed:.3g} times the trace's"
    click.echo(
        f"knee: {found.rate:.4g} requests/s (95 % interval {found.low:.4g} to {found.high:.4g}){speed};"
        f" {found.running:,.0f} sequences run there, and {_BINDS[found.binds]}"
    )
    if found.closed_form is not None:
        verdict = "agrees" if found.agrees else "does not agree"
        click.echo(f"closed form: {found.closed_form:.4g} requests/s, which {verdict}")
    if found.bounds is not None:
        bounds = {"ttft": max_ttft_s, "tpot": max_tpot_s}
        asked = " and ".join(f"{name.upper()} {show(each, 's')}" for name, each in bounds.items() if each is not None)
        kept = found.bounds
        ends = {
            "waiting": "both hold up to the knee" if None not in bounds.values() else "it holds up to the knee",
            "ttft": "TTFT breaks first",
            "tpot": "TPOT breaks first",
        }[kept.binds]
        rates = f"{kept.rate:.4g} requests/s ({kept.low:.4g} to {kept.high:.4g})"
        click.echo(f"with p{kept.percentile:g} of {asked}: {rates}; {ends}")
    print_notes(found.notes)
