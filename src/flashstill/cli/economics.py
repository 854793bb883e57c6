"""economics: what serving costs per token, and whether to host a model or pay an API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flashstill.cli.completion import complete_chips
from flashstill.cli.documents import asked_facts, facts_and_edits, json_option, print_json
from flashstill.cli.family_costs import answer_family, check_family, family_options
from flashstill.cli.lists import redundant_numbers, words
from flashstill.cli.options import (
    COUNT,
    RATE,
    SECONDS,
    SHARE,
    WORD,
    facts_options,
    model_option,
    price_option,
)
from flashstill.cli.paging import page_option, write_page
from flashstill.errors import BadInput, printable, shortened
from flashstill.tables import table_lines
from flashstill.units import parse_amount, show


@click.command()
@family_options
@model_option()
@click.option(
    "--chip", "--chips-from", "chip", default=None, shell_complete=complete_chips,
    help="A chip, or several with commas to choose from [default: all that have a price].",
)  # fmt: skip
@click.option("--max-chips", type=COUNT, default=None, help="Most chips of a replica [default: 16, more if it needs].")
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens of a request.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Tokens of an answer, without thinking.")
@click.option("--cached", default="0", show_default=True, help="Share of a prompt found in a cache: 0.5, or LOW,HIGH.")
@click.option(
    "--thinking", default="0", show_default=True, help="Thinking tokens per token of an answer: 2, or LOW,HIGH."
)
@click.option("--tokens-per-day", type=RATE, default=None, help="Of prompts and answers, thinking left out, as 2T.")
@click.option("--requests-per-day", type=RATE, default=None, help="The same volume, in requests.")
@click.option(
    "--api-price", default=None,
    help="IN,CACHED,OUT in dollars per million tokens, or a name with fact rows [default: the model's, if known].",
)  # fmt: skip
@click.option("--grid", type=WORD, default="us", show_default=True, help="Where the power comes from, for its carbon.")
@click.option("--utilisation", type=SHARE, default=None, help="Mean load over the day [default: a fact row, 0.7].")
@click.option("--least-replicas", type=COUNT, default=1, show_default=True, help="Replicas that stand whatever comes.")
@click.option("--max-ttft", type=SECONDS, default=5.0, show_default=True, help="Longest time to first token.")
@click.option("--max-tpot", type=SECONDS, default=0.05, show_default=True, help="Longest time per output token.")
@click.option("--precision", type=WORD, default="published", show_default=True, help="Of weights and arithmetic.")
@click.option("--engine", type=WORD, default=None, help="vllm, sglang, trtllm, none [default: vllm; none on SRAM].")
@click.option("--overlap", type=WORD, default="none", show_default=True, help="none, two-batch, or both with a comma.")
@click.option("--redundant-experts", default=None, help="Numbers to try, with commas [default: the fewest].")
@click.option("--disaggregated", is_flag=True, help="Also try prefill and decoding on pools of their own.")
@page_option
@price_option
@facts_options
@json_option
def economics(
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    family: Path | None,
    **asked: Any,
) -> None:
    """What a million tokens cost on chips rented or owned, and whether to host a model or pay an API.

    With FAMILY_OR_RESULT, a family's TOML file or the directory of a finished run: what its teacher and students cost,
    when each student pays, and whether to distil.
    """

    check_family(family)
    if family is not None:
        write_page(out, answer_family(facts_and_edits(facts_directories, edits), family, asked, as_json))
        return
    facts = asked_facts(facts_directories, edits, as_json, chips=words(asked["chip"] or ""))
    document = host_model(facts, asked)
    if as_json:
        print_json(document)
    else:
        print_answer(document)
    write_page(out, document)


def host_model(facts: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer for one model served on chips."""
    from flashstill.token_costs import economics as costs_of

    if asked["model"] is None:
        raise BadInput("economics needs --model, a known name or the path of a config.json or model directory")
    chips = words(asked["chip"] or "")
    if asked["chip"] is not None and not chips:
        raise BadInput(f"--chip is {shortened(asked['chip'])!r}, not a chip or several with commas")
    same = (
        "max_chips", "isl", "osl", "tokens_per_day", "requests_per_day", "api_price", "grid", "utilisation",
        "least_replicas", "precision", "engine", "disaggregated", "price",
    )  # fmt: skip
    return costs_of(
        model=asked["model"],
        chip=chips,
        cached=_range("--cached", asked["cached"]),
        thinking=_range("--thinking", asked["thinking"]),
        max_ttft_s=asked["max_ttft"],
        max_tpot_s=asked["max_tpot"],
        overlaps=[name.strip() for name in asked["overlap"].split(",")],
        redundant_experts=list(redundant_numbers(asked["redundant_experts"])),
        facts=facts,
        **{name: asked[name] for name in same},
    ).as_dict()


def _range(option: str, text: str) -> tuple[float, float]:
    parts = [parse_amount(part, "1") for part in text.split(",")]
    numbers = [part for part in parts if part is not None]
    if not 1 <= len(numbers) == len(parts) <= 2:
        raise BadInput(f"{option} is {shortened(text)!r}, not a number, or two as LOW,HIGH")
    return numbers[0], numbers[-1]


