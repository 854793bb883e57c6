"""Resolves a scenario on a deployment: names looked up, defaults filled in, invalid input rejected."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from flashstill.arch import Architecture, load_architecture
from flashstill.cost import Conditions, Precisions, Speculation, make_conditions, precisions_of
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory, chip_from_facts
from flashstill.hardware.launches import software_of_chip
from flashstill.hardware.software import Software
from flashstill.parallel import Layout
from flashstill.plan.deployment import (
    AS_PUBLISHED,
    GREEDY,
    LAID,
    PREFILL,
    PREFILL_FIELDS,
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
from flashstill.plan.layouts import Degrees, degrees_of, torus_shape
from flashstill.plan.notes import notes_on, unmeasured_notes
from flashstill.plan.pools import prefill_degrees
from flashstill.plan.scenario import Scenario, check_scenario
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A valid scenario on a deployment, defaults filled in. notes: assumptions and deviations from the request.

    degrees: of all chips, or of the decode pool if prefill has a pool of its own.  prefill: of one prefill instance.
    """

    scenario: Scenario
    asked: Deployment
    setup: Setup
    degrees: Degrees
    notes: tuple[str, ...]
    prefill: Degrees | None = None

    @property
    def model(self) -> Architecture:
        """The model served."""
        return self.setup.model

    @property
    def conditions(self) -> Conditions:
        """Chip, formats, memory tiers, calibration and software for pricing."""
        return self.setup.conditions

    @property
    def precision(self) -> str:
        """The weight precision as requested; `conditions` has the resulting formats."""
        return self.setup.precision

    @property
    def layout(self) -> Layout:
        """The degrees as a `Layout` for the cost model."""
        return self.degrees.layout

    @property
    def chip(self) -> Chip:
        """The accelerator."""
        return self.conditions.chip

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.degrees.chips

    @property
    def prefill_instances(self) -> int:
        """Number of prefill instances; 0 if prefill has no pool of its own."""
        return (self.asked.prefill_instances or 1) if self.prefill else 0

    @property
    def all_chips(self) -> int:
        """Chips of all pools."""
        return self.degrees.chips + (self.prefill_instances * self.prefill.chips if self.prefill else 0)

    @property
    def spans_nodes(self) -> bool:
        """Whether chips that exchange data in every step are not all connected by fast links."""
        pools = (self.degrees, self.prefill) if self.prefill else (self.degrees,)
        return any(max(pool.tp * pool.pp, pool.ep) > self.chip.system.domain_chips for pool in pools)

    @property
    def tier(self) -> Memory:
        """The memory tier that holds the weights."""
        return self.conditions.weights

    @property
    def runs_in(self) -> str:
        """The precision in which the chip multiplies linear layers."""
        return self.conditions.runs_in(self.conditions.precisions.linear)

    @property
    def deployment(self) -> Deployment:
        """The deployment with every default filled in."""
        conditions = self.conditions
        prefill = {"chips": self.prefill.chips, **self.prefill._asdict()} if self.prefill else {}
        return replace(
            self.asked,
            **{f"{PREFILL}{name}": value for name, value in prefill.items()},
            prefill_instances=self.prefill_instances or None,
            chip=conditions.chip.name,
            chips=self.degrees.chips,
            **self.degrees._asdict(),
            precision=self.precision,
            kv_precision=conditions.precisions.kv,
            weights_in=conditions.weights.name,
            kv_in=conditions.cache.name,
            engine=conditions.software.name,
        )


def resolve(facts: Facts, scenario: Scenario, deployment: Deployment) -> Resolved:
    """Validate a scenario on a deployment and fill in what was left open.

    Raises BadInput for invalid input, MissingFact for unknown names, InfeasiblePlan if the layout needs links that the
    chips do not have.  Does not check memory: see `check_room`.
    """
    return Resolver(facts).resolve(scenario, deployment)


class Resolver:
    """Resolves many scenarios and deployments; shared parts are looked up and validated once."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._setups: dict[Hashable, Setup] = {}
        self._layouts: dict[Hashable, _Laid] = {}

    def resolve(self, scenario: Scenario, deployment: Deployment) -> Resolved:
        """As the function `resolve`, with cached setups and layouts."""
        key = (*_of_scenario(scenario), *_of_deployment(deployment))
        setup = self._setups.get(key)
        if setup is None:
            setup = self._setups[key] = make_setup(self._facts, scenario, deployment)
        check_scenario(scenario, setup.model)
        occupancy = scenario.occupancy(setup.speculation)
        degrees = _of_degrees(deployment)
        apart = deployment.has_prefill_pool
        place = (id(setup), degrees, occupancy[:3] if deployment.follows_the_load or apart else None)
        laid = self._layouts.get(place)
        if laid is None:
            check_deployment(deployment)
            decided = degrees_of(setup.model, setup.conditions, deployment, occupancy)
            notes = (*notes_on(setup.model, setup.conditions, decided), *setup.notes)
            prefill = prefill_degrees(setup.model, setup.conditions, scenario, deployment, decided) if apart else None
            laid = self._layouts[place] = _Laid(decided, notes, prefill)
        return Resolved(
            scenario=scenario,
            asked=deployment,
            setup=setup,
            degrees=laid.degrees,
            notes=laid.notes,
            prefill=laid.prefill,
        )


class _Laid(NamedTuple):
    """A layout and its notes. prefill: that of a prefill instance with chips of its own."""

    degrees: Degrees
    notes: tuple[str, ...]
    prefill: Degrees | None


_of_scenario = attrgetter(
    "model", "chunk", "draft", "draft_tokens", "acceptance", "acceptance_decay", "measured_acceptance"
)
_of_deployment = attrgetter(
    "chip", "topology", "precision", "kv_precision", "weights_in", "kv_in", "engine", "sampling", "overlap"
)
_of_degrees = attrgetter(*LAID, *PREFILL_FIELDS)


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
        wired_formats(chip, model, deployment) or formats_of(model, deployment.precision, deployment.kv_precision),
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


def engine_of(facts: Facts, chip: Chip, name: str | None) -> Software:
    """The engine's overheads on a chip; None for the chip's default engine, BadInput for an unknown one."""
    return software_of_chip(facts, default_engine(chip) if name is None else known_engine(name), chip)
