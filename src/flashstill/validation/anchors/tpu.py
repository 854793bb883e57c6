"""Training on TPU tori: published rates against the cost model; settings missing from the rows are in maxtext.csv.

A row has a model, a chip, the number of chips and a metric (MFU, TFLOP/s or tokens/s a chip, step time).  Models named
16B, 32B, ... follow MaxText's rule for scaling its default decoder (width 2048, 16 heads of 128, FFN 7168, 16 layers,
vocabulary 32000) by a power of two: heads and FFN double first, then the width, then the layers.  Length and batch are
the row's "seq" and "pdbs" (sequences a chip), else those of the recipe.  Defaults where neither says them: parameters
split over the slice, full recomputation, and 8192 tokens a chip.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from flashstill.arch import Architecture, Attention, FeedForward, Layer, load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.training import TrainingCost, train_step
from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts, software_of
from flashstill.parallel.training import TrainingPlan
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.anchors.trained import TrainedRun, chip_label

ENGINE = "maxtext"
TOKENS_PER_CHIP = 8192.0
RECIPES = Path(__file__).with_name("maxtext.csv")
Row = Mapping[str, str]


def tpu_runs(facts: Facts, directory: Path) -> list[TrainedRun]:
    """Training runs of every file whose name begins with tpu. Raises BadInput for an unknown metric or chip."""
    return [
        _run(facts, path.stem, row)
        for path in sorted(directory.glob("tpu*.csv"))
        for row in read_rows(path)
        if row["kind"] == "training"
    ]


_FIGURES = {
    "MFU": "mfu",
    "model TFLOP/s per chip": "teraflops",
    "tokens/s per chip": "tokens_per_s",
    "step time": "seconds",
}


def _run(facts: Facts, anchor: str, row: Row) -> TrainedRun:
    metric, model = row["metric"], row["model_or_op"]
    if metric not in _FIGURES:
        raise BadInput(unknown("metric of a training run", metric, _FIGURES))
    return TrainedRun(
        anchor=anchor,
        quantity=f"training, {metric}",
        framework=ENGINE,
        model=model.strip().lower(),
        chip=chip_label(facts, row["chip"]),
        measured=float(row["value"]),
        figure=_FIGURES[metric],
        key=(model, row["chip"], row["chips"], row["precision"], row["config"]),
        cost=lambda changed: row_cost(changed, row)[0],
    )


def row_cost(facts: Facts, row: Row) -> tuple[TrainingCost, str]:
    """The predicted step of a row, and the chip's name; FlashstillError if model or chip is unknown."""
    chip = chip_from_facts(facts, row["chip"])
    chips = int(row["chips"])
    recipe = _recipe(row["model_or_op"].lower(), chip.name, chips)
    model = _model(row["model_or_op"], recipe)
    conditions = make_conditions(chip, uniform(row["precision"] or "bf16"), software=software_of(facts, ENGINE))
    return train_step(model, conditions, _plan(row, recipe, chips, chip.system.domain_chips)), chip.name


def _plan(row: Row, recipe: Row, chips: int, domain: int) -> TrainingPlan:
    length = float(_stated(row, r"seq (\d+)") or recipe.get("length") or 2048.0)
    sequences_per_chip = float(
        _stated(row, r"pdbs(\d+)") or recipe.get("batch_per_chip") or max(TOKENS_PER_CHIP // length, 1.0)
    )
    together = min(float(recipe.get("slice_chips") or domain), float(chips))
    tp = float(recipe.get("tp") or 1.0)
    return TrainingPlan(
        batch=sequences_per_chip * chips,
        microbatch=sequences_per_chip * tp,
        length=length,
        tp=tp,
        fsdp=together / tp,
        dp=chips / together,
        slice_chips=together,
        sequence_parallel=tp > 1,
        recompute=recipe.get("recompute") or "full",
    )


def _stated(row: Row, pattern: str) -> str:
    match = re.search(pattern, row["config"])
    return match[1] if match else ""


@lru_cache(maxsize=1)
def _recipes() -> tuple[Row, ...]:
    return tuple(read_rows(RECIPES))


def _recipe(model: str, chip: str, chips: int) -> Row:
    for recipe in _recipes():
        if recipe["model"] == model and recipe["chip"] == chip and recipe["chips"] in ("", str(chips)):
            return recipe
    return {}


def _model(name: str, recipe: Row) -> Architecture:
    if recipe.get("width"):
        shape = {key: int(recipe[key]) for key in ("width", "heads", "head_width", "ffn_width", "layers", "vocabulary")}
        return decoder(name, gated=recipe["gated"] == "1", **shape)
    size = re.fullmatch(r"(\d+)B", name.strip(), re.IGNORECASE)
    return scaled_decoder(int(size[1])) if size else load_architecture(name)


def scaled_decoder(scale: int) -> Architecture:
    """MaxText's default decoder (about a billion parameters) scaled by `scale`, a power of two."""
    layers, rest = divmod(round(math.log2(scale)), 3)
    hidden, width = layers + (rest > 0), layers + (rest > 1)
    return decoder(
        f"{scale}B",
        width=2048 << width,
        heads=16 << hidden,
        head_width=128,
        ffn_width=7168 << hidden,
        layers=16 << layers,
        vocabulary=32000,
    )


def decoder(
    name: str,
    *,
    width: int,
    heads: int,
    head_width: int,
    ffn_width: int,
    layers: int,
    vocabulary: int,
    gated: bool = True,
) -> Architecture:
    """A decoder of identical blocks with multi-head attention."""
    mixer = Attention(heads=heads, kv_heads=heads, head_width=head_width)
    block = Layer(
        count=layers, attention=mixer, ffn=FeedForward(width=ffn_width, gated=gated), norm_parameters=2 * width
    )
    return Architecture(
        name=name,
        width=width,
        vocabulary=vocabulary,
        layers=(block,),
        tied=False,
        context=2048,
        final_norm_parameters=width,
    )
