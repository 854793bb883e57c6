"""The command that opens the page to explore the engine's answers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flashstill.cli.documents import echo_edits, json_option, print_json
from flashstill.cli.options import chip_option, facts_options, model_option

if TYPE_CHECKING:
    from flashstill.explore.answers import Answers


@click.command()
@click.argument("result", required=False, type=click.Path(path_type=Path))
@model_option()
@chip_option()
@click.option("--port", type=int, default=0, help="Port on 127.0.0.1 [default: one that is free].")
@click.option("--no-browser", is_flag=True, help="Print the address without opening a browser.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write the page with a grid of states to one file (.html) that opens without flashstill, and end.",
)
@facts_options
@json_option
def explore(
    result: Path | None,
    model: str | None,
    chip: str | None,
    port: int,
    no_browser: bool,
    save: Path | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Open a page that draws what the engine says: sliders, fronts, tables, what-if edits; on this machine alone.

    RESULT adds what a command found: the directory of a finished run, or the JSON answer of simulate, asic, capacity
    or economics.
    """
    from flashstill.explore.starting import answers_of, serving

    if save is not None:
        from flashstill.explore.saving import check_place

        check_place(save)
    answers = answers_of(model=model, chip=chip, directories=facts_directories, edits=edits, result=result)
    echo_edits(answers.engine.facts, as_json)
    if save is not None:
        _save(answers, save, as_json)
        return
    with suppress(KeyboardInterrupt), serving(answers, port, opens_browser=not no_browser) as page:
        if as_json:
            print_json({"url": page.address(), "port": page.port, "views": list(answers.kinds)})
        else:
            click.echo(f"Page: {page.address()}")
        click.echo("Only this machine can open it, with the token of its address; Ctrl-C ends it.", err=True)
        page.answer()


def _save(answers: Answers, out: Path, as_json: bool) -> None:
    from flashstill.console import Console
    from flashstill.explore.saving import save_page

    saved = save_page(answers, out, Console())
    if as_json:
        print_json({"page": str(out), "bytes": saved.bytes, "states": saved.states, "views": list(answers.kinds)})
    else:
        click.echo(f"Page: {out}, {saved.states:,} states, {saved.bytes / 1e6:.1f} MB")