def print_answer(document: dict[str, Any]) -> None:
    """Print prices by kind of token, what they are made of, the API beside them, and the footprint."""
    chosen, span = document["configuration"], document["usd_per_million"]
    layout = " ".join(f"{name}{chosen[name]}" for name in ("tp", "pp", "ep", "dp"))
    click.echo(
        f"{printable(document['model'])} on {chosen['chips']} x {document['chip']} a replica ({layout}, batch"
        f" {chosen['batch']}), {show(document['usd_per_chip_hour'], 'USD')} a chip-hour ({document['price_basis']})"
    )
    rows = [["$ per million tokens", "here", "range", "API"]]
    for kind in ("cached", "input", "output"):
        api = document["api"]["usd_per_million"][kind] if document["api"] else None
        rows.append([kind, _usd(span[kind]["value"]), _ends(span[kind]), _usd(api)])
    rows.append(["a request", _usd(document["usd_per_request"]["value"]), _ends(document["usd_per_request"]),
                 _usd(document["api"]["usd_per_request"]["value"]) if document["api"] else ""])  # fmt: skip
    _table(rows)
    parts = [["what a million output tokens cost, prompts included", "$"]]
    parts += [[step["name"], show(step["usd"], "USD")] for step in document["steps"]]
    parts.append(["together", show(sum(step["usd"] for step in document["steps"]), "USD")])
    _table(parts)
    _echo_volume(document)
    _echo_break_even(document)
    ends, rows = document["interval"]["usd_per_request"], document["drivers"][:3]
    if rows:
        named = ", ".join(f"{row['name']}.{row['quantity']}" for row in rows)
        click.echo(
            f"a request over the ranges of all rows: {_usd(ends['p10'])} to {_usd(ends['p90'])} (P10 to P90),"
            f" mostly by {named}"
        )
    energy, keeping = document["footprint"], document["keeping"]
    carbon, water = (energy[f"{name}_per_million_output_tokens"]["value"] for name in ("co2_g", "water_l"))
    click.echo(
        f"power: {chosen['watts_per_chip']:,.0f} W a chip; {carbon:,.3g} g of CO2 (grid {energy['grid']}) and"
        f" {water:,.3g} L of water per million output tokens"
    )
    click.echo(
        f"keeping a million cached tokens for an hour: {_usd(keeping['host_usd_per_million_token_hours'])} in the"
        f" host's memory, at most {_usd(keeping['chip_usd_per_million_token_hours'])} in the chips'"
    )
    click.echo("assumed:")
    for row in document["assumptions"]:
        value = f"{row['value']:g}{'' if row['unit'] == '1' else ' ' + row['unit']}"
        click.echo(f"  {row['name']}.{row['quantity']} = {value} ({row['source']}, {row['as_of']})")
    for note in document["notes"]:
        click.echo(f"  {note}")


def _echo_volume(document: dict[str, Any]) -> None:
    load = f"at a mean load of {document['utilisation_ratio']:.0%}"
    if document["requests_per_day"] is None:
        click.echo(f"priced {load}; --tokens-per-day or --requests-per-day gives a volume")
        return
    day, ends = document["usd_per_day"], _ends(document["usd_per_day"])
    beside = "" if document["api"] is None else f"; the API asks {_usd(document['api']['usd_per_day']['value'])}"
    click.echo(
        f"{document['requests_per_day']:,.0f} requests a day need {document['replicas']} replicas {load},"
        f" {document['chips']:,} chips: {_usd(day['value'])} a day{f' ({ends})' if ends else ''}{beside}"
    )


def _echo_break_even(document: dict[str, Any]) -> None:
    if document["api"] is None:
        click.echo("no API price of this model is known; give one with --api-price IN,CACHED,OUT")
        return
    first = document["break_even"]["requests_per_day"]
    if first["low"] is None:
        volume = "the API is cheaper at every volume"
    elif first["high"] is None:
        volume = (
            f"hosting pays from {first['low']:,.0f} requests a day at best, and never at the other end of the ranges"
        )
    else:
        ends = "" if first["low"] == first["high"] else f" ({first['low']:,.0f} to {first['high']:,.0f})"
        volume = f"hosting pays from {first['value']:,.0f} requests a day on{ends}"
    answers = {"self-host": "host it yourself", "api": "pay the API", "depends": "it depends"}
    click.echo(f"answer: {answers[document['answer']]}; {volume}")
    click.echo(f"API price: {document['api']['source']}, {document['api']['as_of']}")


def _usd(value: float | None) -> str:
    return "" if value is None else show(value, "USD")


def _ends(span: dict[str, float | None]) -> str:
    same = span["low"] == span["high"]
    return "" if same or span["low"] is None else f"{_usd(span['low'])} to {_usd(span['high']) or 'none'}"


def _table(rows: list[list[str]]) -> None:
    click.echo("\n".join(["", *table_lines(rows), ""]))
