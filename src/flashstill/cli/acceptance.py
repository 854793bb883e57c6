"""The command that measures how often a target accepts the tokens of drafts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.learning_options import ARITHMETIC, ARITHMETIC_HELP
from flashstill.cli.options import COUNT

if TYPE_CHECKING:
    from flashstill.records import AcceptanceRecord


@click.command()
@click.argument("target")
@click.argument("drafts", nargs=-1, required=True, metavar="DRAFT...")
@click.option(
    "--data", required=True, metavar="TEXT", help="cpython-docs, cpython-code, or a file or directory; NAME=TEXT."
)
@click.option("--draft-tokens", type=COUNT, default=4, show_default=True, help="Tokens drafted per step.")
@click.option(
    "--temperature", "temperatures", type=click.FloatRange(min=0), multiple=True, default=(1.0,), show_default=True,
    help="0 is greedy; repeatable.",
)  # fmt: skip
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Nucleus that target and draft sample from.")
@click.option("--documents", type=COUNT, default=32, show_default=True, help="One prompt from each.")
@click.option("--prompt-tokens", type=COUNT, default=64, show_default=True, help="Tokens of a prompt.")
@click.option("--new-tokens", type=COUNT, default=64, show_default=True, help="Tokens that the target writes after it.")
@click.option(
    "--counted/--expected-only", default=True, show_default=True, help="Also decode speculatively, and count."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of prompts, samples, intervals."
)
@click.option("--arithmetic", type=click.Choice(ARITHMETIC), default="auto", show_default=True, help=ARITHMETIC_HELP)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=None,
    help="A file of records, JSON lines; DRAFT/acceptance.jsonl is found by predict, plan, speculate and simulate.",
)  # fmt: skip
@json_option
def acceptance(
    target: str,
    drafts: tuple[str, ...],
    data: str,
    draft_tokens: int,
    temperatures: tuple[float, ...],
    top_p: float,
    documents: int,
    prompt_tokens: int,
    new_tokens: int,
    counted: bool,
    seed: int,
    arithmetic: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure how often TARGET accepts the tokens of a draft, by position, on its own continuations of a text.

    DRAFT is a language model of the target's vocabulary, or a drafting head of `distill` (student kind eagle).
    """
    from flashstill.console import Console
    from flashstill.evaluate.drafts import measure_acceptance
    from flashstill.outputs import STANDARD
    from flashstill.records import to_line

    records = measure_acceptance(
        target, drafts, data, draft_tokens=draft_tokens, temperatures=temperatures, top_p=top_p, documents=documents,
        prompt_tokens=prompt_tokens, new_tokens=new_tokens, counted=counted, seed=seed, arithmetic=arithmetic, out=out,
        progress=Console(),
    )  # fmt: skip
    if as_json:
        print_json({"records": [json.loads(to_line(record)) for record in records]})
    elif out != STANDARD:
        print_acceptance(records)
    if out not in (None, STANDARD):
        click.echo(f"Records: {out}", err=True)


def _spans(record: AcceptanceRecord) -> list[str]:
    """The interval of each position in brackets; empty where there is none."""
    ends = zip(record.acceptance_low, record.acceptance_high, strict=True)
    return [f" ({low:.1%} to {high:.1%})" for low, high in ends] or [""] * record.draft_tokens


def print_acceptance(records: Sequence[AcceptanceRecord]) -> None:
    """One row per draft and temperature: acceptance by position with its interval, counted below, tokens per step."""
    from flashstill.printing import print_table
    from flashstill.records import NO_INTERVAL

    count = max(record.draft_tokens for record in records)
    rows: list[tuple[str, ...]] = [
        ("draft", "temperature", *(f"position {place + 1}" for place in range(count)), "tokens/step")
    ]
    for record in records:
        cells = [f"{rate:.1%}{span}" for rate, span in zip(record.acceptance, _spans(record), strict=True)]
        step = f"{record.tokens_per_step:.2f}"
        if record.tokens_per_step_low is not None and record.tokens_per_step_high is not None:
            step += f" ({record.tokens_per_step_low:.2f} to {record.tokens_per_step_high:.2f})"
        rows.append((record.draft, f"{record.temperature:g}", *cells, step))
        if record.counted:
            counted = [f"{rate:.1%}" for rate in record.counted]
            step = f"{record.counted_tokens_per_step:.2f} in {record.counted_steps:,} steps"
            rows.append(("  counted", "", *counted, step))
    print_table(rows)
    record = records[0]
    written = f"{record.tokens:,} tokens that {record.target} wrote"
    if record.documents == 1:
        click.echo(f"\n{NO_INTERVAL} ({record.domain}, {written})")
    else:
        click.echo(f"\n{record.documents:,} documents of {record.domain}, {written}")
