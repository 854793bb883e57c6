"""The page of the command line for the site, made from the commands' own help."""

from __future__ import annotations

import html
import inspect
from collections.abc import Iterator

import click

from flashstill.cli import cli

PAGE = "commands.md"


def navigation() -> str:
    """The entry of the navigation."""
    return PAGE


def pages() -> dict[str, str]:
    """Markdown of the page by its path."""
    lines = ["# Command line", "", "Every command and option; `flashstill COMMAND --help` prints the same."]
    with click.Context(cli, info_name="flashstill") as context:
        for name, command in _commands(cli, context, "flashstill"):
            lines += _section(name, command, context)
    return {PAGE: "\n".join(lines) + "\n"}


def _commands(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Each command that is not hidden with its whole name, those of groups inside as well."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from _commands(command, context, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _section(name: str, command: click.Command, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name.removeprefix("flashstill "), parent=parent)
    usage = command.get_usage(context).removeprefix("Usage: ")
    lines = ["", f"## {name}", "", "```text", usage, "```", "", *_paragraphs(command.help or "")]
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        lines += ["", "| option | meaning |", "|---|---|"]
        lines += [f"| <code>{_cell(option)}</code> | {_cell(meaning)} |" for option, meaning in records]
    return lines


def _paragraphs(text: str) -> list[str]:
    """Help as Markdown; click marks paragraphs whose lines stay with a backspace."""
    blocks = []
    for block in inspect.cleandoc(text).split("\n\n"):
        blocks += ["```text", block.strip("\b\n"), "```", ""] if block.startswith("\b") else [block, ""]
    return blocks


def _cell(text: str) -> str:
    return html.escape(text, quote=False).replace("|", "&#124;")
