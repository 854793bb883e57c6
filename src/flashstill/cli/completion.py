"""Shell completion of chip and model names. For bash, add this line to ~/.bashrc:

    eval "$(_FLASHSTILL_COMPLETE=bash_source flashstill)"

For other shells use zsh_source or fish_source. Completion reads names only and builds no model.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from flashstill.errors import FlashstillError


def complete_chips(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Chips whose names begin with the typed text, or with the text after the last comma of a list."""
    from flashstill.facts import load

    before, comma, last = incomplete.rpartition(",")
    try:
        machines = load(ctx.params.get("facts_directories") or ()).machines
    except FlashstillError:  # the command itself will report a broken facts directory
        machines = load().machines
    begun = (machine for name, machine in sorted(machines.items()) if name.startswith(last.lower()))
    return [CompletionItem(before + comma + machine.name, help=machine.title) for machine in begun]


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Known models whose names begin with the typed text; files if it begins with a slash or a dot."""
    from flashstill.arch import known_models

    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in known_models() if name.startswith(incomplete.lower())]
