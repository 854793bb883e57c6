"""Commands that list chips and models, and `explain`: time and energy of one decode step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flashstill.cli.completion import complete_chips
from flashstill.cli.documents import asked_facts, json_option, print_json, understood
from flashstill.cli.options import (
    COUNT,
    WORD,
    chip_option,
    deployment_options,
    facts_options,
    model_option,
    price_option,
)
from flashstill.errors import BadInput, printable
from flashstill.units import short_count

if TYPE_CHECKING:
    from flashstill.facts import Facts
    from flashstill.hardware import Chip


@click.command()
@model_option(required=True)
@chip_option(required=True)
@click.option("--batch", type=COUNT, required=True, help="Sequences decoded together.")
@click.option("--context", type=COUNT, default=1024, show_default=True, help="Tokens cached for each sequence.")
@deployment_options
@click.option("--memory", type=WORD, default=None, help="Where weights and cache live, both: memory, sram or host.")
@price_option
@facts_options
@json_option
def explain(
    model: str,
    chip: str,
    batch: int,
    context: int,
    memory: str | None,
    price: str,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
    **choices: Any,
) -> None:
    """Where one decode step's time and energy go."""
    from dataclasses import asdict

    from flashstill import api
    from flashstill.printing import print_explanation

    for part in ("weights_in", "kv_in"):
        if memory is not None and choices[part] not in (None, memory):
            raise BadInput(f"--memory {memory} places weights and cache, but --{part.replace('_', '-')} says otherwise")
        choices[part] = choices[part] or memory
    facts = asked_facts(facts_directories, edits, as_json, chips=[chip])
    scenario = api.Scenario(model=model, batch=batch, context=context)
    explanation = api.explain(scenario, api.Deployment(chip=chip, **choices), price=price, facts=facts)
    understood(asdict(explanation.resolved.deployment))
    if as_json:
        print_json(explanation.as_dict())
    else:
        print_explanation(explanation)


@click.command()
@click.argument("name", required=False, shell_complete=complete_chips)
@click.option("--class", "chip_class", default=None, help="Only chips of this class: gpu, tpu, npu, sram or cpu.")
@click.option("--maker", default=None, help="Only chips of this maker.")
@facts_options
@json_option
def chips(
    name: str | None,
    chip_class: str | None,
    maker: str | None,
    facts_directories: tuple[Path, ...],
    edits: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the chips, or every number of one chip with its source.

    NAME is a chip, or a part of the names, makers or classes to list.
    """
    import dataclasses

    from flashstill.cli.chip_tables import chip_summary, incomplete_summary, print_chip, print_chips
    from flashstill.hardware import chip_from_facts

    facts = asked_facts(facts_directories, edits, as_json)
    if name is not None and facts.chip_name(name) is not None and not (chip_class or maker):
        machine = facts.machine(name)
        if as_json:
            rows = [dataclasses.asdict(row) for row in facts.of(machine.name)]
            print_json({**dataclasses.asdict(machine), "facts": rows, "pj_per_byte": _energies(facts, machine.name)})
        else:
            print_chip(facts, machine)
        return
    complete: list[Chip] = []
    lacking: dict[str, str] = {}
    for chosen in chosen_chips(facts, name, chip_class, maker):
        try:
            complete.append(chip_from_facts(facts, chosen))
        except BadInput as error:  # a chip with missing facts (a user's, say) does not stop the listing of the others
            lacking[chosen] = ", ".join(getattr(error, "missing", ())) or str(error)
    if as_json:
        incomplete = [incomplete_summary(facts.machines[chosen], lacks) for chosen, lacks in lacking.items()]
        print_json([*(chip_summary(chip) for chip in complete), *incomplete])
    else:
        print_chips(complete)
        for chosen, lacks in lacking.items():
            click.echo(f"{printable(chosen)} cannot be priced, as it lacks {printable(lacks)}")


def _energies(facts: Facts, name: str) -> dict[str, dict[str, float]] | None:
    """Picojoules per byte from each place of the chip; None where rows are lacking."""
    from flashstill.hardware import chip_from_facts
    from flashstill.hardware.byte_energies import energies_document

    try:
        return energies_document(chip_from_facts(facts, name))
    except BadInput:
        return None


def chosen_chips(facts: Facts, text: str | None, chip_class: str | None, maker: str | None) -> list[str]:
    """Chips with fact rows that match all given filters: text in the name, maker or class; a class; a maker.

    MissingFact lists the nearest names if none matches.
    """
    from flashstill.errors import BadInput, MissingFact, unknown
    from flashstill.hardware import known_chips

    listed = [facts.machines[name] for name in known_chips(facts)]
    for kind, value, known in (
        ("class", chip_class, {machine.chip_class for machine in listed}),
        ("maker", maker, {machine.maker for machine in listed if machine.maker}),
    ):
        if value is not None and value.lower() not in {choice.lower() for choice in known}:
            raise BadInput(unknown(kind, value, known))
    chosen = [
        machine
        for machine in listed
        if (chip_class is None or machine.chip_class.lower() == chip_class.lower())
        and (maker is None or machine.maker.lower() == maker.lower())
    ]
    if text is not None:
        part = text.strip().lower()
        chosen = [
            machine
            for machine in chosen
            if any(part in word.lower() for word in (machine.name, machine.title, machine.maker, machine.chip_class))
        ]
    if not chosen and text is not None:
        named = facts.chip_name(text)
        if named is not None:
            machine = facts.machines[named]
            raise MissingFact(
                f"{named} is of the class {machine.chip_class}, made by {machine.maker or 'nobody named'}; leave"
                " --class and --maker out"
            )
        raise MissingFact(unknown("chip", text, facts.machines))
    if not chosen:
        raise MissingFact(f"no chip of the class {chip_class} is made by {maker}; leave one of the two out")
    return [machine.name for machine in chosen]


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models that are known by name."""
    from flashstill.arch import known_models, load_architecture
    from flashstill.printing import print_table

    shapes = [load_architecture(name) for name in known_models()]
    if as_json:
        print_json(
            [
                {
                    "name": shape.name,
                    "parameters": shape.parameters,
                    "active_parameters": shape.active_parameters,
                    "layers": shape.depth,
                    "kv_values_per_token": shape.kv_values_per_token,
                    "context": shape.context,
                }
                for shape in shapes
            ]
        )
        return
    rows = [("name", "parameters", "active", "layers", "context")]
    for shape in shapes:
        rows.append(
            (
                shape.name,
                short_count(shape.parameters),
                short_count(shape.active_parameters),
                str(shape.depth),
                f"{shape.context:,}",
            )
        )
    print_table(rows)
