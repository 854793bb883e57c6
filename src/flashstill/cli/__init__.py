"""The command line: parse, call one function, print. Heavy imports stay inside the commands.

Exit codes: 0 done, 2 a mistake in the input (one sentence), 3 nothing feasible (reasons counted), 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from flashstill import __version__
from flashstill.cli.learning import demo, distill, measure, report, run
from flashstill.cli.planning import plan
from flashstill.cli.serving import predict, validate
from flashstill.cli.shapes import chips, explain, models
from flashstill.errors import FlashstillError, InfeasiblePlan, nearest, printable


class _Commands(click.Group):
    """A group that names the nearest commands when one is mistyped."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            close = ", ".join(nearest(args[0], self.commands))
            raise click.UsageError(f"unknown command {args[0]!r}; the nearest known: {close}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flashstill")
def cli() -> None:
    """Distil a frontier model into a flash model, and know what every token costs."""


for _command in (run, demo, distill, report, measure, explain, predict, plan, validate, chips, models):
    cli.add_command(_command)


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
    except OSError as error:  # of a path that the user gave: too long, a loop of links, not permitted
        if error.filename is None:
            raise
        _fail(f"cannot use {error.filename}: {(error.strerror or str(error)).lower()}", 2)


LONGEST_SENTENCE = 1000


def _fail(sentence: str, code: int) -> None:
    """One sentence on standard error; what the user gave may be long, and then its middle goes."""
    plain = printable(sentence)
    if len(plain) > LONGEST_SENTENCE:
        plain = f"{plain[: LONGEST_SENTENCE * 2 // 3]} ... {plain[-LONGEST_SENTENCE // 3 :]}"
    print(f"flashstill: {plain}", file=sys.stderr)
    sys.exit(code)
