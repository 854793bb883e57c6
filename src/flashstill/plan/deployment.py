"""A model on chips: which, how many, in which memory, precision and layout, with ONE set of defaults for every command.

    format    as the checkpoint stores it, the cache in what goes with it
    engine    vllm, or none on chips that no general engine serves
    layout    tensor parallelism as far as the heads divide, a pipeline over the rest
    chips     the fewest that hold what is asked for: powers of two, or the next number that can be split
    memory    the chip's main one, of which a share stays free (cost/footprint.py)

`explain`, `predict`, a point of `plan` and a family's report all price what is made here, by the same functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from flashstill.arch import Architecture, Attention
from flashstill.cost import Conditions, Precisions, make_conditions, precisions_of
from flashstill.cost.footprint import holds, most_sequences, room_bytes, total_bytes
from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.facts import Facts
from flashstill.hardware import Chip, Memory, chip_from_facts
from flashstill.hardware.software import Software, software_on
from flashstill.parallel import Layout
from flashstill.plan.case import AS_PUBLISHED, GREEDY, NOT_FITTING, SAMPLINGS, Choices, known_engine, known_precision
from flashstill.plan.layouts import Degrees, Held, degrees_of, fewest, torus_shape
from flashstill.units import show

OWN_SOFTWARE = ("sram", "cpu")
"""classes of chips that no general serving engine runs on"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What a step's cost needs beside a phase. precision: as asked for; the conditions hold what it means.

    notes: what was assumed or done otherwise than asked, in words.
    """

    model: Architecture
    degrees: Degrees
    conditions: Conditions
    precision: str
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> Layout:
        """The degrees for the cost model."""
        return self.degrees.layout

    @property
    def chip(self) -> Chip:
        """The accelerator."""
        return self.conditions.chip

    @property
    def chips(self) -> int:
        """How many of them."""
        return self.degrees.chips

    @property
    def tier(self) -> Memory:
        """Where weights live."""
        return self.conditions.weights

    @property
    def runs_in(self) -> str:
        """The precision in which the multipliers run."""
        return self.chip.precision(self.conditions.precisions.linear)


def deploy(
    facts: Facts, model: Architecture, chip_name: str, batch: int, context: int, choices: Choices | None = None
) -> Deployment:
    """A deployment that holds the model and `batch` sequences of `context` tokens at a time.

    Raises BadInput for nonsense, MissingFact for unknown names, InfeasiblePlan where it does not fit.
    """
    choices = choices or Choices()
    check_choices(choices)
    if batch < 1 or context < 0:
        raise BadInput(f"batch must be at least 1 and context at least 0, not {batch} and {context}")
    if context > model.context:
        raise BadInput(f"a context of {context} is beyond the {model.context} tokens that {model.name} was made for")
    conditions = conditions_of(facts, model, chip_from_facts(facts, chip_name), choices)
    held = Held(float(batch), float(context), float(context))
    degrees = degrees_of(model, conditions, choices, held)
    enough, _ = holds(model, conditions, degrees.layout, *held[:3])
    if not enough:
        raise InfeasiblePlan(_too_small(model, conditions, choices, degrees, held), {NOT_FITTING: 1})
    notes = [*notes_on(model, conditions, degrees), *empty_notes(model, degrees, batch)]
    return Deployment(
        model=model,
        degrees=degrees,
        conditions=conditions,
        precision=choices.precision or AS_PUBLISHED,
        notes=tuple(notes),
    )


def settled(conditions: Conditions, degrees: Degrees) -> dict[str, Any]:
    """The fields of `Choices` with what was decided where nothing was said; the precision apart."""
    return {
        "chips": degrees.chips,
        **degrees._asdict(),
        "kv_precision": conditions.precisions.kv,
        "weights_in": conditions.weights.name,
        "kv_in": conditions.cache.name,
        "engine": conditions.software.name,
    }


def check_choices(choices: Choices) -> None:
    """Raise BadInput for a number below 1 or a word that is not known."""
    for name in ("chips", "tp", "pp", "ep", "dp"):
        value = getattr(choices, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")
    if choices.sampling not in SAMPLINGS:
        raise BadInput(unknown("sampling", choices.sampling, SAMPLINGS))


def conditions_of(facts: Facts, model: Architecture, chip: Chip, choices: Choices) -> Conditions:
    """The conditions under which a deployment runs: its chip, formats, memories and engine."""
    shape = torus_shape(chip, choices.topology)
    return make_conditions(
        replace(chip, topology=replace(chip.topology, shape=shape)) if shape else chip,
        formats_of(model, choices.precision, choices.kv_precision),
        choices.weights_in,
        choices.kv_in,
        software=engine_of(facts, chip, choices.engine),
        skew=facts.value("routing", "skew_exponent"),
        sampled=choices.sampling != GREEDY,
    )


def formats_of(model: Architecture, precision: str | None, kv: str | None) -> Precisions:
    """In which formats a model's values are stored; None or "published": as the checkpoint has them."""
    wanted = None if precision in (None, AS_PUBLISHED) else known_precision(str(precision))
    return precisions_of(model, wanted, None if kv is None else known_precision(kv))


