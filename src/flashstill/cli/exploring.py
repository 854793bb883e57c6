"""The command that opens the page to explore the engine's answers."""

from __future__ import annotations

from pathlib import Path

import click

from flashstill.cli.documents import echo_edits, json_option, print_json
from flashstill.cli.options import chip_option, facts_options, model_option


@click.command()
@click.argument("result", required=False, type=click.Path(path_type=Path, dir_okay=False))
@model_option()
@chip_option()
@click.option("--port", type=int, default=0, help="Port on 127.0.0.1 [default: one that is free].")
@click.option("--no-browser", is_flag=True, help="Print the address without opening a browser.")
@facts_options
@json_option
def explore(
    result: Path | None,
    model: str | None,
    chip: str | None,
    port: int,
    no_browser: bool,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """Open a page that draws what the engine says: sliders, fronts, tables, what-if edits; on this machine alone.

    RESULT is a file with what a command printed with --json; its charts come first.
    """
    from flashstill.explore.starting import answers_of, serving

    answers = answers_of(model=model, chip=chip, directories=facts_directories, edits=edits, result=result)
    echo_edits(answers.engine.facts, as_json)
    with serving(answers, port, opens_browser=not no_browser) as page:
        if as_json:
            print_json({"url": page.address(), "port": page.port, "views": list(answers.kinds)})
        else:
            click.echo(f"Page: {page.address()}")
        click.echo("Only this machine can open it, with the token of its address; Ctrl-C ends it.", err=True)
        page.answer()
