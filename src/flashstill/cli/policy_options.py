"""Options of the policy of replicas, of simulate: scheduler, cache, replicas, router and the bounds of goodput."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from flashstill.cli.options import COUNT, SECONDS, WORD

_F = TypeVar("_F", bound=Callable[..., Any])
POLICY = (
    "scheduler", "refill_sequences", "refuse_late", "step_tokens", "sequences", "block_tokens", "cache_blocks",
    "replicas", "router", "prefill_replicas", "prefill_chip", "prefix_cache", "prefix_margin", "preemption",
    "max_ttft_s", "max_tpot_s", "draft", "draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance",
)  # fmt: skip
"""the fields of a policy, of which those of drafts have options elsewhere"""


def policy_options(command: _F) -> _F:
    """Add the options of POLICY, except those of drafts."""
    option = click.option
    options = (
        option(
            "--scheduler",
            default=None,
            help="chunked, prefill-first, decode-priority, slo-aware, or a function of your own as FILE.py:NAME,"
            " which is run [default: the engine's].",
        ),
        option(
            "--refill-sequences",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="decode-priority: prompts start once only so many sequences decode.",
        ),
        option("--refuse-late", is_flag=True, help="slo-aware: turn away requests that can no longer keep --max-ttft."),
        option("--step-tokens", type=COUNT, default=None, help="Most tokens of one step [default: the engine's]."),
        option("--sequences", type=COUNT, default=None, help="Most sequences running at once [default: the engine's]."),
        option("--block-tokens", type=COUNT, default=None, help="Tokens of a cache block [default: the engine's]."),
        option("--cache-blocks", type=COUNT, default=None, help="Blocks of the cache [default: as memory allows]."),
        option("--replicas", type=COUNT, default=1, show_default=True, help="Copies of the deployment."),
        option("--prefill-replicas", type=COUNT, default=None, help="Prefill instances of all copies together."),
        option("--prefill-chip", type=WORD, default=None, help="Chip of the prefill instances, if it is another one."),
        option(
            "--router",
            type=WORD,
            default="least-requests",
            show_default=True,
            help="round-robin, least-requests, two-choices, least-tokens, central or prefix.",
        ),
        option(
            "--preemption", type=WORD, default="recompute", show_default=True, help="recompute, or swap to the host."
        ),
        option("--prefix-cache", type=WORD, default=None, help="lru or off [default: lru where the trace has hashes]."),
        option(
            "--prefix-margin",
            type=click.IntRange(min=0),
            default=None,
            help="--router prefix: most requests above the least loaded replica [default: as SGLang's].",
        ),
        option("--max-ttft", "max_ttft_s", type=SECONDS, default=None, help="Bound of goodput, as 500ms."),
        option("--max-tpot", "max_tpot_s", type=SECONDS, default=None, help="Bound of goodput, as 30ms."),
    )
    for each in reversed(options):
        command = each(command)
    return command
