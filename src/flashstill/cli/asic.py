"""The command `asic`: does silicon of one's own pay?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from flashstill.cli.completion import complete_chips
from flashstill.cli.documents import asked_facts, json_option
from flashstill.cli.lists import words
from flashstill.cli.options import COUNT, SECONDS, WORD, Amount, facts_options, given_options, model_option
from flashstill.cli.paging import give, page_option
from flashstill.errors import BadInput, printable
from flashstill.units import short_count, show

_VOLUME = Amount("1", "2e12 or 2T", "volume")
_SHOWN = 7
"""drivers that are printed"""


@click.command()
@model_option(required=True)
@click.option("--volume", type=_VOLUME, required=True, help="Output tokens a day, as 2e12 or 2T.")
@click.option("--variant", type=WORD, default="sram,hbm,hardwired", show_default=True, help="Where the weights are.")
@click.option("--node", type=WORD, default="n7,n5,n3,n2", show_default=True, help="Processes to choose from.")
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens, as 4096, 4k or 4Ki.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens.")
@click.option("--max-ttft", type=SECONDS, default=None, help="Longest time to first token, as 0.5 (seconds) or 500ms.")
@click.option("--max-tpot", type=SECONDS, default=None, help="Longest time per output token, as 0.02 or 20ms.")
@click.option("--precision", type=WORD, default=None, help="Format of the chip's weights [default: as published].")
@click.option("--kv-precision", type=WORD, default=None, help="Format of its cache [default: goes with the weights].")
@click.option("--memory", type=WORD, default="hbm4", show_default=True, help="Stacks of the variant hbm.")
@click.option("--concurrency", type=COUNT, default=None, help="Sequences a machine is sized for [default: several].")
@click.option(
    "--against", default="", shell_complete=complete_chips,
    help="Chips that can be had, with commas [default: all with a price].",
)  # fmt: skip
@click.option("--price", type=WORD, default="best", show_default=True, help="Of the alternative: best, rented, owned.")
@click.option("--draws", type=COUNT, default=100_000, show_default=True, help="Draws of the fact rows.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same answer."
)
@click.option("--decided", default=None, help="Day of the decision, as 2027-01-31 [default: today].")
@facts_options
@page_option
@json_option
def asic(
    model: str,
    volume: float,
    max_ttft: float | None,
    max_tpot: float | None,
    concurrency: int | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Whether a chip made for one model pays: break-even, cost, energy and drivers against what can be had."""
    from flashstill.console import Console
    from flashstill.own_chips import asic as answer_asic

    if "memory" in given_options() and "hbm" not in words(asked["variant"]):
        raise BadInput("--memory names the stacks of the variant hbm, which is not among --variant; leave it out")
    facts = asked_facts(facts_directories, edits, as_json, chips=words(asked["against"] or ""))
    answer = answer_asic(
        model=model,
        volume=volume,
        max_ttft_s=max_ttft,
        max_tpot_s=max_tpot,
        concurrency=() if concurrency is None else concurrency,
        progress=Console(),
        facts=facts,
        **asked,
    )
    document = answer.as_dict()
    give(document, out, as_json, print_asic)


def print_asic(values: Mapping[str, Any]) -> None:
    """The answer on one screen: variants, then the best one's alternative, dates, money, joules and drivers."""
    from flashstill.printing import print_notes, print_table

    pays = "pays" if values["pays"] else "does not pay"
    click.echo(
        f"{printable(values['design']['model'])}, {_count(values['tokens_per_day'])} output tokens a day: silicon of"
        f" one's own {pays} ({values['probability_that_it_pays']:.0%} of {values['draws']:,} draws)"
    )
    heading = [
        "variant",
        "node",
        "pays",
        "tokens/day to break even, P50 (P10 to P90)",
        "$/M",
        "of others",
        "once",
        "dies",
    ]
    rows = [
        [
            name,
            one["node"],
            f"{one['probability_that_it_pays']:.0%}",
            _interval(one["break_even_tokens_per_day"]),
            _usd(one["usd_per_million_tokens"]["asic"]),
            _usd(one["usd_per_million_tokens"]["alternative"]),
            _usd(one["nre_usd"]),
            f"{one['dies']:,}",
        ]
        for name, one in values["variants"].items()
    ]
    print_table([heading, *rows])
    for name, reasons in values["infeasible"].items():
        click.echo(f"no {name} chip: {'; '.join(f'{reason} ({count:,})' for reason, count in reasons.items())}")
    _print_best(values)
    print_table(
        [("what decides", "range", "Sobol total", "break-even at low", "at high")]
        + [
            (
                f"{row['name']} {row['quantity']}",
                f"{row['low']:.3g} to {row['high']:.3g} {row['unit'] if row['unit'] != '1' else ''}".rstrip(),
                f"{row['total']:.0%}",
                _count(row["break_even_at_low"]),
                _count(row["break_even_at_high"]),
            )
            for row in values["drivers"][:_SHOWN]
        ]
    )
    print_notes(values["notes"])


