"""Weights in the wiring of a chip: a memory tier whose bytes cost neither time nor energy, of one model for life.

A chip with a row `wired_parameters` (their number; the condition names format and model, as in "int4 Llama-3.1-8B")
multiplies by constants where they are, so that no weight is moved.  KV cache and activations are in its other memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.hardware.memories import Memory

WIRING = "wiring"
"""name of the memory tier of wired weights"""
WIRED = "wired_parameters"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wired:
    """What is in the wiring: the model's name and number of parameters, and the format of its weights."""

    model: str
    parameters: float
    precision: str


def wired_of(facts: Facts, chip: str) -> Wired | None:
    """What is wired into a chip; None for a chip that runs any model."""
    row = facts.find(chip, WIRED)
    if row is None:
        return None
    precision, _, model = row.condition.partition(" ")
    if not model:
        raise MissingFact(f"the condition of {WIRED} of {chip} must name format and model, as in int4 Llama-3.1-8B")
    return Wired(model=model, parameters=row.value, precision=precision)


def wired_memory(wired: Wired, value_bytes: float) -> Memory:
    """The tier of wired weights; value_bytes: of one weight."""
    size = wired.parameters * value_bytes
    return Memory(name=WIRING, bytes=size, visible_bytes=size, bytes_per_s=inf, joules_per_byte={})
