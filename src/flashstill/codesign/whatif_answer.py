"""The answer of `codesign`: which numbers of a chip bear on the cost of a model's tokens, and what binds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flashstill.codesign.doubling import Binding, Gains, binding_of, improved, mean
from flashstill.codesign.elasticities import STEP, Sensitivity
from flashstill.codesign.parameters import COUNTS, Parameter
from flashstill.codesign.rows import OBJECTIVES
from flashstill.tables import Displayed, Table, cell

MEANING = {
    "usd": "dollars per million output tokens, of the cheapest configuration",
    "joules": "joules per output token, of the configuration with the fewest",
    "seconds": "seconds per output token after the first, of the fastest configuration",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One model on one chip. binding: by objective.  doubling: cost over today's, by parameter and objective."""

    model: str
    chip: str
    parameters: tuple[Parameter, ...]
    sensitivity: Sensitivity
    binding: dict[str, Binding]
    doubling: Gains
    price_basis: str

    @property
    def elasticities(self) -> dict[str, dict[str, float | None]]:
        """By parameter and objective; None where the cost is not known."""
        found = self.sensitivity.elasticities
        return {name: {key: _value(of, key) for key in OBJECTIVES} for name, of in found.items()}

    @property
    def smooth(self) -> dict[str, dict[str, float | None]]:
        """The same, with today's configuration kept where another takes its place: a jump is no slope to average."""
        steady = {
            name: {key: one.fixed for key, one in of.items() if one.jumps}
            for name, of in self.sensitivity.elasticities.items()
            if name not in COUNTS
        }
        return {name: {**of, **steady.get(name, {})} for name, of in self.elasticities.items()}

    def as_dict(self) -> dict[str, Any]:
        """The pair as a JSON document."""
        found = self.sensitivity.elasticities
        return {
            "model": self.model,
            "chip": self.chip,
            "price_basis": self.price_basis,
            "optima": {name: {"cost": one.cost, **one.deployment} for name, one in self.sensitivity.optima.items()},
            "elasticities": self.elasticities,
            "fixed": {name: {key: one.fixed for key, one in of.items()} for name, of in found.items()},
            "jumps": {name: [key for key, one in of.items() if one.jumps] for name, of in found.items()},
            "binding": {name: one.as_dict() for name, one in self.binding.items()},
            "doubling": self.doubling,
            "configurations": self.sensitivity.configurations,
            "infeasible": self.sensitivity.infeasible,
        }


def _value(found: Mapping[str, Any], objective: str) -> float | None:
    return found[objective].value if objective in found else None


@dataclass(frozen=True, kw_only=True, slots=True)
class WhatIfs(Displayed):
    """Elasticities of every pair of a model and a chip, models within chips; means leave out what is not known."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    @property
    def elasticities(self) -> dict[str, dict[str, float | None]]:
        """By parameter and objective: those of the one pair, or the mean over all pairs that have the parameter, each
        with its configuration kept where another takes its place."""
        return _means(self.pairs)

    @property
    def by_chip(self) -> dict[str, dict[str, dict[str, float | None]]]:
        """The mean over models, by chip, parameter and objective."""
        return {chip: _means(self.of_chip(chip)) for chip in dict.fromkeys(pair.chip for pair in self.pairs)}

    def of_chip(self, chip: str) -> tuple[Pair, ...]:
        """The pairs of one chip."""
        return tuple(pair for pair in self.pairs if pair.chip == chip)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters of all chips by name; values are those of the first chip that has one."""
        return {one.name: one for pair in reversed(self.pairs) for one in pair.parameters}

    @property
    def binding(self) -> dict[str, Binding]:
        """What binds, by objective: of the one pair, or by the means."""
        if len(self.pairs) == 1:
            return self.pairs[0].binding
        return bindings_of(tuple(self.parameters.values()), self.elasticities)

    @property
    def doubling(self) -> Gains:
        """Cost over today's, by parameter and objective: of the one pair, or the mean over pairs."""
        names = dict.fromkeys(name for pair in self.pairs for name in pair.doubling)
        return {
            name: {
                key: mean([pair.doubling[name][key] for pair in self.pairs if name in pair.doubling])
                for key in OBJECTIVES
            }
            for name in names
        }

    def as_dict(self) -> dict[str, Any]:
        """The document that `codesign --json` prints."""
        chips = {pair.chip: pair.parameters for pair in self.pairs}
        return {
            "objectives": MEANING,
            "step": STEP,
            "elasticities": self.elasticities,
            "binding": {name: one.as_dict() for name, one in self.binding.items()},
            "doubling": self.doubling,
            "factors": {name: improved(one) for name, one in self.parameters.items()},
            "by_chip": self.by_chip,
            "pairs": [pair.as_dict() for pair in self.pairs],
            "parameters": {chip: {one.name: one.as_dict() for one in ones} for chip, ones in chips.items()},
            "notes": list(self.notes),
        }

    def as_records(self) -> list[dict[str, Any]]:
        """One flat row for each model, chip and parameter."""
        return [
            {"model": pair.model, "chip": pair.chip, "parameter": name, **of}
            for pair in self.pairs
            for name, of in pair.elasticities.items()
        ]

    def _table(self) -> Table:
        found = self.elasticities
        rows = [[cell(name), *(cell(of[key]) for key in OBJECTIVES)] for name, of in found.items()]
        title = f"{len(self.pairs)} pairs of model and chip: d ln(cost) / d ln(number)"
        return Table(("number of the chip", *OBJECTIVES), rows, title)


def _means(pairs: Sequence[Pair]) -> dict[str, dict[str, float | None]]:
    tables = [pair.smooth for pair in pairs] if len(pairs) > 1 else [pair.elasticities for pair in pairs]
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: {key: mean([table[name][key] for table in tables if name in table]) for key in OBJECTIVES}
        for name in names
    }


def bindings_of(parameters: Sequence[Parameter], found: Mapping[str, Any]) -> dict[str, Binding]:
    """What binds, by objective; without those that nothing binds."""
    each = {objective: binding_of(parameters, found, objective) for objective in OBJECTIVES}
    return {objective: one for objective, one in each.items() if one is not None}