def _print_best(values: Mapping[str, Any]) -> None:
    """What stands behind the best variant, in a line each."""
    fleet, schedule, other = (values[name] for name in ("fleet", "schedule", "alternative"))
    chosen, quick, day = values["configuration"], values["as_quick"], values["break_even_date"]["p50"]
    click.echo(
        f"\n{values['variant']} {values['node']}: {_of(fleet['machines'], 'machine')} of"
        f" {_of(chosen['chips'], 'package')}, {_of(fleet['dies'], 'die')} from {_of(fleet['wafers'], 'wafer')},"
        f" {_usd(fleet['purchase_usd'])}; {_tpot(chosen['tpot_s'])} a token, batch {chosen['batch']:,}"
    )
    click.echo(f"alternative, {_alternative(other)}")
    if quick is None:
        click.echo("as quick: nothing that can be had")
    elif quick["alternative"] != other:
        click.echo(
            f"as quick, {_alternative(quick['alternative'])}; break-even"
            f" {_interval(quick['break_even_tokens_per_day'])}"
        )
    dies = "; the chips die with each model" if schedule["dies_with_its_model"] else ""
    click.echo(
        f"first chips after {schedule['lead_years']:.1f} years, the alternative until then"
        f" {_usd(values['waiting_usd'])}; paid back {day or 'never'} (P50){dies}"
    )
    parts = ", ".join(f"{name} {_usd(usd)}" for name, usd in values["nre"]["parts_usd"].items())
    click.echo(f"once: {parts}")
    click.echo(_rule(values["two_for_two"]))
    shares = ", ".join(
        f"{_share(row['nre_ratio']['p50'])} of {_usd(row['training_usd'])}"
        for row in values["as_share_of_training_run"]
        if f"{row['training_usd']:e}".startswith("1.0")
    )
    click.echo(f"spent once, as a share of a training run: {shares}")
    joules = ", ".join(f"{level} {show(energy, 'J')}" for level, energy in values["joules_per_token"].items() if energy)
    click.echo(f"joules per token of a decode step: {joules}\n")


def _rule(rule: Mapping[str, Any]) -> str:
    """The rule of ASIC Clouds: the chip's cost beside what is spent once, and how much may be."""
    if rule["threshold"] is None:
        return "no ratio of costs: the alternative is free, or each model is gone before its chips are there"
    below = f"it pays below {rule['threshold']:.0%}" if rule["threshold"] > 0.0 else "so that no volume repays it"
    return (
        f"ASIC Clouds: {rule['alternative_over_asic_cost']:.2g} x cheaper beside what is spent once, which is"
        f" {rule['once_over_alternative_cost']:.0%} of the alternative's cost; {below}"
    )


def _alternative(other: Mapping[str, Any]) -> str:
    return (
        f"{other['basis']}: {other['chips']} x {other['chip']}, batch {other['batch']:,}, {_tpot(other['tpot_s'])} a"
        f" token, ${other['usd_per_million_tokens']:.3g} per million today"
    )


def _tpot(seconds: float | None) -> str:
    return "no time" if seconds is None else show(seconds, "s")


def _interval(values: Mapping[str, float | None]) -> str:
    return f"{_count(values['p50'])} ({_count(values['p10'])} to {_count(values['p90'])})"


def _count(value: float | None) -> str:
    return "never" if value is None else short_count(value)


def _of(count: float, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _usd(value: float | None) -> str:
    """Dollars in three digits, with a prefix above a thousand."""
    if value is None:
        return "never"
    for scale, word in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * scale:
            return f"${value / scale:.3g}{word}"
    return f"${value:.3g}"


def _share(ratio: float | None) -> str:
    return "never" if ratio is None else f"{ratio:.0%}" if ratio >= 0.1 else f"{ratio:.1%}"
