"""Options of a search over deployments, which `plan` and `codesign` share: lengths, bounds, formats and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from flashstill.cli.options import COUNT, RATE, SECONDS, WORD, arrival_options

_F = TypeVar("_F", bound=Callable[..., Any])
_LENGTHS = (
    click.option("--isl", type=COUNT, default=1024, show_default=True, help="Prompt tokens, as 4096, 4k or 4Ki."),
    click.option("--osl", type=COUNT, default=1024, show_default=True, help="Output tokens."),
)
_CHOICES = (
    click.option(
        "--max-ttft", type=SECONDS, default=None, help="Longest time to first token, as 0.5 (seconds) or 500ms."
    ),
    click.option("--max-tpot", type=SECONDS, default=None, help="Longest time per output token, as 0.02 or 20ms."),
    click.option("--min-throughput", type=RATE, default=None, help="Least output tokens a second of a configuration."),
    click.option(
        "--precision", type=WORD, default="published", show_default=True, help="Formats to choose from, with commas."
    ),
    click.option(
        "--kv-precision", type=WORD, default=None, help="Formats of the cache [default: what goes with the weights]."
    ),
    click.option(
        "--tiers", type=WORD, default="memory,sram", show_default=True, help="Where weights and cache may lie."
    ),
    click.option("--batch", default=None, help="Requests in flight, with commas [default: powers of two to 4096]."),
)


def serving_options(command: _F) -> _F:
    """Add --isl, --osl, the options of arrivals, bounds, formats, --tiers and --batch, in this order."""
    for option in reversed((*_LENGTHS, arrival_options, *_CHOICES)):
        command = option(command)
    return command
