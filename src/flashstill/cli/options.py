"""What several commands share: their options."""

from __future__ import annotations

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


_DEPLOYMENT = (
    ("--chips", int, "All chips [default: the fewest that hold what is asked for]."),
    ("--tp", int, "Tensor parallelism [default: as far as the heads divide]."),
    ("--pp", int, "Pipeline stages [default: what tensor parallelism leaves]."),
    ("--ep", int, "Expert parallelism [default: tp x dp if dp > 1, else 1]."),
    ("--dp", int, "Data parallelism of attention, or replicas of a dense model [default: 1]."),
    ("--topology", str, "Edges of a torus, as 4x4x8 [default: as cubic as the number allows]."),
    ("--precision", str, "Of weights and arithmetic [default: as the checkpoint stores them]."),
    ("--kv-precision", str, "Of the cache [default: bf16; fp8 beside fp8 or NVFP4]."),
    ("--weights-in", str, "memory, sram or host [default: the chip's main memory]."),
    ("--kv-in", str, "The same for the cache."),
    ("--engine", str, "vllm, sglang, trtllm, none: kernels alone [default: vllm; none on SRAM]."),
)


def deployment_options(command: _F) -> _F:
    """Add what may be said of a deployment: the same options, with the same defaults, for every command."""
    command = click.option(
        "--sampling", default="greedy", show_default=True, help="greedy, or top-p (with top-k): tokens drawn."
    )(command)
    for name, kind, told in reversed(_DEPLOYMENT):
        command = click.option(name, type=kind, default=None, help=told)(command)
    return command


price_option = click.option(
    "--price",
    default="rented",
    show_default=True,
    help="Basis of all dollars: rented, owned or list; a chip without it gets its best estimate, labelled.",
)
