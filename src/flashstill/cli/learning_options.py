"""Options of commands that run models: their arithmetic, and the loggers of training."""

from __future__ import annotations

import click

ARITHMETIC = ("auto", "bf16", "fp32")  # recipes/arithmetic.py
LOGGERS = ("tensorboard", "trackio", "wandb")  # recipes/logs.py
ARITHMETIC_HELP = "In which arithmetic models run; auto measures which is faster here."

arithmetic_option = click.option(
    "--arithmetic", type=click.Choice(ARITHMETIC), default=None, help=f"{ARITHMETIC_HELP} [default: the recipe's]"
)
log_option = click.option(
    "--log", type=click.Choice(LOGGERS), multiple=True,
    help="Also give the metrics of training to this logger; may be repeated. [default: the recipe's]",
)  # fmt: skip
