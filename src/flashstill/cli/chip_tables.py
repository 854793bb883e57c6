"""Chips on standard output: the list of all, and the rows of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flashstill.units import show

if TYPE_CHECKING:
    from flashstill.facts import Facts, Machine
    from flashstill.hardware import Chip
from flashstill.printing import print_table


def print_chip(facts: Facts, machine: Machine) -> None:
    """Print every number of one chip with its source."""
    rows = facts.of(machine.name)
    click.echo(f"{machine.name}: {machine.title}{', ' + machine.maker if machine.maker else ''}, {machine.year}")
    if not rows:
        click.echo("no rows yet: run `flashstill measure` to fill them")
    for row in rows:
        span = "" if row.low == row.high else f" [{show(row.low, row.unit)} to {show(row.high, row.unit)}]"
        condition = f", {row.condition}" if row.condition else ""
        click.echo(f"\n{row.quantity} per {row.per}{condition}: {show(row.value, row.unit)}{span}")
        source = row.source.removeprefix(f"{row.kind}: ")
        click.echo(f"    {row.kind}: {source} ({row.as_of}){'; ' + row.note if row.note else ''}")


def chip_summary(chip: Chip) -> dict[str, Any]:
    """One entry of `chips --json`; rates in FLOP/s and bytes/s."""
    return {
        "name": chip.name,
        "title": chip.title,
        "class": chip.chip_class,
        "flops_per_s": chip.flops_per_s,
        "memories": {tier.name: {"bytes": tier.bytes, "bytes_per_s": tier.finite_bytes_per_s} for tier in chip.tiers},
        "link_bytes_per_s": chip.topology.link_bytes_per_s,
        "power_limit_w": chip.power_limit_w,
    }


def incomplete_summary(machine: Machine, lacks: str) -> dict[str, Any]:
    """The `chips --json` entry of a chip that cannot be priced: its missing facts instead of its rates."""
    return {"name": machine.name, "title": machine.title, "class": machine.chip_class, "lacks": lacks}


def print_chips(chips: Sequence[Chip]) -> None:
    """A table of chips."""
    if not chips:
        return
    rows = [("name", "what", "fastest dense", "memory", "bandwidth", "power limit")]
    for chip in chips:
        fastest = max(chip.flops_per_s, key=lambda precision: chip.flops_per_s[precision])
        rate = f"{show(chip.flops_per_s[fastest], 'FLOP/s')} {fastest}"
        memory = chip.memory
        rows.append(
            (
                chip.name,
                chip.title,
                rate,
                show(memory.bytes, "B"),
                show(memory.bytes_per_s, "B/s"),
                show(chip.power_limit_w, "W"),
            )
        )
    print_table(rows, spare=("what", "power limit"))
