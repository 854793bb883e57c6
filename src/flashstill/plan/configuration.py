"""A model on chips: which, how many, in which memory, precision and layout; checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flashstill.arch import Architecture
from flashstill.cost import USABLE_SHARE, Precisions, Setting, precisions_of, setting, smallest_count, uniform
from flashstill.cost.fits import LARGEST_COUNT, most_sequences, total_bytes
from flashstill.errors import BadInput, InfeasiblePlan, unknown
from flashstill.facts import Facts
from flashstill.hardware import BYTES_PER_VALUE, Chip, Memory, chip_from_facts, software_of
from flashstill.hardware.calibration import ENGINES
from flashstill.parallel import Layout, layout_reason
from flashstill.units import show

AS_PUBLISHED = "published"
MOST_HEADS = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What a step's cost needs beside a phase. precision: as asked for; the setting holds what it means."""

    model: Architecture
    layout: Layout
    setting: Setting
    precision: str

    @property
    def chip(self) -> Chip:
        """The accelerator."""
        return self.setting.chip

    @property
    def chips(self) -> int:
        """How many of them."""
        return int(self.layout.chips)

    @property
    def tier(self) -> Memory:
        """Where weights live."""
        return self.setting.weights

    @property
    def runs_in(self) -> str:
        """The precision in which the multipliers run."""
        return self.chip.precision(self.setting.precisions.linear)


def configure(
    facts: Facts,
    model: Architecture,
    chip_name: str,
    batch: int,
    context: int,
    chips: int | None = None,
    precision: str = "bf16",
    memory: str | None = None,
    engine: str = "none",
) -> Configuration:
    """A configuration that holds the model and `batch` sequences of `context` tokens.

    chips: None for the smallest power of two that holds them.  memory: a tier's name, None for the main one.
    precision: "published" for that of the checkpoint.
    Raises BadInput for nonsense, MissingFact for unknown names, InfeasiblePlan where it does not fit.
    """
    _check(model, batch, context, chips, precision, engine)
    chip = chip_from_facts(facts, chip_name)
    precisions = _precisions(model, precision)
    chip.precision(precisions.linear)
    skew = facts.value("routing", "skew_exponent")
    conditions = setting(chip, precisions, memory, memory, software_of(facts, engine), skew)
    tier = conditions.weights
    needed = float(total_bytes(model, batch, context, precisions.widths))
    count = smallest_count(chip, needed, tier) if chips is None else chips
    layout = spread(model, count, more=chips is None)
    # Heads held more than once can take more than the bytes alone; then the cache is split by sequences instead.
    while not fits(model, conditions, layout, batch, context):
        by_sequences = replace(layout, shard_batch=True)
        if fits(model, conditions, by_sequences, batch, context):
            layout = by_sequences
            break
        if chips is not None or count >= LARGEST_COUNT:
            held = count * tier.bytes * USABLE_SHARE
            enough = smallest_count(chip, needed, tier)
            raise InfeasiblePlan(
                f"{model.name} at batch {batch} and context {context} needs {show(needed, 'B')}, but"
                f" {count} x {chip.name} hold {show(held, 'B')} in {tier.name}; take {max(enough, 2 * count)} chips",
                {"does not fit in memory": 1},
            )
        count *= 2
        layout = spread(model, count, more=True)
    count = int(layout.chips)
    if count > 1 and not chip.link_bytes_per_s:
        raise InfeasiblePlan(
            f"{model.name} needs {count} x {chip.name}, which have no links between them", {"no links": 1}
        )
    return Configuration(model=model, layout=layout, setting=conditions, precision=precision)


def fits(model: Architecture, conditions: Setting, layout: Layout, batch: int, context: int) -> bool:
    """Whether the layout holds the weights and `batch` sequences of `context` tokens."""
    return bool(most_sequences(model, conditions, layout, max(context, 1)) >= batch)


def _precisions(model: Architecture, precision: str) -> Precisions:
    return precisions_of(model, None) if precision == AS_PUBLISHED else uniform(precision)


def _check(model: Architecture, batch: int, context: int, chips: int | None, precision: str, engine: str) -> None:
    if batch < 1 or context < 0:
        raise BadInput(f"batch must be at least 1 and context at least 0, not {batch} and {context}")
    if context > model.context:
        raise BadInput(f"a context of {context} is beyond the {model.context} tokens that {model.name} was made for")
    if chips is not None and chips < 1:
        raise BadInput(f"chips must be at least 1, not {chips}")
    if precision not in BYTES_PER_VALUE and precision != AS_PUBLISHED:
        raise BadInput(unknown("precision", precision, [*BYTES_PER_VALUE, AS_PUBLISHED]))
    if engine not in ENGINES:
        raise BadInput(unknown("engine", engine, ENGINES))


def spread(model: Architecture, chips: int, more: bool = False) -> Layout:
    """Tensor parallelism as far as the heads divide, a pipeline over the rest; `more`: of the fewest chips that do.

    Raises BadInput where no split of exactly `chips` exists, InfeasiblePlan where none of more does.
    """
    for pp in range(1, model.depth + 1):
        if chips % pp == 0 and layout_reason(model, chips // pp, pp, 1, 1) is None:
            return Layout(tp=float(chips // pp), pp=float(pp))
    if more:
        degrees = [tp for tp in range(1, MOST_HEADS + 1) if layout_reason(model, tp, 1, 1, 1) is None]
        splits = [(tp * pp, pp) for tp in degrees for pp in range(1, model.depth + 1) if tp * pp > chips]
        if splits:
            count, pp = min(splits)
            return Layout(tp=float(count // pp), pp=float(pp))
        raise InfeasiblePlan(
            f"{model.name} would need {chips} chips, more than its heads and {model.depth} layers can be split over",
            {"too many chips for its heads and layers": 1},
        )
    raise BadInput(f"{chips} chips cannot share {model.name}: its heads and {model.depth} layers allow no such split")
