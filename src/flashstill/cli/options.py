"""Options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from flashstill.cli.completion import complete_chips, complete_models
from flashstill.errors import shortened
from flashstill.outputs import check_writable
from flashstill.units import parse_amount, parse_count

_F = TypeVar("_F", bound=Callable[..., Any])
DIRECTORY = click.Path(path_type=Path, file_okay=False)


def given_options() -> dict[str, str]:
    """Names of the options that stand on the command line of the running command, and how they are spelled: with
    dashes, as in {"max_chips": "--max-chips"}. An option that has its default is none of them."""
    context = click.get_current_context()
    return {
        option.name: option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }


class _Count(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A whole number such as 16, 4k (4,000) or 4Ki (4,096)."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the number; a default is already a number."""
        count = parse_count(value) if isinstance(value, str) else int(value)
        if count is None:
            self.fail(f"{shortened(value)!r} is not a valid integer; write it as 16, 4k or 4Ki.", param, ctx)
        return count


class Amount(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A number in `unit`, or with an explicit prefix or unit such as 20ms."""

    def __init__(self, unit: str, example: str, name: str = "amount") -> None:
        self.unit, self.example, self.name = unit, example, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the amount into `unit`; a default is already a number."""
        amount = parse_amount(value, self.unit) if isinstance(value, str) else float(value)
        if amount is None:
            self.fail(f"{shortened(value)!r} is not a valid amount; write it as {self.example}.", param, ctx)
        return amount


class _Word(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A case-insensitive choice; the lookup of the value raises the error that lists the choices."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word in lower case, as all choices are."""
        return str(value).strip().lower()


COUNT, WORD, SECONDS = _Count(), _Word(), Amount("s", "20ms or 0.02", "duration")
SHARE, RATE = Amount("1", "0.7 or 70%", "share"), Amount("1", "500, 4k or 2B", "rate")


def writable(_context: click.Context, _option: click.Parameter, out: Path | None) -> Path | None:
    """The path of a file to write; DiskTrouble, before any work, where it cannot be written."""
    check_writable(out)
    return out


def arrival_options(command: _F) -> _F:
    """Add --isl-cv, --osl-cv, --cached-ratio, --burst-share, --batching-steps and --cohort."""
    command = spread_options(command)
    command = click.option(
        "--cached-ratio",
        type=SHARE,
        default=0.0,
        show_default=True,
        help="Share of each prompt found in a prefix cache, as 0.5 or 50%.",
    )(command)
    command = click.option(
        "--cohort",
        type=float,
        default=1.0,
        show_default=True,
        help="Prompts prefilled together or one after the other, at the least: 2 or 3 where all lengths are equal.",
    )(command)
    command = click.option(
        "--burst-share",
        type=SHARE,
        default=0.1,
        show_default=True,
        help="Share of requests that come at once: 0.1 as load generators measure, 0 in a steady state.",
    )(command)
    return click.option(
        "--batching-steps",
        type=float,
        default=0.0,
        show_default=True,
        help="Decode steps that the engine lets a prompt wait for others.",
    )(command)


def spread_options(command: _F) -> _F:
    """Add --isl-cv and --osl-cv."""
    for name, of in (("--osl-cv", "answers"), ("--isl-cv", "prompts")):
        command = click.option(
            name,
            type=float,
            default=0.0,
            show_default=True,
            help=f"How the lengths of {of} vary: standard deviation over mean; 1 as exponential ones.",
        )(command)
    return command


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
        "--set",
        "edits",
        multiple=True,
        metavar="NAME.QUANTITY=AMOUNT",
        help="A what-if edit of a fact, of one condition as NAME.QUANTITY[fp8]; adds what a chip lacks; repeatable.",
    )(command)


_DEPLOYMENT = (
    ("--chips", COUNT, "All chips [default: the fewest that hold what is asked for]."),
    ("--tp", COUNT, "Tensor parallelism [default: as far as the heads divide]."),
    ("--pp", COUNT, "Pipeline stages [default: what tensor parallelism leaves]."),
    ("--ep", COUNT, "Expert parallelism [default: tp x dp if dp > 1, else 1]."),
    ("--dp", COUNT, "Data parallelism of attention, or replicas of a dense model [default: 1]."),
    ("--redundant-experts", COUNT, "Copies of popular experts [default: the fewest that let ep divide the experts]."),
    ("--prefill-chips", COUNT, "Chips of one prefill instance, where prefill has a pool of its own."),
    ("--prefill-tp", COUNT, "Tensor parallelism of a prefill instance; this and the next as for decoding."),
    ("--prefill-pp", COUNT, "Its pipeline stages."),
    ("--prefill-ep", COUNT, "Its expert parallelism."),
    ("--prefill-dp", COUNT, "Its data parallelism."),
    ("--prefill-redundant-experts", COUNT, "Its redundant experts."),
    ("--prefill-instances", COUNT, "Equal prefill instances beside the decode pool [default: 1]."),
    ("--topology", WORD, "Edges of a torus, as 4x4x8 [default: as cubic as the number allows]."),
    ("--precision", WORD, "Of weights and arithmetic [default: as the checkpoint stores them]."),
    ("--kv-precision", WORD, "Of the cache [default: as the checkpoint says, else bf16; fp8 beside fp8 or NVFP4]."),
    ("--weights-in", WORD, "memory, sram or host [default: the chip's main memory]."),
    ("--kv-in", WORD, "The same for the cache."),
    (
        "--engine",
        WORD,
        "vllm, sglang, trtllm (or trtllm@1.0, older), none: kernels alone [default: vllm; none on SRAM].",
    ),
)


def deployment_options(command: _F) -> _F:
    """Add the deployment options, with the same defaults for every command."""
    command = click.option(
        "--sampling",
        type=WORD,
        default="greedy",
        show_default=True,
        help="greedy, or top-p (with top-k): tokens drawn.",
    )(command)
    command = click.option(
        "--overlap",
        type=WORD,
        default="none",
        show_default=True,
        help="two-batch: one half of the batch computes while the other half's tokens travel to experts.",
    )(command)
    for name, kind, told in reversed(_DEPLOYMENT):
        command = click.option(name, type=kind, default=None, help=told)(command)
    return command


price_option = click.option(
    "--price",
    type=WORD,
    default="rented",
    show_default=True,
    help="Basis of all dollars: rented, owned or list; a chip without it gets its best estimate, labelled.",
)


def model_option(required: bool = False) -> Callable[[_F], _F]:
    """--model, with completion."""
    return click.option(
        "--model",
        required=required,
        shell_complete=complete_models,
        help="A known name, or the path of a config.json or model directory.",
    )


def chip_option(required: bool = False) -> Callable[[_F], _F]:
    """--chip, with completion."""
    return click.option(
        "--chip", required=required, shell_complete=complete_chips, help="A chip of `flashstill chips`."
    )
