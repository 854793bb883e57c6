"""The command that tells what a draft is worth, by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flashstill.cli.documents import asked_facts, json_option, print_json, understood
from flashstill.cli.drafting import acceptance_options, accepted_as_given
from flashstill.cli.lists import whole, words
from flashstill.cli.options import (
    COUNT,
    chip_option,
    deployment_options,
    facts_options,
    model_option,
    price_option,
)
from flashstill.units import show


@click.command()
@model_option()
@chip_option()
@deployment_options
@click.option("--draft", required=True, help="The draft: a model or a directory, the model's 'heads', or 'new-heads'.")
@click.option("--draft-tokens", default=None, help="Numbers of drafted tokens to try, as 1,2,4 [default: 1 to 5].")
@acceptance_options
@click.option("--batch", default="1,2,4,8,16,32,64,128,256", show_default=True, help="Requests in flight, with commas.")
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens.")
@price_option
@facts_options
@json_option
def speculate(
    draft_tokens: str | None,
    batch: str,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """What a draft is worth, by batch: tokens/s, joules and dollars with and without it, and where it stops paying."""
    from flashstill import drafting
    from flashstill.errors import BadInput
    from flashstill.printing import print_notes, print_table

    if flags["model"] is None or flags["chip"] is None:
        raise BadInput("speculate needs --model and --chip")
    facts = asked_facts(facts_directories, edits, as_json, chips=[flags["chip"]])
    counts = None if draft_tokens is None else [whole(text, "draft-tokens") for text in words(draft_tokens)]
    asked = {name: value for name, value in accepted_as_given(flags).items() if value is not None}
    batches = [whole(text, "batch") for text in words(batch)]
    worth = drafting.draft_worth(**asked, batches=batches, draft_tokens=counts, price=price, facts=facts)
    understood({**asked, "batch": batches, "draft_tokens": counts or list(drafting.COUNTS)})
    if as_json:
        print_json(worth.as_dict())
        return
    chips = ("chips",) if any(row.chips != (flags["chips"] or 1) for row in worth.rows) else ()
    rows: list[tuple[str, ...]] = [
        ("batch", *chips, "drafts", "tokens/s without", "with", "x", "J/token without", "with", "$/M without", "with")
    ]
    for row in worth.rows:
        rows.append(
            (
                f"{row.batch:,}",
                *(str(row.chips) for _ in chips),
                str(row.draft_tokens),
                f"{row.tokens_per_s:,.0f}",
                f"{row.drafted_tokens_per_s:,.0f}",
                f"{row.speed_ratio:.2f}",
                _joules(row.joules_per_token),
                _joules(row.drafted_joules_per_token),
                _dollars(row.usd_per_million_tokens),
                _dollars(row.drafted_usd_per_million_tokens),
            )
        )
    print_table(rows)
    click.echo(f"\n{worth.verdict}")
    print_notes(worth.note)
    if worth.left_out:
        click.echo(f"left out: {'; '.join(f'batch {batch:,}: {why}' for batch, why in worth.left_out.items())}")


def _dollars(value: float | None) -> str:
    return "none" if value is None else show(value, "USD").replace(" USD", "")


def _joules(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
