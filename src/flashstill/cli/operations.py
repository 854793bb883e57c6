"""Options of failures, cold starts and scaling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from flashstill.cli.options import COUNT, SECONDS, WORD

_F = TypeVar("_F", bound=Callable[..., Any])
OPERATIONS = (
    "chip_mtbf_s", "repair_s", "retries", "cold_start_s", "replicas_by_hour", "autoscale", "scale_target",
    "min_replicas", "max_replicas", "scale_interval_s", "scale_down_s",
)  # fmt: skip
_OPTIONS = (
    click.option("--chip-mtbf", "chip_mtbf_s", type=SECONDS, default=None,
                 help="Mean time between failures of a chip, as 50000h; a failed chip stops its replica."),
    click.option("--repair", "repair_s", type=SECONDS, default=None,
                 help="Mean time until a failed replica can start again, as 1h."),
    click.option("--retries", type=click.IntRange(min=0), default=3, show_default=True,
                 help="How often a request that a failure meets is tried elsewhere."),
    click.option("--cold-start", "cold_start_s", type=SECONDS, default=None,
                 help="From a replica's start until it serves, as 90s [default: an estimate from its weights]."),
    click.option("--replicas-by-hour", type=click.Path(path_type=Path, dir_okay=False), default=None,
                 help="CSV of copies of the deployment over time: hour, replicas."),
    click.option("--autoscale", type=WORD, default=None,
                 help="Scale by requests (in flight), busy (share of time) or cache (share of blocks) per replica."),
    click.option("--scale-target", type=float, default=None, help="With --autoscale: the value to keep."),
    click.option("--min-replicas", type=click.IntRange(min=0), default=1, show_default=True,
                 help="With --autoscale: fewest copies."),
    click.option("--max-replicas", type=COUNT, default=None, help="With --autoscale: most copies."),
    click.option("--scale-interval", "scale_interval_s", type=SECONDS, default=None,
                 help="With --autoscale: time between looks [default: as Kubernetes]."),
    click.option("--scale-down", "scale_down_s", type=SECONDS, default=None,
                 help="With --autoscale: for how long fewer copies must do [default: as Kubernetes]."),
)  # fmt: skip


def operations_options(command: _F) -> _F:
    """Add the options of failures, cold starts and scaling."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
