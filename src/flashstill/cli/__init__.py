"""The command line: parse, call one function, print. Heavy imports stay inside the commands.

Exit codes: 0 done, 2 a mistake in the input (one sentence), 3 nothing feasible (reasons counted), 130 interrupted,
143 stopped by SIGTERM.  If the reader of a pipe closes it early, the exit code is 0.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from flashstill import __version__
from flashstill.calls import commanded
from flashstill.cli.acceptance import acceptance
from flashstill.cli.asic import asic
from flashstill.cli.calibrating import calibrate
from flashstill.cli.capacity import capacity
from flashstill.cli.cascade import cascade
from flashstill.cli.codesign import codesign
from flashstill.cli.data import data
from flashstill.cli.economics import economics
from flashstill.cli.endpoint import serve
from flashstill.cli.evaluating import evaluate
from flashstill.cli.exploring import explore
from flashstill.cli.exporting import card, export
from flashstill.cli.interrupts import (
    exit_code,
    has_directory,
    leave_quietly,
    open_closed_streams,
    reader_left,
    sentence,
    trouble_of,
    watch,
)
from flashstill.cli.learning import demo, distill, report, run
from flashstill.cli.measuring import measure
from flashstill.cli.planning import plan
from flashstill.cli.quality import quality
from flashstill.cli.serving import predict, validate
from flashstill.cli.shapes import chips, explain, models
from flashstill.cli.simulating import simulate
from flashstill.cli.speculating import speculate
from flashstill.cli.years_ahead import arrays, ceiling, trends
from flashstill.errors import FlashstillError, InfeasiblePlan, nearest, printable, unknown
from flashstill.extras import missing_package


class _Broken(Exception):
    """Carries a broken pipe past click, which would exit with 1."""


class _Commands(click.Group):
    """A group that suggests the nearest commands for a mistyped one, and whose help does not truncate summaries."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the whole first sentence of its help, wrapped."""
        commands = [command for command in self.commands.values() if not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(command.name or "", command.get_short_help_str(limit=1000)) for command in commands])

    def make_context(self, *values: Any, **named: Any) -> click.Context:
        """As in click; --help is printed during this call."""
        try:
            return super().make_context(*values, **named)
        except BrokenPipeError as error:
            raise _Broken from error

    def invoke(self, ctx: click.Context) -> Any:
        """As in click."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _Broken from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = ", ".join(nearest(args[0], self.commands))
            raise click.UsageError(f"unknown command {args[0]!r}; the nearest known: {close}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="flashstill")
def cli() -> None:
    """Distil a frontier model into a flash model, and know what every token costs."""


for _command in (
    run, demo, data, distill, evaluate, acceptance, export, card, report, measure, explain, predict, plan, speculate,
    simulate, capacity, cascade, economics, asic, codesign, quality, trends, ceiling, arrays, explore, validate,
    calibrate, serve, chips, models,
):  # fmt: skip
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: every user error is printed as one sentence on standard error."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = next((word for word in words if word in cli.commands), "")
    if arguments is None:
        open_closed_streams()
        watch()
        if not has_directory():
            _fail("the working directory is gone; change to one that exists", 2)
    try:
        with commanded():
            cli.main(args=words, prog_name="flashstill", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        signal = error.__cause__ or error
        _fail(sentence(command, signal, words), exit_code(signal))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        _fail(missing, 2)
    except click.NoSuchOption as error:
        _fail(_no_such_option(error), 2)
    except click.ClickException as error:
        _fail(" ".join(error.format_message().split()), 2)
    except InfeasiblePlan as error:
        counted = "; ".join(f"{reason}: {count}" for reason, count in error.reasons.items())
        _fail(f"{error}{f' ({counted})' if counted else ''}", error.exit_code)
    except FlashstillError as error:
        _fail(str(error), error.exit_code)
    except (BrokenPipeError, _Broken):
        if reader_left():
            leave_quietly()
        _fail("a pipe or a connection was closed from the other side", 2)
    except OSError as error:  # an invalid user path (too long, symlink loop, no permission), or an output error
        trouble = trouble_of(error)
        if trouble is None:
            raise
        _fail(trouble, 2)


def _no_such_option(error: click.NoSuchOption) -> str:
    """Its sentence with the nearest options of the command, among them one that means the same."""
    if error.ctx is None:
        return " ".join(error.format_message().split())
    options = [option for option in error.ctx.command.get_params(error.ctx) if isinstance(option, click.Option)]
    names = [name for option in options if not option.hidden for name in option.opts if name.startswith("--")]
    return unknown("option", error.option_name, names)


LONGEST_SENTENCE = 1000


def _fail(sentence: str, code: int) -> None:
    """Print one sentence on standard error, its middle elided if it is long."""
    plain = printable(sentence)
    if len(plain) > LONGEST_SENTENCE:
        plain = f"{plain[: LONGEST_SENTENCE * 2 // 3]} ... {plain[-LONGEST_SENTENCE // 3 :]}"
    print(f"flashstill: {plain}", file=sys.stderr)
    sys.exit(code)
