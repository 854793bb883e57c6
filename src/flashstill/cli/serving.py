"""Commands that predict serving, and check predictions against measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.calibrating import answer_measured, case_option, given_cells
from flashstill.cli.documents import asked_facts, json_option, print_json, understood
from flashstill.cli.drafting import MEASURED, acceptance_options, accepted
from flashstill.cli.options import (
    COUNT,
    DIRECTORY,
    arrival_options,
    chip_option,
    deployment_options,
    facts_options,
    given_options,
    model_option,
    price_option,
    writable,
)
from flashstill.cli.training import answer_training, split_phase, training_options
from flashstill.errors import BadInput, InfeasiblePlan

if TYPE_CHECKING:
    from flashstill.facts import Facts

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@model_option()
@chip_option()
@deployment_options
@click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens, as 4096, 4k or 4Ki.")
@click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens.")
@click.option("--concurrency", type=COUNT, default=16, show_default=True, help="Requests in flight.")
@click.option("--chunk", type=COUNT, default=None, help="Most prompt tokens of one pass [default: a prompt at once].")
@arrival_options
@click.option(
    "--draft", default=None, help="Draft with this model, the model's own 'heads', or 'new-heads' yet to be trained."
)
@click.option("--draft-tokens", type=COUNT, default=3, show_default=True, help="How many tokens are drafted ahead.")
@acceptance_options
@click.option(
    "--cases",
    type=_FILE,
    default=None,
    help="A CSV file of cases, columns named as the options; - reads standard input.",
)
@click.option(
    "--out",
    type=_FILE,
    callback=writable,
    default=None,
    help="Where the answered cases go, as CSV; - is standard output.",
)
@click.option(
    "--simulated", is_flag=True, help="Simulate the requests where memory, a step's token budget or prompts bind."
)
@training_options
@price_option
@facts_options
@json_option
def predict(
    cases: Path | None,
    out: Path | None,
    simulated: bool,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Time, energy and price of serving: one case by flags, or many by --cases IN.csv --out OUT.csv.

    With --phase train: an optimizer step on a layout, and a run of many.
    """
    from flashstill import api
    from flashstill.plan.answer import NotFitting
    from flashstill.plan.case import Case
    from flashstill.printing import print_prediction

    only = flags["chip"] if cases is None else None
    facts = asked_facts(facts_directories, edits, as_json, on_stderr=cases is not None, chips=[only])
    flags, training = split_phase(flags)
    if simulated and (training is not None or cases is not None):
        raise BadInput("--simulated is for one question of serving; leave --cases and --phase train out")
    if training is not None:
        if cases is not None or out is not None:
            raise BadInput("--cases and --out hold cases of serving; leave them out with --phase train")
        answer_training(facts, training, price, as_json)
        return
    flags = accepted(flags, True if cases is not None else None)
    if cases is not None:
        if out is None:
            raise BadInput("--cases needs --out, the CSV file that the answers go to; - is standard output")
        given = {name: flags[name] for name in given_options() if name in flags}
        given |= {MEASURED: flags[MEASURED]} if flags[MEASURED] is not None else {}
        _answer_cases(facts, cases, out, price, given, as_json)
        return
    if flags["model"] is None or flags["chip"] is None:
        raise BadInput("predict needs --model and --chip, or --cases and --out")
    if out is not None:
        raise BadInput("--out is where the answers of --cases go; of one question --json prints the answer")
    scenario, deployment = Case.of(**flags)
    try:
        answer = api.predict(scenario, deployment, price=price, simulated=simulated, facts=facts)
    except NotFitting as error:
        understood(error.answer.columns())
        if as_json:
            print_json({**error.answer.figures(), "reasons": error.reasons})
        chosen = [option for name, option in given_options().items() if name in ("chips", "tp", "pp", "ep", "dp")]
        if not chosen:
            raise
        raise InfeasiblePlan(
            f"{error}; without {' and '.join(chosen)} the fewest chips that do are taken", error.reasons
        ) from error
    understood(answer.columns())
    if as_json:
        print_json(answer.figures())
    else:
        print_prediction(answer)


