"""The 80 % band of an answer, by what has been measured of its case.

Ends are factors on the prediction: 10 % and 90 % quantiles of measured / predicted, over served rows that the fit had
not seen.  How much of the case it had not seen is the basis:

    stack measured          the same model and format on this chip with this engine (other lengths, batches, layouts)
    combination not measured   model, chip and engine were measured, each with others
    new model, new chip, new model and chip     with an engine and a class of chips that were measured
    new engine              on a class of chips that was measured
    kernels alone           engine "none": all engines, measured against the kernels without them
    class not measured      no chip of the maker's class was: the band of a new model and chip, or of a new engine, is
                            widened in logs; with engine "none" both that of an engine over its kernels and that of
                            a new engine, as the kernels of such a chip are estimates too

Where the chips of one replica span nodes (`across_nodes`), latencies may be several_nodes_ratio times as high: all rows
that were fitted to are of one node.  Mixtures on a stack that was not measured may take routed_joules_ratio times
as many joules.

The rows are facts (quantities such as tpot_low, the basis as condition), written by scripts/calibrate, of the engine
or of the chip or its class, which come first and are not widened, as they were estimated there; those of `engine` are
the defaults.  What a class says of its chips holds for any engine, so that it is no narrower than an engine's own.
Where a chip or class has a band of the time per token only, its output rate has the inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.errors import MissingFact
from flashstill.facts import Facts
from flashstill.hardware import Chip
from flashstill.hardware.software import ALONE, owners_of

STACK = "stack measured"
COMBINATION = "combination not measured"
NEW_MODEL = "new model"
NEW_CHIP = "new chip"
NEW_MODEL_AND_CHIP = "new model and chip"
NEW_ENGINE = "new engine"
NEW_CLASS = "class not measured"
KERNELS = "kernels alone"
BASES = (STACK, COMBINATION, NEW_MODEL, NEW_CHIP, NEW_MODEL_AND_CHIP, NEW_ENGINE)
"""bases that have rows of their own, from little to much that is new"""
WIDENED = (COMBINATION, NEW_MODEL, NEW_CHIP, NEW_MODEL_AND_CHIP)
"""bases where the band of a chip or its class, which holds for any engine, is no narrower than the engine's own"""
BANDED = ("tpot", "ttft", "output_rate", "joules")
"""quantities with a band: the rows are called tpot_low, tpot_high and so on"""
MEASURED = "serving_measurements"
"""rows of a chip: how many served measurements a stack has; its condition is `stack_of`"""

SEVERAL_NODES = "several nodes"
"""what a basis has behind it where a replica spans nodes"""

Ends = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bands:
    """Ends of the bands as factors on the predictions, and the basis on which they stand."""

    basis: str
    tpot: Ends
    ttft: Ends
    output_rate: Ends
    joules: Ends


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What served measurements cover: stacks, and models, chips, engines (an older version counts as another) and
    classes of chips by themselves."""

    stacks: frozenset[tuple[str, str]]
    models: frozenset[str]
    chips: frozenset[str]
    engines: frozenset[str]
    classes: frozenset[str]


def model_key(model: Architecture) -> str:
    """What identifies a model: its parameters, as fine-tuned versions of a model cost the same."""
    return f"{model.parameters:.0f} parameters, {model.active_parameters:.0f} active"


def format_key(model: Architecture, conditions: Conditions) -> str:
    """The weight format that most of a step's bytes have."""
    formats = conditions.precisions
    return formats.experts if model.routed else formats.linear


def stack_of(model: Architecture, conditions: Conditions) -> str:
    """The condition of the rows `MEASURED` of a chip: engine (and version), format and model."""
    return "; ".join((conditions.software.asked_as, format_key(model, conditions), model_key(model)))


def measured_of(facts: Facts) -> Measured:
    """What the rows `MEASURED` cover."""
    return facts.derived("served measurements", lambda: _measured(facts))


