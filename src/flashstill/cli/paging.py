"""--out PAGE.html: the page of an answer about money, from the same document as --json prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from flashstill.errors import BadInput
from flashstill.outputs import check_writable

_F = TypeVar("_F", bound=Callable[..., Any])
SUFFIXES = (".html", ".htm")


def _is_page(_context: click.Context, _option: click.Parameter, out: Path | None) -> Path | None:
    """The path; before any work BadInput for one that is not named as a page, DiskTrouble for one that cannot be."""
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise BadInput(f"--out writes a page, so its name ends in .html, not {out.name!r}; --json prints the numbers")
    check_writable(out)
    return out


def page_option(command: _F) -> _F:
    """Add --out: `out` is the path of a page, or None."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        default=None,
        callback=_is_page,
        help="A page of it (.html): charts, their numbers and sources.",
    )(command)


def write_page(out: Path | None, document: Mapping[str, Any]) -> None:
    """Write the page of a command's answer, if one is asked for; its question is that of the running command."""
    if out is None:
        return
    from flashstill.cli.documents import with_common_keys
    from flashstill.report.answers import write_answer_page

    write_answer_page(out, with_common_keys(document))
    click.echo(f"Page: {out}", err=True)


def give(
    document: Mapping[str, Any], out: Path | None, as_json: bool, print_it: Callable[[Mapping[str, Any]], None]
) -> None:
    """An answer as the user asked for it: its page, if one is asked for, and the JSON document or the printed text."""
    from flashstill.cli.documents import print_json

    write_page(out, document)
    if as_json:
        print_json(document)
    else:
        print_it(document)
