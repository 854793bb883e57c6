"""What a what-if looks at: a chip with its price, its numbers, and the deployments that are tried on it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flashstill.arch import Architecture
from flashstill.codesign.parameters import Parameter, parameters_of
from flashstill.cost import Conditions
from flashstill.cost.stacks import CACHE, MAIN, WEIGHTS, essential, formats_of_use
from flashstill.economics import HourlyPrice, hourly_price
from flashstill.economics.tco import OwnedChip, Terms, owned_chip, owned_hour, terms_of
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.chip import VECTOR_FORMAT
from flashstill.plan.deployment import Deployment
from flashstill.plan.setup import conditions_of
from flashstill.plan.space import NO_PRECISION, NO_TIER, SearchSpace
from flashstill.workload import Quantity


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A chip whose numbers are varied. ratios: numbers that differ from its rows, by place of the conditions.

    owned: how its owner pays, None for a chip whose hours are rented or without a price.
    """

    chip: Chip
    parameters: tuple[Parameter, ...]
    price: HourlyPrice
    owned: OwnedChip | None
    terms: Terms | None
    ratios: Mapping[str, float] = field(default_factory=dict)


def subject_of(facts: Facts, name: str, basis: str, tiers: Sequence[str]) -> Subject:
    """The chip `name` of the fact rows."""
    chip, price = chip_from_facts(facts, name), hourly_price(facts, name, basis)
    owned = owned_chip(facts, name) if price.usd_per_watt_hour else None
    return Subject(
        chip=chip,
        parameters=parameters_of(facts, chip, tiers),
        price=price,
        owned=owned,
        terms=terms_of(facts) if owned else None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One way to deploy a model on a subject, before its layout: formats and memory tiers, as conditions.

    subject: its place in the list of subjects.
    conditions: essential ones (cost/stacks.py).  tiers: names of the chip's tiers that have the roles of MAIN, WEIGHTS
    and CACHE in them.
    formats: those that are asked for, with the one that the chip multiplies in.
    key: of equal conditions; None for those that nothing else has.
    """

    subject: int
    conditions: Conditions
    tiers: tuple[str, str, str]
    precision: str
    engine: str
    overlap: str
    formats: tuple[tuple[str, str], ...]
    key: Hashable = None

    def local(self, ratios: Mapping[str, Any]) -> dict[str, Any]:
        """Ratios by place, with those of peaks at the formats that this deployment asks for, and of tiers by role."""
        return {place: ratio for name, ratio in ratios.items() for place in self._acting(name)}

    def places(self, parameter: Parameter) -> tuple[str, ...]:
        """Places of the conditions that the parameter scales here; none if this deployment does not use it."""
        return tuple(place for name in parameter.acts_on for place in self._acting(name))

    def _acting(self, place: str) -> list[str]:
        """The places of essential conditions that stand for one of a chip's."""
        of, _, name = place.partition(".")
        if not name:
            return [place]
        if of == "flops":
            on_vectors = name == VECTOR_FORMAT and np.any(self.conditions.chip.vector_flops_per_s)
            return [f"flops.{asked}" for asked, used in self.formats if used == name] + ["vectors"] * bool(on_vectors)
        return [f"{role}.{name}" for role, tier in zip((MAIN, WEIGHTS, CACHE), self.tiers, strict=True) if tier == of]

    @property
    def label(self) -> dict[str, Any]:
        """What a configuration says of these."""
        return {
            "precision": self.precision,
            "kv_precision": self.conditions.precisions.kv,
            "weights_in": self.tiers[1],
            "kv_in": self.tiers[2],
            "engine": self.engine,
            "overlap": self.overlap,
        }


def entries_of(
    facts: Facts,
    model: Architecture,
    subjects: Sequence[Subject],
    space: SearchSpace,
    placements: Sequence[Sequence[tuple[str, str]]],
    reasons: Sequence[Counter[str]],
    configurations: int,
    known: dict[Hashable, Any],
) -> list[Entry]:
    """Every combination of formats, tiers and overlap on every subject; those that a chip cannot do are counted.

    placements: pairs of tiers for weights and cache, by subject.  reasons: counters of the subjects.  known: conditions
    made before.
    """
    found: list[Entry] = []
    for place, subject in enumerate(subjects):
        if not placements[place]:
            reasons[place][NO_TIER] += configurations
        choices = itertools.product(space.precisions, space.kv_precisions, placements[place], space.overlaps)
        for precision, kv, (weights, cache), overlap in choices:
            deployment = Deployment(
                chip=subject.chip.name, precision=precision, kv_precision=kv, weights_in=weights, kv_in=cache,
                engine=space.engine, overlap=overlap,
            )  # fmt: skip
            conditions = conditions_of(facts, model, subject.chip, deployment)
            try:
                subject.chip.precision(conditions.precisions.linear)
            except MissingFact:
                reasons[place][NO_PRECISION] += configurations
                continue
            key = (subject.chip.name, conditions.precisions, weights, cache, conditions.software, overlap)
            if key not in known:
                known[key] = essential(conditions), formats_of_use(conditions)
            kept, formats = known[key]
            tiers = (subject.chip.memory.name, conditions.weights.name, conditions.cache.name)
            found.append(
                Entry(
                    subject=place, conditions=kept, tiers=tiers, precision=precision,
                    engine=conditions.software.asked_as, overlap=overlap, formats=formats, key=key,
                )
            )  # fmt: skip
    return found


def hours_of(
    subjects: Sequence[Subject], places: np.typing.NDArray[np.intp], ratios: Mapping[str, Quantity]
) -> HourlyPrice:
    """Prices of the subjects at `places`, as one price of arrays; NaN dollars without a price.

    ratios: what rent, purchase price, power limit and idle power are multiplied by, arrays like `places`.
    """
    dollars = np.array([np.nan if one.price.usd_per_hour is None else one.price.usd_per_hour for one in subjects])
    limits = np.array([one.price.limit_w for one in subjects])
    per_watt = np.array([one.price.usd_per_watt_hour for one in subjects])
    hour = dollars[places] * ratios.get("rent", 1.0)
    limit = limits[places] * ratios.get("limit", 1.0)
    for holds in (False, True):
        mine = np.array([one.owned is not None and one.owned.price_holds_server == holds for one in subjects])[places]
        if mine.any():
            hour[mine] = _owned_hours(subjects, places[mine], ratios, mine)
    numbers: dict[str, Any] = {"usd_per_hour": hour, "limit_w": limit, "usd_per_watt_hour": per_watt[places]}
    return HourlyPrice(basis="", **numbers)


def _owned_hours(
    subjects: Sequence[Subject],
    places: np.typing.NDArray[np.intp],
    ratios: Mapping[str, Quantity],
    mine: np.typing.NDArray[np.bool_],
) -> Quantity:
    def of(name: str, place: str = "") -> Quantity:
        values = np.array([getattr(one.owned, name) if one.owned else 0.0 for one in subjects])
        ratio = ratios.get(place, 1.0)
        return values[places] * (ratio[mine] if isinstance(ratio, np.ndarray) else ratio)

    owner = next(one for one in subjects if one.owned is not None)
    assert owner.terms is not None
    limit = of("limit_w", "limit")
    holds = subjects[int(places[0])].owned
    assert holds is not None
    chips = OwnedChip(
        purchase_usd=of("purchase_usd", "purchase"),
        limit_w=limit,
        idle_w=of("idle_w", "idle"),
        server_power_ratio=of("server_power_ratio"),
        price_holds_server=holds.price_holds_server,
    )
    return owned_hour(owner.terms, chips, limit).usd