def _measured(facts: Facts) -> Measured:
    rows = [row for (_, quantity), found in facts.rows.items() if quantity == MEASURED for row in found]
    stacks = [(row.name, row.condition.split("; ")) for row in rows]
    return Measured(
        stacks=frozenset((row.name, row.condition) for row in rows),
        models=frozenset(parts[2] for _, parts in stacks if len(parts) == 3),
        chips=frozenset(chip for chip, _ in stacks),
        engines=frozenset(parts[0] for _, parts in stacks if len(parts) == 3),
        classes=frozenset(facts.machines[chip].maker_class for chip, _ in stacks),
    )


def basis_of(facts: Facts, model: Architecture, conditions: Conditions) -> str:
    """What is new about a case."""
    known, chip = measured_of(facts), conditions.chip
    if chip.maker_class not in known.classes:
        return NEW_CLASS
    if conditions.software.name == ALONE:
        return KERNELS
    if conditions.software.asked_as not in known.engines:
        return NEW_ENGINE
    if (chip.name, stack_of(model, conditions)) in known.stacks:
        return STACK
    new_model, new_chip = model_key(model) not in known.models, chip.name not in known.chips
    if new_model and new_chip:
        return NEW_MODEL_AND_CHIP
    return NEW_MODEL if new_model else NEW_CHIP if new_chip else COMBINATION


def bands_of(facts: Facts, model: Architecture, conditions: Conditions) -> Bands:
    """The bands of a case; MissingFact if there are no rows."""
    basis, chip, engine = basis_of(facts, model, conditions), conditions.chip, conditions.software.asked_as
    bands = facts.derived(("bands", basis, chip.name, engine), lambda: _bands(facts, basis, chip, engine))
    if basis == STACK or not model.routed:
        return bands
    low, high = bands.joules
    return replace(bands, joules=(low, high * facts.value("band", "routed_joules_ratio")))


def across_nodes(facts: Facts, bands: Bands) -> Bands:
    """The bands of a replica whose chips are on several nodes: slower at the upper end, which is all that is known."""
    ratio = facts.value("band", "several_nodes_ratio")
    return replace(
        bands,
        basis=f"{bands.basis}, {SEVERAL_NODES}",
        tpot=(bands.tpot[0], bands.tpot[1] * ratio),
        ttft=(bands.ttft[0], bands.ttft[1] * ratio),
        output_rate=(bands.output_rate[0] / ratio, bands.output_rate[1]),
    )


def _bands(facts: Facts, basis: str, chip: Chip, engine: str) -> Bands:
    power, condition = 1.0, NEW_ENGINE if basis == KERNELS else basis
    if basis == NEW_CLASS:
        power = facts.value("band", "other_class_ratio")
        condition = NEW_MODEL_AND_CHIP if engine in measured_of(facts).engines else NEW_ENGINE
    here = (chip.name, chip.maker_class, chip.chip_class)
    own = {name: _ends(facts, here, name, condition) for name in BANDED}
    if own["tpot"] and not own["output_rate"]:
        low, high = own["tpot"]
        own["output_rate"] = 1.0 / high, 1.0 / low
    found: dict[str, Ends] = {}
    for name in BANDED:
        general = own[name] or _ends(facts, (*owners_of(engine), "engine"), name, condition)
        if general is None:
            raise MissingFact(f"no fact row gives {name}_low and {name}_high of {chip.name} for {condition!r}")
        if basis == NEW_CLASS and engine == ALONE and (new := _ends(facts, ("engine",), name, NEW_ENGINE)):
            general = _wider(general, new)
        if basis in WIDENED and (of_engine := _ends(facts, owners_of(engine), name, basis)):
            general = _wider(general, of_engine)
        found[name] = general if own[name] else (general[0] ** power, general[1] ** power)
    return Bands(basis=basis, **found)


def _wider(ends: Ends, others: Ends) -> Ends:
    return min(ends[0], others[0]), max(ends[1], others[1])


def _ends(facts: Facts, owners: Sequence[str], name: str, condition: str) -> Ends | None:
    """The ends of one band, from the first owner with rows for the condition, or with rows for any condition."""
    for owner in owners:
        ends = []
        for side in ("low", "high"):
            rows = {row.condition: row.value for row in facts.rows.get((owner, f"{name}_{side}"), ())}
            if (value := rows.get(condition, rows.get(""))) is not None:
                ends.append(value)
        if len(ends) == 2:
            return ends[0], ends[1]
    return None
