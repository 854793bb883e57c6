"""Commands that predict serving, and check predictions against measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flashstill.cli.options import DIRECTORY, facts_options, json_option, print_json
from flashstill.errors import BadInput, InfeasiblePlan

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--model", default=None, help="A known name, or the path of a config.json or model directory.")
@click.option("--chip", default=None, help="A chip of `flashstill chips`.")
@click.option("--chips", type=int, default=None, help="All chips [default: tp x pp x dp].")
@click.option("--tp", type=int, default=None, help="Tensor parallelism [default: all chips not used otherwise].")
@click.option("--pp", type=int, default=1, show_default=True, help="Pipeline stages.")
@click.option("--ep", type=int, default=None, help="Expert parallelism [default: tp x dp if dp > 1, else 1].")
@click.option("--dp", type=int, default=None, help="Data parallelism of attention, or replicas of a dense model.")
@click.option("--precision", default=None, help="Of weights and arithmetic [default: as the checkpoint stores them].")
@click.option("--kv-precision", default=None, help="Of the cache [default: bf16; fp8 beside fp8 or NVFP4].")
@click.option("--isl", type=int, default=1024, show_default=True, help="Prompt tokens.")
@click.option("--osl", type=int, default=1024, show_default=True, help="Output tokens.")
@click.option("--concurrency", type=int, default=16, show_default=True, help="Requests in flight.")
@click.option("--engine", default="vllm", show_default=True, help="vllm, sglang, trtllm, or none: the kernels alone.")
@click.option("--sampling", default="greedy", show_default=True, help="greedy, or top-p (with top-k): tokens drawn.")
@click.option("--cases", type=_FILE, default=None, help="A CSV file of cases; columns named as the options.")
@click.option("--out", type=_FILE, default=None, help="Where the answered cases go, as CSV.")
@facts_options
@json_option
def predict(
    cases: Path | None,
    out: Path | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Time, energy and price of serving: one case by flags, or many by --cases IN.csv --out OUT.csv."""
    from flashstill.facts import load
    from flashstill.plan.cases import answer_file
    from flashstill.plan.predict import Case, check_case
    from flashstill.plan.predict import predict as predict_cases
    from flashstill.printing import print_prediction

    facts = load(facts_directories, edits)
    if cases is not None:
        if out is None:
            raise BadInput("--cases needs --out, the CSV file that the answers go to")
        summary = answer_file(facts, cases, out)
        if as_json:
            print_json(summary)
        else:
            click.echo(
                f"{summary['answered']} of {summary['cases']} cases answered, {summary['fitting']} of them fit: {out}"
            )
        return
    if flags["model"] is None or flags["chip"] is None:
        raise BadInput("predict needs --model and --chip, or --cases and --out")
    case = Case(**flags)
    check_case(facts, case)
    (answer,) = predict_cases(facts, [case])
    if as_json:
        print_json(answer.as_json())
    elif answer.fits:
        print_prediction(case, answer)
    if not answer.fits:
        raise InfeasiblePlan(f"{case.model} on {case.chip}: {answer.reason}", {answer.reason: 1})


@click.command()
@click.option("--anchors", type=DIRECTORY, default=None, help="A directory of measurements [default: golden figures].")
@click.option("--out", type=_FILE, default=None, help="Write the tables as Markdown.")
@facts_options
@json_option
def validate(
    anchors: Path | None,
    out: Path | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Predicted against measured: error tables by anchor file, chip and engine."""
    import dataclasses

    from flashstill.facts import load
    from flashstill.files import write_text
    from flashstill.printing import print_table
    from flashstill.validation.report import error_table, markdown, table_cells

    rows = error_table(load(facts_directories, edits), anchors)
    if out is not None:
        write_text(out, markdown(rows))
    if as_json:
        print_json([dataclasses.asdict(row) for row in rows])
    else:
        print_table(table_cells(rows))
