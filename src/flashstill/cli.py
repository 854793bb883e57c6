"""The command line: parse, call one function, print. Heavy imports stay inside the commands.

Exit codes: 0 done, 2 a mistake in the input (one sentence), 3 nothing feasible (reasons counted), 130 interrupted.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill import __version__
from flashstill.errors import BadInput, FlashstillError, InfeasiblePlan, nearest

if TYPE_CHECKING:
    from flashstill.recipes import FamilyRecipe

_F = TypeVar("_F", bound=Callable[..., Any])
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


class _Commands(click.Group):
    """A group that names the nearest commands when one is mistyped."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = ", ".join(nearest(args[0], self.commands))
            raise click.UsageError(f"unknown command {args[0]!r}; the nearest known: {close}", ctx)
        return super().resolve_command(ctx, args)


def _facts_options(command: _F) -> _F:
    command = click.option(
        "--facts",
        "facts_directories",
        type=_DIRECTORY,
        multiple=True,
        help="A directory of more fact rows; repeatable.",
    )(command)
    return click.option(
        "--set", "edits", multiple=True, metavar="NAME.QUANTITY=NUMBER", help="A what-if edit of a fact; repeatable."
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flashstill")
def cli() -> None:
    """Distil a frontier model into a flash model, and know what every token costs."""


@cli.command()
@click.argument("family", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory of the results; resumed if begun."
)
@_json_option
def run(family: Path, out: Path, as_json: bool) -> None:
    """Distil, measure and price the family of a family.toml; writes a report."""
    from flashstill.recipes import read_recipe

    _run(read_recipe(family), out, as_json)


@cli.command()
@click.option(
    "--minutes", type=click.FloatRange(min=0.1), default=None, help="About how long on two cores [default: 10]."
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@_json_option
def demo(minutes: float | None, out: Path, as_json: bool) -> None:
    """Run the built-in family: a real 135M model, distilled, measured and priced."""
    from flashstill.recipes import built_in

    recipe = built_in("demo")
    if minutes is not None:
        recipe = recipe.scaled(max(minutes - FIXED_MINUTES, LEAST_TRAINING_MINUTES) / (DEMO_MINUTES - FIXED_MINUTES))
    _run(recipe, out, as_json)


DEMO_MINUTES, FIXED_MINUTES, LEAST_TRAINING_MINUTES = 10.0, 4.0, 0.2


def _run(recipe: FamilyRecipe, out: Path, as_json: bool) -> None:
    from flashstill.console import Console
    from flashstill.family import run_family
    from flashstill.report import findings

    records = run_family(recipe, out, Console(), shlex.join(["flashstill", *sys.argv[1:]]))
    lines = findings(records)
    report = str(out / "report.html")
    if as_json:
        _print_json({"out": str(out), "report": report, "findings": lines, "records": str(out / "records.jsonl")})
        return
    for line in lines:
        click.echo(line)
    click.echo(f"Report: {report}", err=True)


@cli.command()
@click.option("--model", required=True, help="A known name, or the path of a config.json or model directory.")
@click.option("--chip", required=True, help="A chip of `flashstill chips`.")
@click.option("--batch", type=int, required=True, help="Sequences decoded together.")
@click.option("--context", type=int, default=1024, show_default=True, help="Tokens cached for each sequence.")
@click.option("--chips", "count", type=int, default=None, help="Number of chips [default: the fewest that hold it].")
@click.option("--precision", default="bf16", show_default=True, help="Of weights and arithmetic.")
@click.option("--memory", default=None, help="Where weights and cache live: memory or sram [default: the largest].")
@_facts_options
@_json_option
def explain(
    model: str,
    chip: str,
    batch: int,
    context: int,
    count: int | None,
    precision: str,
    memory: str | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Where one decode step's time and energy go."""
    from flashstill.arch import load_architecture
    from flashstill.facts import load
    from flashstill.plan import configure
    from flashstill.plan import explain as explain_step
    from flashstill.printing import print_explanation

    facts = load(facts_directories, edits)
    made = configure(facts, load_architecture(model), chip, batch, context, count, precision, memory)
    found = explain_step(facts, made, batch, context)
    if as_json:
        _print_json(found.as_json())
    else:
        print_explanation(found)


@cli.command()
@click.argument("name", required=False)
@_facts_options
@_json_option
def chips(name: str | None, facts_directories: tuple[Path, ...], edits: tuple[str, ...], as_json: bool) -> None:
    """List the chips, or every number of one chip with its source."""
    import dataclasses

    from flashstill.facts import load
    from flashstill.hardware import chip_from_facts, known_chips
    from flashstill.printing import chip_summary, print_chip, print_chips

    facts = load(facts_directories, edits)
    if name is None:
        found = [chip_from_facts(facts, known) for known in known_chips(facts)]
        if as_json:
            _print_json([chip_summary(chip) for chip in found])
        else:
            print_chips(found)
        return
    machine = facts.machine(name)
    if as_json:
        rows = [dataclasses.asdict(row) for row in facts.of(machine.name)]
        _print_json({**dataclasses.asdict(machine), "facts": rows})
    else:
        print_chip(facts, machine)


@cli.command()
@_json_option
def models(as_json: bool) -> None:
    """List the models that are known by name."""
    from flashstill.arch import known_models, load_architecture
    from flashstill.printing import print_table

    found = [load_architecture(name) for name in known_models()]
    if as_json:
        _print_json(
            [
                {
                    "name": shape.name,
                    "parameters": shape.parameters,
                    "active_parameters": shape.active_parameters,
                    "layers": shape.depth,
                    "kv_values_per_token": shape.kv_values_per_token,
                    "context": shape.context,
                }
                for shape in found
            ]
        )
        return
    rows = [("name", "parameters", "active", "layers", "context")]
    for shape in found:
        rows.append(
            (
                shape.name,
                f"{shape.parameters / 1e9:.3g}B",
                f"{shape.active_parameters / 1e9:.3g}B",
                str(shape.depth),
                f"{shape.context:,}",
            )
        )
    print_table(rows)


@cli.command()
@_json_option
def measure(as_json: bool) -> None:
    """Measure this machine's matmul peak, bandwidth and overhead; it becomes the chip `this-machine`."""
    import dataclasses

    from flashstill.console import Console
    from flashstill.facts import load, user_directory
    from flashstill.facts.table import to_csv
    from flashstill.files import write_text
    from flashstill.measure import measure_machine
    from flashstill.units import show

    path = user_directory() / "this-machine.csv"
    rows = measure_machine(load(), Console())
    write_text(path, to_csv(rows))
    if as_json:
        _print_json({"path": str(path), "facts": [dataclasses.asdict(row) for row in rows]})
        return
    for row in rows:
        condition = f", {row.condition}" if row.condition else ""
        click.echo(f"{row.quantity}{condition}: {show(row.value, row.unit)} ({row.kind})")
    click.echo(f"Written to {path}", err=True)


@cli.command()
@click.argument("out", type=_DIRECTORY)
@_json_option
def report(out: Path, as_json: bool) -> None:
    """Write report.html again from the records of a finished run."""
    from flashstill.report import write_report

    if not (out / "records.jsonl").is_file():
        raise BadInput(f"{out} holds no records.jsonl; give the --out directory of a finished run")
    path = write_report(out)
    _print_json({"report": str(path)}) if as_json else click.echo(str(path))


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: every mistake of the user is one sentence on standard error."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, prog_name="flashstill", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.Abort:
        _fail("interrupted; what was finished is kept, run the same command again to go on", 130)
    except KeyboardInterrupt:
        _fail("interrupted; what was finished is kept, run the same command again to go on", 130)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()), 2)
    except InfeasiblePlan as error:
        counted = "; ".join(f"{reason}: {count}" for reason, count in error.reasons.items())
        _fail(f"{error}{f' ({counted})' if counted else ''}", error.exit_code)
    except FlashstillError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _fail(sentence: str, code: int) -> None:
    print(f"flashstill: {sentence}", file=sys.stderr)
    sys.exit(code)
