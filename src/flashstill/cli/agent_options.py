"""Options that say what each agent does, of simulate and measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from flashstill.cli.options import COUNT, SECONDS

_F = TypeVar("_F", bound=Callable[..., Any])
AGENTS_HELP = "Sessions of turns whose prompts repeat what was said"


def agent_options(command: _F) -> _F:
    """Add the options that say what each agent does to a command."""
    option = click.option
    options = (
        option("--turns", type=COUNT, default=10, show_default=True, help="Turns of each agent."),
        option("--think", "think_s", type=SECONDS, default=0.0, help="Mean time of an agent between turns, as 20s."),
        option("--fan-out", type=COUNT, default=1, show_default=True, help="Requests that each turn sends at once."),
        option("--shared-prefix", type=click.IntRange(min=0), default=0, help="Tokens that all prompts begin with."),
    )
    for each in reversed(options):
        command = each(command)
    return command
