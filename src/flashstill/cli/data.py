"""The command that shows what is read of a data file, and what of it is learned."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

import click

from flashstill.cli.documents import json_option, print_json
from flashstill.cli.options import COUNT
from flashstill.errors import harmless, printable

if TYPE_CHECKING:
    from flashstill.distill.data.showing import Shown, Survey

LEARN = ("assistant", "last", "all")  # recipes/chat.py
ALL = 10**9
MOST_SHOWN_CHARACTERS = 2000


@click.command()
@click.argument("source", metavar="FILE")
@click.option("--tokenizer", required=True, metavar="MODEL", help="A directory with a tokenizer, or a model.")
@click.option("--chat-template", default="", metavar="FILE", help="Of conversations [default: the tokenizer's own].")
@click.option(
    "--learn", type=click.Choice(LEARN), default=LEARN[0], show_default=True,
    help="All of the assistant's answers, its last one, or every token.",
)  # fmt: skip
@click.option("--text", default="", metavar="NAME", help="Entry of a record that is its text.")
@click.option("--messages", default="", metavar="NAME", help="Entry with the messages of a conversation.")
@click.option("--prompt", default="", metavar="NAME", help="Entry with a prompt; with --completion.")
@click.option("--completion", default="", metavar="NAME", help="Entry with a completion; with --prompt.")
@click.option("--as-chat", is_flag=True, help="Prompts and completions that are strings are conversations.")
@click.option(
    "--bad-share",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Most bad records that are skipped.",
)
@click.option("--show", type=click.IntRange(min=0), default=2, show_default=True, help="Documents shown with masks.")
@click.option("--most", type=COUNT, default=None, help="Read only the first of them [default: all].")
@json_option
def data(
    source: str,
    tokenizer: str,
    chat_template: str,
    learn: str,
    text: str,
    messages: str,
    prompt: str,
    completion: str,
    as_chat: bool,
    bad_share: float,
    show: int,
    most: int | None,
    as_json: bool,
) -> None:
    """Show what a data file holds: records, tokens, and what of it a student learns.

    FILE is a file or a directory of text or conversations, or DIR:SPLIT (docs/chat.md).  What is learned is shown in
    green on a terminal, in [[ ]] elsewhere.
    """
    from flashstill.console import Console
    from flashstill.distill.data.chats import Reading
    from flashstill.distill.data.layouts import Columns
    from flashstill.distill.data.rows import Tally
    from flashstill.distill.data.showing import survey
    from flashstill.distill.data.templates import renderer_of, template_of
    from flashstill.distill.models import load_tokenizer
    from flashstill.distill.teachers import resolve_tokenizer

    directory = resolve_tokenizer(tokenizer, Console())
    loaded = load_tokenizer(directory)
    columns = Columns(text=text, messages=messages, prompt=prompt, completion=completion, as_chat=as_chat)
    with renderer_of(template_of(loaded, chat_template)) as renderer:
        reading = Reading(
            tokenizer=loaded, renderer=renderer, named=directory.name, learn=learn, columns=columns,
            tally=Tally(most=bad_share),
        )  # fmt: skip
        found = survey(source, reading, show, most or ALL)
    if as_json:
        print_json({"source": source, "tokenizer": str(directory), **dataclasses.asdict(found)})
        return
    for line in (*_lines(found), *reading.tally.lines()):
        click.echo(line)
    for document in found.shown:
        click.echo(f"\n{printable(document.name)} ({document.kind})")
        click.echo(marked(document, sys.stdout.isatty()))


def _lines(found: Survey) -> list[str]:
    kinds = ", ".join(f"{count:,} x {kind}" for kind, count in found.documents.items())
    share = f" ({found.learned / found.tokens:.0%})" if found.tokens else ""
    return [
        f"{found.records['read']:,} records: {kinds or 'nothing that can be used'}",
        f"{found.tokens:,} tokens, of which {found.learned:,}{share} are learned; the longest has {found.longest:,}",
    ]


def marked(document: Shown, colour: bool) -> str:
    """The text of a document with what is learned in green, or in [[ ]]; long parts that are only read are elided."""
    parts = []
    for part in document.parts:
        text = harmless(part.text)
        if len(text) > MOST_SHOWN_CHARACTERS:
            half = MOST_SHOWN_CHARACTERS // 2
            text = f"{text[:half]} ... {text[-half:]}"
        learned = click.style(text, fg="green") if colour else f"[[{text}]]"
        parts.append(learned if part.learned else text)
    return "".join(parts)
