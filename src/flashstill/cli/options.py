"""What several commands share: options, and the printing of a JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])
DIRECTORY = click.Path(path_type=Path, file_okay=False)


def facts_options(command: _F) -> _F:
    """Add --facts and --set."""
    command = click.option(
        "--facts",
        "facts_directories",
        type=DIRECTORY,
        multiple=True,
        help="A directory of more fact rows; repeatable.",
    )(command)
    return click.option(
        "--set", "edits", multiple=True, metavar="NAME.QUANTITY=NUMBER", help="A what-if edit of a fact; repeatable."
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on standard output.")


def print_json(document: object) -> None:
    """One document on standard output."""
    click.echo(json.dumps(document, indent=1))
