"""How much a state may ask for: what would take longer than a page waits is refused before it starts."""

from __future__ import annotations

from flashstill.arch import load_architecture
from flashstill.errors import BadInput
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.scenario import Scenario
from flashstill.plan.serving_layouts import layouts_of
from flashstill.plan.space import SearchSpace

MOST_CONFIGURATIONS = 40_000
"""of one front: some tenths of a second"""

MOST_SETUPS = 48
"""of a model and a memory of a chip, each on all numbers of chips: half a second"""


def check_setups(models: int, places: int) -> None:
    """Raise BadInput for more models and memories than a page compares at once."""
    if models * places > MOST_SETUPS:
        raise BadInput(
            f"{models} models from {places} memories are {models * places} to compare; the page compares up to"
            f" {MOST_SETUPS}: choose fewer models or chips, or name one memory"
        )


def check_work(facts: Facts, scenario: Scenario, space: SearchSpace) -> None:
    """Raise BadInput for a front of more configurations than a page searches at once."""
    model = load_architecture(scenario.model) if isinstance(scenario.model, str) else scenario.model
    layouts, _ = layouts_of(model, space.max_chips)
    tiers = [sum(tier.name in space.tiers for tier in chip_from_facts(facts, name).tiers) for name in space.chips]
    configurations = len(layouts) * len(space.batches) * sum(number**2 for number in tiers)
    if configurations > MOST_CONFIGURATIONS:
        raise BadInput(
            f"{len(layouts):,} layouts, {len(space.batches)} batches and {len(space.chips)} chips are"
            f" {configurations:,} configurations; the page searches up to {MOST_CONFIGURATIONS:,}: lower the most"
            " chips, compare fewer, name one memory, or use the command line"
        )
