"""`predict --phase train`: its options, and printing of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from flashstill.cli.documents import print_json, understood
from flashstill.cli.options import COUNT, WORD, given_options
from flashstill.errors import BadInput, printable
from flashstill.units import figures, short_count, show

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.plan.training_answer import TrainingAnswer

_F = TypeVar("_F", bound=Callable[..., Any])
PHASES = ("serve", "train")
_TRAINING = (
    ("--global-batch", COUNT, "Training: sequences of an optimizer step."),
    ("--length", COUNT, "Training: tokens of a sequence."),
    ("--tokens", COUNT, "Training: tokens of the whole run, for its totals."),
    ("--microbatch", COUNT, "Training: sequences of one pass of one replica [default: 1]."),
    ("--cp", COUNT, "Training: chips that share each sequence [default: 1]."),
    (
        "--fsdp",
        COUNT,
        "Training: replicas that split all state [default: the fastest that fits, as for tp, pp, ep, dp].",
    ),
    ("--interleave", COUNT, "Training: pieces of each pipeline stage [default: 1]."),
    ("--recompute", WORD, "Training: none, selective, projections or full [default: the fastest that fits]."),
    ("--framework", WORD, "Training: nemo, megatron, maxtext, pytorch, none [default: nemo on GPUs, maxtext on TPUs]."),
)
NAMES = tuple(name.removeprefix("--").replace("-", "_") for name, _, _ in _TRAINING)
_OF_SCENARIO = ("length", "microbatch", "tokens")
_SHARED = ("model", "chip", "chips", "tp", "pp", "ep", "dp", "precision")
"""options shared by serving and training"""


def training_options(command: _F) -> _F:
    """Add --phase and the options of training."""
    for name, kind, told in reversed(_TRAINING):
        command = click.option(name, type=kind, default=None, help=told)(command)
    return click.option(
        "--phase", type=WORD, default="serve", show_default=True, help="serve, or train: an optimizer step and a run."
    )(command)


def split_phase(flags: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(serving options, training options or None); BadInput for options of the other phase.

    The `question` of --json contains the options of the chosen phase.
    """
    from flashstill.errors import unknown

    phase = flags.pop("phase")
    if phase not in PHASES:
        raise BadInput(unknown("phase", phase, PHASES))
    training = {name: flags.pop(name) for name in NAMES}
    context, given = click.get_current_context(), given_options()
    foreign = NAMES if phase == "serve" else [name for name in flags if name not in _SHARED]
    for name in foreign:
        if name in given:
            other = "train" if phase == "serve" else "serve"
            raise BadInput(f"{given[name]} is an option of --phase {other}, not of --phase {phase}")
        context.params.pop(name, None)
    if phase == "serve":
        context.params.pop("phase")
        return flags, None
    return flags, {**{name: flags[name] for name in _SHARED}, **training}


def answer_training(facts: Facts, options: dict[str, Any], price: str, as_json: bool) -> None:
    """Price a training step and run, and print the answer."""
    from flashstill.plan.train import predict_training
    from flashstill.plan.train_layouts import TrainingDeployment
    from flashstill.plan.training_answer import TrainingScenario

    options_set = {name: value for name, value in options.items() if value is not None}
    for name in ("model", "chip", "global_batch", "length"):
        if name not in options_set:
            raise BadInput(f"predict --phase train needs --{name.replace('_', '-')}")
    scenario = TrainingScenario(
        model=options_set.pop("model"),
        batch=options_set.pop("global_batch"),
        **{name: options_set.pop(name) for name in _OF_SCENARIO if name in options_set},
    )
    answer = predict_training(facts, scenario, TrainingDeployment(**options_set), price)
    document = answer.as_dict()
    understood({**document["layout"], **{name: document[name] for name in ("chip", "chips", *_DECIDED)}})
    if as_json:
        print_json(document)
    else:
        print_training(answer)


_DECIDED = ("precision", "recompute", "framework", "microbatch")


def print_training(answer: TrainingAnswer) -> None:
    """Print a training step (layout, time, memory per chip, energy, price) and the totals of the run."""
    from flashstill.printing import print_seconds, print_table

    values = answer.as_dict()
    degrees = " ".join(f"{name}{count}" for name, count in values["layout"].items() if count > 1)
    again = "nothing" if values["recompute"] == "none" else values["recompute"]
    click.echo(
        f"training {printable(values['model'])}, {short_count(values['parameters'])} parameters,"
        f" on {values['chips']} x {values['chip']}{f' ({degrees})' if degrees else ''},"
        f" {values['batch']:,} sequences of {values['length']:,} tokens a step, {values['precision']},"
        f" {again} computed again, overheads of {values['framework']}"
    )
    click.echo(
        f"\none step: {show(values['seconds'], 's')}, {values['tokens_per_s']:,.0f} tokens/s,"
        f" MFU {values['mfu']:.1%} ({show(values['model_flops_per_s_per_chip'], 'FLOP/s')} a chip)"
    )
    print_seconds(values)
    held = {"parameters, gradients, optimizer": values["state_bytes"], "activations": values["activation_bytes"]}
    print_table(
        [("what the fullest chip holds", "", "")]
        + [(name, show(size, "B"), f"{size / values['usable_bytes']:6.1%}") for name, size in held.items()]
        + [("usable", show(values["usable_bytes"], "B"), "")]
    )
    levels = values["joules_per_token"]
    print_table(
        [("where a token's joules go", "", "")]
        + [(name, show(joules, "J"), f"{joules / levels['total']:6.1%}") for name, joules in levels.items() if joules]
    )
    click.echo(
        f"\n{show(values['watts_per_chip'], 'W')} a chip; {show(values['wall_joules_per_token'], 'J')} a token at the"
        f" wall (host and building); {_dollars(values['usd_per_million_tokens'])} per million tokens"
    )
    if values["run"] is not None:
        run = values["run"]
        click.echo(
            f"a run of {run['tokens']:,.0f} tokens: {run['steps']:,.0f} steps, {run['days']:,.3g} days,"
            f" {run['chip_hours']:,.0f} chip-hours, {figures(run['mwh'])} MWh, {_dollars(run['usd'])}"
            f" ({values['price_basis']}); failures and restarts come on top"
        )
    if values["reasons"]:
        refused = "; ".join(f"{count} x {reason}" for reason, count in values["reasons"].items())
        click.echo(f"{values['evaluated']} priced; not taken: {refused}")


def _dollars(amount: float | None) -> str:
    return "no price known" if amount is None else show(amount, "USD")