def _answer_cases(facts: Facts, cases: Path, out: Path, price: str, defaults: dict[str, Any], as_json: bool) -> None:
    import dataclasses

    from flashstill.console import Console
    from flashstill.outputs import STANDARD
    from flashstill.plan.cases import answer_file

    if out == STANDARD and as_json:
        raise BadInput("--json and --out - both write to standard output; name a file for the answers")
    answers = answer_file(facts, cases, out, Console(), price, defaults)
    for name, heading in answers.renamed.items():
        click.echo(f"{cases} has a column {name!r} of its own; ours is called {heading!r}", err=True)
    if as_json:
        print_json(dataclasses.asdict(answers))
    else:
        summary = f"{answers.answered} of {answers.cases} cases answered, {answers.fitting} of them fit: {out}"
        click.echo(summary, err=out == STANDARD)


@click.command()
@click.option(
    "--anchors", type=DIRECTORY, default=None,
    help="A directory of measurements [default: anchors/ of the repository; where it is not, golden figures].",
)  # fmt: skip
@click.option(
    "--measured",
    type=_FILE,
    default=None,
    help="Your own CSV of cases with measured_tpot_ms, measured_ttft_ms, or a load generator's result.",
)
@case_option
@click.option("--golden", is_flag=True, help="The few golden figures that come with the package, at once.")
@click.option(
    "--leave-out",
    type=click.Choice(("model", "chip", "engine", "stack")),
    default=None,
    help="Fit the engines anew without each of them in turn, and predict it (a minute or two).",
)
@click.option(
    "--simulated", is_flag=True, help="Simulate the served rows as well, as their benchmark ran (needs numba)."
)
@click.option(
    "--out",
    type=_FILE,
    callback=writable,
    default=None,
    help="Write the tables as Markdown, with a picture beside; of --measured, a page with the residuals drawn.",
)
@facts_options
@json_option
def validate(
    anchors: Path | None,
    measured: Path | None,
    given: tuple[str, ...],
    golden: bool,
    leave_out: str | None,
    simulated: bool,
    out: Path | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predicted against measured: error tables by anchor file, chip and engine."""
    import dataclasses
    from contextlib import nullcontext

    from flashstill.outputs import STANDARD, written_out
    from flashstill.printing import print_table
    from flashstill.validation.anchors.packed import SHIPPED, unpacked
    from flashstill.validation.apart import apart_cells
    from flashstill.validation.comparison import error_rows
    from flashstill.validation.error_table import comparisons_with, rows_apart, table_cells
    from flashstill.validation.own import compare_own
    from flashstill.validation.page import markdown
    from flashstill.validation.picture import picture, quantile_cells

    if measured is not None:
        if golden or simulated or anchors is not None or leave_out is not None:
            raise BadInput("--measured compares one file; leave --anchors, --golden, --leave-out and --simulated out")
        facts = asked_facts(facts_directories, edits, as_json)
        answer_measured(compare_own(facts, measured, given_cells(given)), as_json, out)
        return
    if given:
        raise BadInput("--case fills cells of --measured, which is not given")
    if golden and anchors is not None:
        raise BadInput("--golden takes no --anchors: its figures come with the package")
    if anchors is None and not golden and SHIPPED.is_dir():
        anchors = SHIPPED
        click.echo(f"comparing with all measurements in {anchors}, about a quarter of a minute", err=True)
    facts = asked_facts(facts_directories, edits, as_json)
    with unpacked(anchors) if anchors is not None else nullcontext() as directory:
        comparisons = comparisons_with(facts, directory, leave_out, simulated)
        rows = [row for each in comparisons for row in error_rows(each)]
        apart = rows_apart(facts, directory)
    if out is not None:
        drawn, image = picture(comparisons) if out != STANDARD else "", out.with_suffix(".svg")
        with written_out(out) as text:
            text.write(markdown(rows, apart, quantile_cells(comparisons) if drawn else (), image.name))
        if drawn:
            with written_out(image) as text:
                text.write(drawn)
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        print_table(table_cells(rows), spare=("unanswered", "bias", "in the band", "median"))
        if apart:
            click.echo("\nlisted apart, neither fitted nor counted:")
            print_table(apart_cells(apart))
