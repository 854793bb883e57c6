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
    from flashstill.facts import Facts
    from flashstill.plan import Explanation
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
    _run(recipe if minutes is None else recipe.scaled(minutes / DEMO_MINUTES), out, as_json)


DEMO_MINUTES = 10.0


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

    facts = load(facts_directories, edits)
    made = configure(facts, load_architecture(model), chip, batch, context, count, precision, memory)
    found = explain_step(facts, made, batch, context)
    if as_json:
        _print_json(found.as_json())
    else:
        _print_explanation(found)


def _print_explanation(found: Explanation) -> None:
    from flashstill.units import show

    made, cost, facts = found.configuration, found.cost, found.as_json()
    runs_in = facts["runs_in"]
    note = "" if runs_in == made.precision else f" (multiplied in {runs_in}, as the chip has no {made.precision})"
    click.echo(
        f"{made.model.name}, {made.model.parameters / 1e9:.3g}B parameters, on {made.chips} x {made.chip.name},"
        f" batch {found.batch}, context {found.context}, {made.precision}{note}, from {made.tier.name}"
    )
    click.echo(
        f"\none decode step: {show(facts['seconds'], 's')} (perfect machine {show(facts['seconds_perfect'], 's')}),"
        f" {facts['tokens_per_s']:,.0f} tokens/s, bound by {cost.bound}"
    )
    _print_table(
        [("where the time goes", "", "")]
        + [
            (name, show(seconds, "s"), f"{seconds / facts['seconds']:6.1%}")
            for name, seconds in facts["seconds_by"].items()
            if seconds
        ]
    )
    levels = facts["joules_per_token"]
    _print_table(
        [("where a token's joules go", "", "")]
        + [(name, show(joules, "J"), f"{joules / levels['total']:6.1%}") for name, joules in levels.items()]
    )
    per_mac = facts["pj_per_mac"]
    _print_table(
        [
            ("picojoules per multiply-accumulate", "", ""),
            ("compute", show(per_mac["compute"], "pJ"), ""),
            ("movement", show(per_mac["movement"], "pJ"), f"{per_mac['movement'] / per_mac['compute']:.3g} x compute"),
        ]
    )
    _print_table(
        [("the way of one byte to the multiplier", "", "")]
        + [(part, show(energy, "pJ"), "") for part, energy in facts["pj_per_byte"].items()]
    )
    click.echo(
        f"\n{show(facts['watts_per_chip'], 'W')} a chip;"
        f" {show(facts['wall_joules_per_token'], 'J')} a token at the wall"
        f" (host and building); {show(facts['usd_per_million_tokens'], 'USD')} per million tokens"
        f" at {show(facts['usd_per_chip_hour'], 'USD')} a chip-hour ({facts['price_basis']})"
    )


@cli.command()
@click.argument("name", required=False)
@_facts_options
@_json_option
def chips(name: str | None, facts_directories: tuple[Path, ...], edits: tuple[str, ...], as_json: bool) -> None:
    """List the chips, or every number of one chip with its source."""
    import dataclasses

    from flashstill.facts import load
    from flashstill.units import show

    facts = load(facts_directories, edits)
    if name is None:
        _list_chips(facts, as_json)
        return
    machine = facts.machine(name)
    rows = facts.of(machine.name)
    if as_json:
        _print_json({**dataclasses.asdict(machine), "facts": [dataclasses.asdict(row) for row in rows]})
        return
    click.echo(f"{machine.name}: {machine.title}{', ' + machine.maker if machine.maker else ''}, {machine.year}")
    if not rows:
        click.echo("no rows yet: run `flashstill measure` to fill them")
    for row in rows:
        span = "" if row.low == row.high else f" [{show(row.low, row.unit)} to {show(row.high, row.unit)}]"
        condition = f", {row.condition}" if row.condition else ""
        click.echo(f"\n{row.quantity} per {row.per}{condition}: {show(row.value, row.unit)}{span}")
        click.echo(f"    {row.kind}: {row.source} ({row.as_of}){'; ' + row.note if row.note else ''}")


def _list_chips(facts: Facts, as_json: bool) -> None:
    from flashstill.hardware import chip_from_facts, known_chips
    from flashstill.units import show

    found = [(facts.machines[name], chip_from_facts(facts, name)) for name in known_chips(facts)]
    if as_json:
        _print_json(
            [
                {
                    "name": chip.name,
                    "title": chip.title,
                    "class": chip.chip_class,
                    "year": machine.year,
                    "flops_per_s": chip.flops_per_s,
                    "memories": {
                        tier.name: {"bytes": tier.bytes, "bytes_per_s": tier.bytes_per_s} for tier in chip.tiers
                    },
                    "link_bytes_per_s": chip.link_bytes_per_s,
                    "power_limit_w": chip.power_limit_w,
                }
                for machine, chip in found
            ]
        )
        return
    rows = [("name", "what", "fastest dense", "memory", "bandwidth", "power limit")]
    for _, chip in found:
        fastest = max(chip.flops_per_s, key=lambda precision: chip.flops_per_s[precision])
        rate = f"{show(chip.flops_per_s[fastest], 'FLOP/s')} {fastest}"
        memory = chip.memory
        rows.append(
            (
                chip.name,
                chip.title,
                rate,
                show(memory.bytes, "B"),
                show(memory.bytes_per_s, "B/s"),
                show(chip.power_limit_w, "W"),
            )
        )
    _print_table(rows)


@cli.command()
@_json_option
def models(as_json: bool) -> None:
    """List the models that are known by name."""
    from flashstill.arch import known_models, load_architecture

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
    _print_table(rows)


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


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns aligned, the first to the left, a heading line set apart."""
    widths = [max(len(row[column]) for row in rows[1:] or rows) for column in range(len(rows[0]))]
    heading_only = all(not cell for cell in rows[0][1:])
    if not heading_only:
        widths = [max(width, len(cell)) for width, cell in zip(widths, rows[0], strict=True)]
    click.echo()
    for number, row in enumerate(rows):
        if number == 0 and heading_only:
            click.echo(row[0])
            continue
        cells = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


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
