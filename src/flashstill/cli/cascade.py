"""The command that prices a question over a corpus: through a cascade of stages, or by attending to all of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flashstill.cli.documents import echo_edits, facts_and_edits, json_option
from flashstill.cli.options import facts_options, price_option
from flashstill.cli.paging import give, page_option
from flashstill.errors import BadInput
from flashstill.units import HOURS_PER_YEAR, SECONDS_PER_HOUR, figures, show

if TYPE_CHECKING:
    from flashstill.codesign.cascade_answer import CascadeAnswer


SECONDS_PER_DAY, SECONDS_PER_YEAR = 24.0 * SECONDS_PER_HOUR, HOURS_PER_YEAR * SECONDS_PER_HOUR


@click.command()
@click.argument("plan", type=click.Path(path_type=Path, dir_okay=False), metavar="PLAN.toml", required=False)
@page_option
@price_option
@facts_options
@json_option
def cascade(
    plan: Path | None,
    out: Path | None,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Price a question over a corpus: scan, small reader and best model, against attending to all of it."""
    if plan is None:
        raise BadInput(
            "give the path of a PLAN.toml; examples/cascade.toml is one, and docs/cascade.md says what its keys mean"
        )
    from flashstill.cascading import cascade as price_cascade

    facts, edited, changes = facts_and_edits(facts_directories, edits)
    tells = sys.stderr.isatty()
    answer = price_cascade(
        plan, price=price, told=(lambda text: click.echo(text, err=True)) if tells else (lambda text: None),
        facts=facts, set=changes,
    )  # fmt: skip
    echo_edits(edited, as_json)
    give(answer.as_dict(), out, as_json, lambda _: print_answer(answer))


def print_answer(answer: CascadeAnswer) -> None:
    """The stages, attending to everything, long contexts, tiers, sizes, parameters and modules."""
    from flashstill.printing import print_notes
    from flashstill.report.amounts import dollars
    from flashstill.report.amounts import tokens as count

    plan, total = answer.plan, answer.total
    click.echo(
        f"{count(plan.corpus_tokens)} tokens in {count(plan.items)} items, {plan.questions_per_s:g} questions a second:"
        f" {_time(total.seconds)}, {show(total.joules, 'J')} and {dollars(total.usd)} each, recall {total.recall:.2f},"
        f" {total.chips:,} chips"
    )
    print_notes(answer.notes)
    _print_stages(answer)
    _print_contexts(answer)
    _print_tiers(answer)
    _print_sizes(answer)
    _print_knowledge(answer)


def _print_stages(answer: CascadeAnswer) -> None:
    from flashstill.printing import print_table
    from flashstill.report.amounts import dollars

    rows = [["stage", "with", "items in", "kept", "recall", "seconds", "joules", "$ a question", "chips", "bound"]]
    for stage in answer.total.stages:
        where = f"{stage.model}, {stage.chip}" + (f" {stage.tier}" if stage.kind == "scan" else "")
        rows.append([
            stage.name, where, f"{stage.items_in:,.0f}", f"{stage.items_out:,.0f}", f"{stage.recall:.2f}",
            _time(stage.seconds), show(stage.joules, "J"), dollars(stage.usd), f"{stage.chips:,}", stage.bound,
        ])  # fmt: skip
    for name, all_of_it in (("all, cold", answer.all_cold), ("all, kept", answer.all_kept)):
        if all_of_it is not None:
            rows.append([
                name, f"{all_of_it.model}, {all_of_it.chip}", f"{all_of_it.items_in:,.0f}", "", "1.00",
                _time(all_of_it.seconds), show(all_of_it.joules, "J"), dollars(all_of_it.usd), f"{all_of_it.chips:,}",
                all_of_it.bound,
            ])  # fmt: skip
    print_table(rows)
    for word, crossing in (("anew", answer.crossover_cold), ("from a cache in memory", answer.crossover_kept)):
        click.echo(
            f"attending to all of it {word}: "
            + ("never dearer up to this corpus" if crossing is None else f"dearer from {crossing:,.0f} tokens on")
        )


