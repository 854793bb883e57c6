"""A model on chips: which, how many, in which memory and precision; checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from flashstill.arch import Architecture
from flashstill.cost import smallest_count
from flashstill.cost.fits import USABLE_SHARE
from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory, chip_from_facts
from flashstill.hardware.chip import BYTES_PER_VALUE
from flashstill.units import show
from flashstill.workload import Widths, memory_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What `step_cost` needs beside a phase."""

    model: Architecture
    chip: Chip
    chips: int
    precision: str
    widths: Widths
    tier: Memory


def configure(
    facts: Facts,
    model: Architecture,
    chip_name: str,
    batch: int,
    context: int,
    chips: int | None = None,
    precision: str = "bf16",
    memory: str | None = None,
) -> Configuration:
    """A configuration that holds the model and `batch` sequences of `context` tokens.

    chips: None for the smallest power of two that holds them.  memory: a tier's name, None for the main one.
    Raises BadInput for nonsense, MissingFact for unknown names, InfeasiblePlan where it does not fit.
    """
    if batch < 1 or context < 0:
        raise BadInput(f"batch must be at least 1 and context at least 0, not {batch} and {context}")
    if context > model.context:
        raise BadInput(f"a context of {context} is beyond the {model.context} tokens that {model.name} was made for")
    if chips is not None and chips < 1:
        raise BadInput(f"chips must be at least 1, not {chips}")
    if precision not in BYTES_PER_VALUE:
        raise BadInput(unknown("precision", precision, BYTES_PER_VALUE))
    chip = chip_from_facts(facts, chip_name)
    chip.precision(precision)
    tier = chip.tier(memory) if memory else chip.memory
    # The cache and the activations stay in 16 bits (32 for fp32 models): quantising weights does not touch them.
    value = 4.0 if precision == "fp32" else 2.0
    widths = Widths(weight=BYTES_PER_VALUE[precision], kv=value, activation=value)
    needed = float(memory_bytes(model, batch, context, widths))
    if chips is None:
        chips = smallest_count(chip, needed, tier)
    held = chips * tier.bytes * USABLE_SHARE
    if needed > held:
        raise InfeasiblePlan(
            f"{model.name} at batch {batch} and context {context} needs {show(needed, 'B')}, but {chips} x {chip.name}"
            f" hold {show(held, 'B')} in {tier.name}; take {smallest_count(chip, needed, tier)} chips",
            {"does not fit in memory": 1},
        )
    return Configuration(model=model, chip=chip, chips=chips, precision=precision, widths=widths, tier=tier)
