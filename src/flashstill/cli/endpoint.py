"""The command that serves a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.learning_options import ARITHMETIC, ARITHMETIC_HELP
from flashstill.cli.options import COUNT, SECONDS, WORD

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--engine", type=WORD, default="transformers", show_default=True, help="transformers, vllm or sglang.")
@click.option("--engine-python", type=_FILE, default=None, help="The Python of an environment that has the engine.")
@click.option(
    "--plan", type=_FILE, default=None,
    help="Settings from a document of plan --emit ENGINE --json, or of predict --json.",
)  # fmt: skip
@click.option("--sequences", type=COUNT, default=None, help="Requests in flight [default: of the plan, or 16].")
@click.option(
    "--length", type=COUNT, default=None, help="Tokens of the longest request [default: of the plan, or 2048]."
)
@click.option("--arithmetic", type=click.Choice(ARITHMETIC), default="auto", show_default=True, help=ARITHMETIC_HELP)
@click.option("--name", default=None, help="How requests call the model [default: the directory's name].")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="Port to listen on; 0 is a free one.")
@click.option("--log", type=_FILE, default=None, help="File for the engine's output [default: in flashstill's home].")
@click.option("--wait", "wait_s", type=SECONDS, default=600.0, show_default=True, help="Longest wait until it answers.")
@json_option
def serve(as_json: bool, **asked: Any) -> None:
    """Serve a model with an OpenAI-compatible API: DIR is a Hugging Face directory, such as a distilled student.

    Prints the URL once the server answers, and serves until Ctrl-C or SIGTERM.
    """
    from flashstill.console import Console
    from flashstill.endpoint.server import EngineFailed, Request, serving

    is_ready = False
    try:
        with serving(Request(**asked), Console()) as server:
            click.echo(f"{server.engine} answers after {server.ready_s:.1f} s; its output is in {server.log}", err=True)
            for note in server.notes:
                click.echo(f"note: {note}", err=True)
            is_ready = True
            print_json(server.as_dict()) if as_json else click.echo(server.url)
            server.wait()
            raise server.ended()
    except EngineFailed as error:
        for line in error.lines:
            click.echo(f"| {line}", err=True)
        raise
    except KeyboardInterrupt:
        if not is_ready:
            raise
        click.echo("stopped", err=True)
