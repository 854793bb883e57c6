"""Options that say how a trace of requests is to be read, of simulate, plan and measure."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill.cli.options import COUNT, SECONDS, WORD

if TYPE_CHECKING:
    from flashstill.traces.reading import Reading

_F = TypeVar("_F", bound=Callable[..., Any])
READING = (
    "trace_format", "time_unit", "hash_block", "trace_columns", "trace_only", "skip_failed", "trace_sort",
    "turn_lengths", "trace_from_s", "trace_until_s",
)  # fmt: skip
TRACE_HELP = "Requests that came: CSV, JSON lines or Parquet in a format of docs/simulate.md, also compressed."

replay_option = click.option(
    "--replay", type=WORD, default="open-loop", show_default=True,
    help="Turns of a trace's conversations: open-loop (at their times), in-order (then, but not before the answer"
    " before them) or closed-loop (a think time after it).",
)  # fmt: skip


def reading_options(command: _F) -> _F:
    """Add the options of READING to a command."""
    option = click.option
    options = (
        option(
            "--trace-format", type=WORD, default=None,
            help="flashstill, azure, burstgpt, bailian, mooncake, aiperf, guidellm, vllm-bench, ... [default: as its"
            " columns say].",
        ),
        option("--time-unit", type=WORD, default=None, help="Of times that are numbers: s, ms, us or ns."),
        option("--hash-block", type=COUNT, default=None, help="Tokens of a block of hash_ids [default: the format's]."),
        option(
            "--trace-columns", default=None,
            help="Of a log of your own: time=ts,input=prompt_tokens,output=completion_tokens[,cached=..,hashes=..,"
            "session=..].",
        ),
        option("--trace-only", default=None, help='Only the requests with these values, as "Model=GPT-4".'),
        option("--skip-failed", is_flag=True, help="Leave out the trace's requests without output tokens."),
        option("--sort-trace", "trace_sort", is_flag=True, help="Put the trace's requests in order of time."),
        option(
            "--turn-lengths", type=WORD, default=None,
            help="What the prompt tokens of a conversation's later turns count: the whole prompt, or what is added to"
            " what was said before (added) [asked for where turns have a delay].",
        ),
        option("--trace-from", "trace_from_s", type=SECONDS, default=0.0, help="Begin so far into the trace, as 24h."),
        option("--trace-until", "trace_until_s", type=SECONDS, default=None, help="End so far into the trace."),
    )  # fmt: skip
    for each in reversed(options):
        command = each(command)
    return command


def reading_of(flags: MutableMapping[str, Any]) -> Reading:
    """What the options say, taken out of the flags."""
    from flashstill.traces.reading import Reading

    return Reading(**{name: flags.pop(name) for name in READING})
