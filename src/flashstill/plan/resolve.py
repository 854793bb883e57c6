"""Resolves a scenario on a deployment: names looked up, defaults filled in, invalid input rejected."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory
from flashstill.parallel import Layout
from flashstill.plan.deployment import (
    LAID,
    PREFILL,
    PREFILL_FIELDS,
    Deployment,
    check_deployment,
)
from flashstill.plan.layouts import Degrees, degrees_of
from flashstill.plan.notes import notes_on
from flashstill.plan.pools import prefill_degrees
from flashstill.plan.scenario import Scenario, check_scenario
from flashstill.plan.setup import Setup, make_setup


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
            engine=conditions.software.asked_as,
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
        occupancy = scenario.occupancy(setup.model, setup.speculation)
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
