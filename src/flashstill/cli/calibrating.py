"""Your own measurements: compared with predictions, and made into facts of their stacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.documents import asked_facts, json_option, print_json
from flashstill.cli.options import COUNT, DIRECTORY, facts_options
from flashstill.errors import BadInput

if TYPE_CHECKING:
    from flashstill.validation.own import Compared, OwnStack

FACTS_FILE = "served.csv"
MOST_NOTES = 10
NAMES = {"tpot_s": "time per output token", "ttft_s": "time to first token"}


case_option = click.option(
    "--case", "given", multiple=True, metavar="NAME=VALUE",
    help="A column of every measured row that leaves it empty, as chip=h100-sxm; repeatable.",
)  # fmt: skip


def given_cells(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE texts as cells."""
    cells = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not value:
            raise BadInput(f"--case is {text!r}; write NAME=VALUE, as chip=h100-sxm")
        cells[name.strip()] = value.strip()
    return cells


@click.command()
@click.argument("measured", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--out", type=DIRECTORY, required=True, help="Directory of the facts; give it to --facts afterwards.")
@click.option("--sequences", type=COUNT, default=None, help="Most sequences of the measured server's steps.")
@click.option("--step-tokens", type=COUNT, default=None, help="Most tokens of one of its steps.")
@click.option("--block-tokens", type=COUNT, default=None, help="Tokens of a block of its cache.")
@click.option("--cache-blocks", type=COUNT, default=None, help="Blocks of its cache, where it was told.")
@case_option
@facts_options
@json_option
def calibrate(
    measured: Path,
    out: Path,
    sequences: int | None,
    step_tokens: int | None,
    block_tokens: int | None,
    cache_blocks: int | None,
    given: tuple[str, ...],
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make predictions of your own stacks better: FILE is a CSV of cases with measured_tpot_ms, measured_ttft_ms.

    Results of `measure --server`, vLLM and SGLang bench, GuideLLM, AIPerf, genai-perf, llmperf, inference-perf and
    MLPerf Endpoints (.yaml) are read as well, with the chip by --case. A summary.json of `measure --server` with
    several loads also gives the seconds of the stack's steps, which `simulate` uses; say what limits the server had.
    """
    import dataclasses

    from flashstill.facts.csv_files import to_csv
    from flashstill.files import write_text
    from flashstill.plan.served import without_served_ratios
    from flashstill.simulate.policy import Policy
    from flashstill.validation.own import compare_own, own_facts, stacks_of
    from flashstill.validation.own_checks import in_seconds, oddities
    from flashstill.validation.served_steps import fit_measured, step_facts

    facts = asked_facts(facts_directories, edits, as_json)
    cells = given_cells(given)
    plain = without_served_ratios(facts)
    compared = compare_own(plain, measured, cells)
    mistake = in_seconds(compared)
    if mistake:
        raise BadInput(f"{measured}, {mistake}")
    stacks, notes = stacks_of(plain, compared), oddities(compared)
    limits = Policy(sequences=sequences, step_tokens=step_tokens, block_tokens=block_tokens, cache_blocks=cache_blocks)
    steps = fit_measured(facts, measured, cells, limits)
    try:
        out.mkdir(parents=True, exist_ok=True)
        rows = [*own_facts(stacks, measured), *(step_facts(steps, measured) if steps else [])]
        write_text(out / FACTS_FILE, to_csv(rows))
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror or error}") from error
    if as_json:
        fitted = None if steps is None else dataclasses.asdict(steps)
        document = {"out": str(out / FACTS_FILE), "stacks": [dataclasses.asdict(stack) for stack in stacks]}
        print_json({**document, "steps": fitted, "notes": notes})
        return
    _print_stacks(stacks)
    if steps is not None:
        errors = f"{steps.before:.1%} before, {steps.after:.1%} after"
        click.echo(f"simulated percentiles of {steps.loads} loads: mean error {errors}")
    _print_notes(notes)
    click.echo(f"Written to {out / FACTS_FILE}; use it with --facts {out}", err=True)


def _print_stacks(stacks: Sequence[OwnStack]) -> None:
    from flashstill.printing import print_table

    heading = ("model", "chip", "engine, format", "quantity", "rows", "measured / predicted", "error before", "after")
    rows = [
        (each.model, each.chip, ", ".join(each.stack.split("; ")[:2]), NAMES[each.quantity], f"{each.n:,}",
         f"{each.ratio:.3f}", f"{each.before:.1%}", f"{each.after:.1%}")
        for each in stacks
    ]  # fmt: skip
    print_table([heading, *rows])


def answer_measured(compared: Sequence[Compared], as_json: bool, out: Path | None = None) -> None:
    """Print measured rows beside their predictions, and the mean error of each quantity.

    out: where a page with both, their residuals drawn, is written.
    """
    from flashstill.printing import print_table
    from flashstill.units import show
    from flashstill.validation.own_checks import in_seconds, oddities

    documents = measured_documents(compared)
    notes = list(dict.fromkeys(f"{each.row.note} are compared with means" for each in compared if each.row.note))
    mistake = in_seconds(compared)
    notes += [*([mistake] if mistake else []), *oddities(compared)]
    if out is not None:
        from flashstill.outputs import written_out
        from flashstill.report.residuals import residual_page

        with written_out(out) as text:
            text.write(residual_page("Predicted against measured", NAMES, documents, notes))
    if as_json:
        print_json(documents)
        return
    lines = [("line", "model", "chip", "in flight", "quantity", "measured", "predicted", "80 % band", "error")]
    for row in documents:
        band = f"{show(row['low'], 's')} to {show(row['high'], 's')}"
        named = (str(row["line"]), row["model"], row["chip"], f"{row['concurrency']:,}", NAMES[row["quantity"]])
        seconds = (show(row["measured"], "s"), show(row["predicted"], "s"))
        lines.append((*named, *seconds, band, f"{row['error']:+.1%}"))
    print_table(lines)
    for quantity, name in NAMES.items():
        own = [document for document in documents if document["quantity"] == quantity]
        if own:
            mean = sum(abs(document["error"]) for document in own) / len(own)
            inside = sum(document["low"] <= document["measured"] <= document["high"] for document in own)
            click.echo(f"{name}: mean error {mean:.1%} over {len(own):,} rows, {inside} of them in the band")
    _print_notes(notes)


def _print_notes(notes: Sequence[str]) -> None:
    """On standard error, the first few."""
    for note in notes[:MOST_NOTES]:
        click.echo(f"note: {note}", err=True)
    if len(notes) > MOST_NOTES:
        click.echo(f"note: and {len(notes) - MOST_NOTES:,} more", err=True)


def measured_documents(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """A row for every measured quantity beside its prediction, in seconds."""
    return [
        {
            "line": each.row.line, "model": each.row.case.scenario.model_name, "chip": each.stack[0],
            "stack": each.stack[1], "concurrency": each.row.case.scenario.batch, "quantity": quantity,
            "measured": measured, "predicted": predicted, "low": low, "high": high, "error": predicted / measured - 1.0,
        }
        for each in compared
        for quantity, (measured, predicted, low, high) in each.seconds.items()
    ]  # fmt: skip
