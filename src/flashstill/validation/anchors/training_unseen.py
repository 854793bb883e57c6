"""Published training steps on chips and frameworks that the other anchors lack (training_unseen*.csv).

They were written down from their sources before the first of them was predicted, and no coefficient is fitted to one.
Rows give the layout; an empty degree is 1, and replicas fill the chips.  A framework that is not named is the default,
nemo.  Rows with a reason in the column `apart` do not say how they were measured, and are not counted.  `edits` are the
numbers in which a row's chip differs from that of the facts (facts/edits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flashstill.arch import Architecture, Attention, FeedForward, Layer, load_architecture
from flashstill.cost import make_conditions, uniform
from flashstill.cost.training import TrainingCost, train_step
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts, software_of
from flashstill.parallel.training import TrainingPlan
from flashstill.plan.deployment import known_precision
from flashstill.validation.anchors.tables import read_rows
from flashstill.validation.anchors.trained import TrainedRun, chip_label, compared, predicted
from flashstill.validation.comparison import NOT_FITTED, Comparison

UNSEEN = ("training_unseen", "training_unseen_second", "training_unseen_third", "training_unseen_fourth")
"""the tables in the order of their writing"""
RATE = "tokens/s per chip, training"
DEFAULT = "nemo"
Row = Mapping[str, str]


def compare_unseen_training(facts: Facts, directory: Path) -> list[Comparison]:
    """Rates of a chip, by table; empty without a file."""
    comparisons = []
    for name in UNSEEN:
        path = directory / f"{name}.csv"
        runs = [_run(facts, name, row) for row in read_rows(path) if not row["apart"]] if path.exists() else []
        comparisons += compared(runs, predicted(facts, runs), "", NOT_FITTED)
    return comparisons


def _run(facts: Facts, anchor: str, row: Row) -> TrainedRun:
    return TrainedRun(
        anchor=anchor,
        quantity=RATE,
        framework=row["framework"] or DEFAULT,
        model=row["model"],
        chip=chip_label(facts, row["chip"]),
        measured=float(row["measured_tokens_per_s_per_chip"]),
        figure="tokens_per_s",
        key=row["id"],
        cost=lambda changed: unseen_cost(changed, row),
    )


def unseen_cost(facts: Facts, row: Row) -> TrainingCost:
    """The predicted step of a row; FlashstillError if model or chip is unknown."""
    facts = facts.edited(tuple(row.get("edits", "").split()))
    software = software_of(facts, row["framework"] or DEFAULT)
    formats = uniform(known_precision(row["precision"]), "bf16")
    conditions = make_conditions(chip_from_facts(facts, row["chip"]), formats, software=software)
    return train_step(_model(row), conditions, _plan(row))


def _plan(row: Row) -> TrainingPlan:
    tp, pp, cp, ep, fsdp = (float(row[name] or 1.0) for name in ("tp", "pp", "cp", "ep", "fsdp"))
    return TrainingPlan(
        batch=float(row["batch"]),
        microbatch=float(row["microbatch"]),
        length=float(row["length"]),
        tp=tp,
        pp=pp,
        cp=cp,
        ep=ep,
        fsdp=fsdp,
        dp=float(row["chips"]) / (tp * pp * cp * fsdp),
        interleave=float(row["interleave"] or 1.0),
        sequence_parallel=tp > 1,
        zero1=True,
        recompute=row["recompute"] or "none",
    )


def _model(row: Row) -> Architecture:
    """A model of the catalogue, or a plain decoder of GELU blocks with the sizes of the row."""
    if not row["hidden"]:
        return load_architecture(row["model"])
    width, heads = int(row["hidden"]), int(row["heads"])
    block = Layer(
        count=int(row["blocks"]),
        attention=Attention(heads=heads, kv_heads=heads, head_width=width // heads),
        ffn=FeedForward(width=int(row["ff"]), gated=False),
        norm_parameters=2 * width,
    )
    return Architecture(
        name=row["model"],
        width=width,
        vocabulary=int(row["vocabulary"]),
        layers=(block,),
        tied=True,
        context=int(row["length"]),
        final_norm_parameters=width,
    )
