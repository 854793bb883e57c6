"""What the controls of the page offer: models, chips, formats, tiers, engines, price bases; and the defaults.

Only what is listed here can be asked for: a query never names a path.  A model of the user's is listed where the
command that starts the page names it (`--model PATH`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flashstill.arch import Architecture, load_architecture
from flashstill.arch.catalogue import catalogue as known_entries
from flashstill.economics.prices import BASES
from flashstill.errors import MissingFact, unknown
from flashstill.explore.controls import BY_KEY, Choice
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE, known_chips
from flashstill.hardware.software import ENGINES
from flashstill.plan.deployment import AS_PUBLISHED
from flashstill.plan.space import TIERS

MODEL, CHIP = "qwen3-8b", "h100-sxm"
"""what the page shows where the command that starts it says nothing"""
SIZES = (1 / 16, 1 / 4, 4.0, 16.0)
"""of the models that are compared with one, as multiples of its parameters"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Everything that a state may name.  views: their names; model, chip: the defaults; own_model: where `model` is a
    path, its architecture."""

    facts: Facts
    views: tuple[str, ...]
    model: str = MODEL
    chip: str = CHIP
    own_model: Architecture | None = None
    _choices: dict[str, tuple[Choice, ...]] = field(init=False, repr=False, compare=False)
    _built: dict[str, Architecture] = field(init=False, default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = (Choice(value=self.model, label=self.own_model.name),) if self.own_model else ()
        models = (*own, *(Choice(value=name, label=row["title"]) for name, row in sorted(known_entries().items())))
        machines = self.facts.machines
        chips = tuple(Choice(value=name, label=machines[name].title) for name in known_chips(self.facts))
        formats = _named(BYTES_PER_VALUE)
        choices = {
            "model": models,
            "models": models,
            "chip": chips,
            "chips_from": chips,
            "precision": (Choice(value=AS_PUBLISHED, label="as published"), *formats),
            "kv_precision": formats,
            "memory": _named(TIERS),
            "engine": _named(ENGINES),
            "price": _named(BASES),
        }
        object.__setattr__(self, "_choices", choices)

    def choices(self, key: str) -> tuple[Choice, ...]:
        """The values of a control of choices; none for another."""
        return self._choices.get(key, ())

    def spelled(self, key: str) -> Callable[[str], str]:
        """How a name of a control is looked up: chips as the fact rows spell them, others in lower case."""
        if key in ("chip", "chips_from"):
            return lambda word: self.facts.chip_name(word) or word
        return str.lower

    def architecture(self, name: str) -> Architecture:
        """The architecture of a model that the catalogue lists."""
        if self.own_model is not None and name == self.model:
            return self.own_model
        if name not in known_entries():
            raise MissingFact(unknown("model", name, [choice.value for choice in self.choices("model")]))
        if name not in self._built:
            self._built[name] = load_architecture(name)
        return self._built[name]

    def defaults(self, model: str | None, chip: str | None) -> dict[str, Any]:
        """The parts of a state that a query leaves out, given its model and chip."""
        model, chip = model or self.model, chip or self.chip
        length = self.architecture(model).context
        optional = {key: None for key, control in BY_KEY.items() if control.optional}
        return optional | {
            "model": model, "models": self._of_other_sizes(model), "chip": chip, "chips_from": self._beside(chip),
            "max_chips": 8, "batch": 16, "context": min(1024, length), "isl": min(1024, max(length // 2, 1)),
            "osl": min(1024, max(length // 2, 1)), "precision": AS_PUBLISHED, "price": BASES[0],
        }  # fmt: skip

    def _of_other_sizes(self, model: str) -> tuple[str, ...]:
        """The model, and the catalogue's nearest to some multiples of its size, from small to large."""
        sizes = {name: float(row["published_parameters"]) for name, row in known_entries().items()}
        own = float(self.architecture(model).parameters)
        others = {name: size for name, size in sizes.items() if name != model}
        nearest = (min(others, key=lambda name: abs(math.log(others[name] / (own * times)))) for times in SIZES)
        sizes[model] = own
        return tuple(sorted({model, *nearest}, key=lambda name: (sizes[name], name)))

    def _beside(self, chip: str) -> tuple[str, ...]:
        """The chip, and of each other class the chip that is nearest in year, the newer of two."""
        machines = {choice.value: self.facts.machines[choice.value] for choice in self.choices("chip")}
        own = machines[chip]
        nearest: dict[str, str] = {}
        for name, machine in sorted(machines.items(), key=lambda item: (abs(item[1].year - own.year), -item[1].year)):
            if machine.chip_class not in (own.chip_class, "cpu"):
                nearest.setdefault(machine.chip_class, name)
        return (chip, *nearest.values())[:4]


def _named(names: Any) -> tuple[Choice, ...]:
    return tuple(Choice(value=name, label=name) for name in names)