def engine_of(facts: Facts, chip: Chip, name: str | None) -> Software:
    """What an engine adds on a chip; None for the chip's default, BadInput for an unknown one."""
    return software_on(facts, default_engine(chip) if name is None else known_engine(name), chip.chip_class)


def default_engine(chip: Chip) -> str:
    """The engine that is assumed where none is named."""
    return "none" if chip.chip_class in OWN_SOFTWARE else "vllm"


def notes_on(model: Architecture, conditions: Conditions, degrees: Degrees) -> list[str]:
    """What a reader should know about how a deployment was understood."""
    chip, formats = conditions.chip, conditions.precisions
    notes = [model.note] if model.note else []
    for stored in dict.fromkeys((formats.linear, formats.attention, formats.experts)):
        runs_in = chip.precision(stored)
        if runs_in != stored and runs_in not in stored:
            notes.append(f"{stored} weights are multiplied in {runs_in}, as {chip.name} has no {stored}")
    grouped = [layer.attention.kv_heads for layer in model.layers if isinstance(layer.attention, Attention)]
    few = min(grouped, default=degrees.tp)
    if few < degrees.tp:
        notes.append(f"each of {few} key/value heads is held by {degrees.tp // few} chips")
    if degrees.chips > chip.system.domain_chips > 1:
        notes.append(
            f"beyond {chip.system.domain_chips} chips the data-centre network takes the place of the fast links"
        )
    if chip.chip_class in OWN_SOFTWARE and conditions.software.name != "none":
        notes.append(f"{conditions.software.name} is not known to run on {chip.name}; its overheads are added anyway")
    return notes


def empty_notes(model: Architecture, degrees: Degrees, batch: float) -> list[str]:
    """What so small a batch leaves without work, and what that costs."""
    notes = []
    if batch < degrees.dp:
        idle = "compute dummy tokens, and cost their joules" if model.routed else "wait, and cost their idle joules"
        empty = math.ceil(degrees.dp - batch)
        notes.append(f"{empty:,} of {degrees.dp:,} data-parallel groups have no sequence: they {idle} and their price")
    stages = max(batch / degrees.dp, 1.0)
    if stages < degrees.pp:
        notes.append(
            f"{stages:.3g} of {degrees.pp} pipeline stages {'works' if stages == 1 else 'work'} at a time: the others"
            " wait, and cost their idle joules and their price"
        )
    return notes


def _too_small(model: Architecture, conditions: Conditions, choices: Choices, degrees: Degrees, held: Held) -> str:
    """Why a layout does not hold what it should, and how many chips would."""
    weights, cache, chips = conditions.weights, conditions.cache, degrees.chips
    batch, context = int(held.sequences), int(held.tokens)
    needed = show(float(total_bytes(model, batch, context, conditions.precisions.widths)), "B")
    fitting = float(most_sequences(model, conditions, degrees.layout, max(held.tokens, 1.0)))
    fitting *= float(room_bytes(model, conditions, degrees.layout)) > 0
    left = Choices(pp=choices.pp, ep=choices.ep, dp=choices.dp)
    enough = fewest(model, conditions, left, held)
    advice = "no number of these chips does"
    if enough is not None and holds(model, conditions, enough.layout, *held[:3])[0]:
        advice = f"take {enough.chips} chips"
    holding = f"{chips} x {conditions.chip.name} of {show(weights.bytes, 'B')} in {weights.name}"
    if cache is not weights:
        holding += f" and {show(cache.bytes, 'B')} in {cache.name}"
    return (
        f"{model.name} at batch {batch} and context {context} needs {needed}, for which {holding} have room for"
        f" {int(fitting)} of {batch} sequences; {advice}"
    )