def _print_contexts(answer: CascadeAnswer) -> None:
    from flashstill.printing import print_table
    from flashstill.report.amounts import dollars
    from flashstill.report.amounts import tokens as count

    if answer.contexts:
        rows = [[
            "over", "by", "chips", "cache", "attention", "links", "cold", "joules", "$", "kept", "joules", "$",
            "rent $/h", "keeping pays from",
        ]]  # fmt: skip
        for each in answer.contexts:
            row = each.as_dict()
            rows.append([
                count(row["tokens"]), row["model"], f"{row['chips']:,} x {row['chip']}", show(row["kv_bytes"], "B"),
                f"{row['attention_ratio']:.1%}", f"{row['prefill_by_bound_s']['links'] / row['prefill_s']:.1%}",
                _time(row["cold_s"]), show(row["cold_joules"], "J"),
                dollars(row["cold_usd"]), _time(row["kept_s"]), show(row["kept_joules"], "J"), dollars(row["kept_usd"]),
                dollars(row["rent_usd_per_hour"]), f"{figures(row['keeping_pays_questions_per_hour'])}/h",
            ])  # fmt: skip
        print_table(rows)
    plan = answer.plan
    for end in answer.attention:
        over = (
            "never takes over"
            if end.takes_over_tokens is None
            else f"takes over at {end.takes_over_tokens:,.0f} tokens"
        )
        click.echo(
            f"{end.model}: attention {over}; {plan.fleet_chips:,} x {end.chip} answer within {show(plan.bound_s, 's')}"
            f" over {end.within_bound_tokens:,.0f} tokens"
        )


def _print_tiers(answer: CascadeAnswer) -> None:
    from flashstill.codesign.index_tiers import SLOWEST
    from flashstill.printing import print_table
    from flashstill.report.amounts import dollars

    if not answer.tiers:
        return
    rows = [["index in", "held by", "chips", "replicas", "together", "seconds", "joules", "$ a question", "free from"]]
    for tier in answer.tiers:
        if tier.chips is None or tier.seconds is None or tier.joules is None or tier.usd is None:
            figures = ["too slow", "", "", "", "", ""]
        else:
            figures = [
                f"{tier.chips:,}", f"{tier.replicas:,}", f"{tier.together:,.4g}", _time(tier.seconds),
                show(tier.joules, "J"), dollars(tier.usd),
            ]  # fmt: skip
        free = "" if tier.free_from_per_s is None else f"{tier.free_from_per_s:,.4g}/s"
        free = "any traffic" if tier.free_from_per_s == SLOWEST else free
        rows.append([tier.tier, f"{tier.holds:,}", *figures, free])
    print_table(rows)


def _print_sizes(answer: CascadeAnswer) -> None:
    from flashstill.report.amounts import dollars

    sizes = answer.sizes
    if sizes is not None:
        keeps = " -> ".join(f"{kept:,.0f}" for kept in sizes.keeps)
        click.echo(
            f"\ncheapest sizes for a recall of {answer.plan.recall:g}: {answer.plan.items:,.0f} -> {keeps} items,"
            f" {dollars(sizes.usd)} a question (as planned: {dollars(answer.total.usd)} for {answer.total.recall:.2f})"
        )


def _print_knowledge(answer: CascadeAnswer) -> None:
    from flashstill.printing import print_table
    from flashstill.report.amounts import dollars
    from flashstill.report.amounts import tokens as count

    rows = [[
        "batch", "a token retrieved", "held, a served token", "held for less if used within", "taught, once",
        "teaching an item takes", "all of it held, a served token",
    ]]  # fmt: skip
    for each in answer.knowledge:
        rows.append([
            f"{each.batch}", f"{show(each.joules_retrieved, 'J')}, {dollars(each.usd_retrieved)}",
            f"{show(each.joules_stored, 'J')}, {dollars(each.usd_stored)}",
            f"{count(each.item_uses_joules)} tokens (J), {count(each.item_uses_usd)} ($)",
            f"{show(each.taught_joules, 'J')}, {dollars(each.taught_usd)}",
            f"{each.questions_taught_joules:.3g} questions (J), {each.questions_taught_usd:.3g} ($)",
            f"{show(each.corpus_joules, 'J')}, {dollars(each.corpus_usd)}",
        ])  # fmt: skip
    print_table(rows)
    rows = [["module", "bytes", "of memory", "resident $/h", "swapped $/h", "fetched in", "break-even", "cheaper"]]
    for module in answer.modules:
        rows.append([
            module.name, show(module.bytes, "B"), f"{module.memory_ratio:.1%}", dollars(module.resident_usd_per_hour),
            dollars(module.swapped_usd_per_hour), f"{show(module.fetch_s, 's')} from {module.tier}",
            f"a use in {show(module.break_even_s, 's')}", module.cheaper,
        ])  # fmt: skip
    if len(rows) > 1:
        print_table(rows)


def _time(seconds: float) -> str:
    """Seconds; from three days on days, from two years on years."""
    from flashstill.report.amounts import tokens as count

    for size, least, unit in ((SECONDS_PER_YEAR, 2.0, "years"), (SECONDS_PER_DAY, 3.0, "days")):
        if seconds >= least * size:
            return f"{count(seconds / size)} {unit}"
    return show(seconds, "s")
