"""What all loads and layouts of a deployment share: the model, the chip, its formats and memory tiers, the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions, Precisions, Speculation, in_gguf, make_conditions, precisions_of
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.hardware.software import LOCAL, Software
from flashstill.plan.deployment import (
    AS_PUBLISHED,
    GREEDY,
    TWO_BATCH,
    Deployment,
    asked_precision,
    check_deployment,
    default_engine,
    known_engine,
    known_precision,
)
from flashstill.plan.drafts import NEW_HEADS, drafter, drafting_of
from flashstill.plan.hardwired import check_draft, wired_formats
from flashstill.plan.layouts import torus_shape
from flashstill.plan.notes import unmeasured_notes
from flashstill.plan.scenario import Scenario
from flashstill.plan.served import with_served_ratios


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """The part shared by all loads and layouts: model, conditions, speculation. precision: of the weights."""

    model: Architecture
    conditions: Conditions
    speculation: Speculation | None
    chunk: int | None
    precision: str
    notes: tuple[str, ...]


def make_setup(facts: Facts, scenario: Scenario, deployment: Deployment) -> Setup:
    """The part independent of load and layout. A model file is read on every call, as it may have changed."""
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    check_deployment(deployment)
    chip = chip_from_facts(facts, deployment.chip)
    check_draft(chip, scenario.draft)
    conditions = conditions_of(facts, model, chip, deployment)
    drafting, notes = None, unmeasured_notes(facts, conditions)
    if scenario.draft is not None:
        accepted = scenario.acceptance, scenario.acceptance_decay, scenario.measured_acceptance
        drafting, told = drafting_of(model, scenario.draft, scenario.draft_tokens, *accepted)
        notes += [told] if told else []
        if drafter(scenario.draft) == NEW_HEADS:
            notes.append(f"the heads that draft would still have to be trained for {model.name}")
    return Setup(
        model=model,
        conditions=conditions,
        speculation=drafting,
        chunk=scenario.chunk,
        precision=chip.wired.precision if chip.wired else asked_precision(deployment.precision) or AS_PUBLISHED,
        notes=tuple(notes),
    )


def conditions_of(facts: Facts, model: Architecture, chip: Chip, deployment: Deployment) -> Conditions:
    """The conditions of a deployment: chip, formats, memory tiers and engine."""
    shape = torus_shape(chip, deployment.topology)
    conditions = make_conditions(
        replace(chip, topology=replace(chip.topology, shape=shape)) if shape else chip,
        wired_formats(chip, model, deployment) or _formats(model, deployment),
        deployment.weights_in,
        deployment.kv_in,
        software=replace(engine_of(facts, chip, deployment.engine), routed_blocks=float(model.routed_blocks)),
        skew=facts.value("routing", "skew_exponent"),
        sampled=deployment.sampling != GREEDY,
        overlap_units_ratio=facts.value("overlap", "units_ratio") if deployment.overlap == TWO_BATCH else None,
    )
    return with_served_ratios(facts, model, conditions)


def formats_of(model: Architecture, precision: str | None, kv: str | None) -> Precisions:
    """Storage formats of a model's values; precision None or "published": as in the checkpoint."""
    return precisions_of(model, asked_precision(precision), None if kv is None else known_precision(kv))


def _formats(model: Architecture, deployment: Deployment) -> Precisions:
    formats = formats_of(model, deployment.precision, deployment.kv_precision)
    return in_gguf(formats) if (deployment.engine or "").lower() == LOCAL else formats


def engine_of(facts: Facts, chip: Chip, name: str | None) -> Software:
    """The engine's overheads on a chip; None for the chip's default engine, BadInput for an unknown one."""
    return software_of_chip(facts, default_engine(chip) if name is None else known_engine(name), chip)
