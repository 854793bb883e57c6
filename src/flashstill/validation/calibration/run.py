"""Runs the whole calibration: all rows fitted to the anchors and written as facts, and leave-one-out engine rows."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from flashstill.errors import BadInput, unknown
from flashstill.facts import Fact, Facts, load
from flashstill.facts.csv_files import read_rows, to_csv
from flashstill.files import write_text
from flashstill.hardware import Chip, chip_from_facts
from flashstill.hardware.calibration import COLLECTIVES, KINDS, MODULES
from flashstill.validation.anchors.energy import LEFT_OUT_FILE as ENERGY_LEFT_OUT
from flashstill.validation.anchors.energy import token_served
from flashstill.validation.anchors.kernels import kernel_sets
from flashstill.validation.anchors.packed import unpacked
from flashstill.validation.anchors.serving import served
from flashstill.validation.anchors.trained import LEFT_OUT_FILE as TRAINING_LEFT_OUT
from flashstill.validation.calibration.bands import joules_rows
from flashstill.validation.calibration.energy import (
    ENERGY_START,
    energy_rows,
    fit_energy,
    left_out_energy,
    measured_chips,
)
from flashstill.validation.calibration.engines import engine_rows
from flashstill.validation.calibration.fit import Fit
from flashstill.validation.calibration.kernels import (
    collective_start,
    fit_collective,
    fit_kernel,
)
from flashstill.validation.calibration.modules import fit_modules
from flashstill.validation.calibration.rows import FittedKind, apart, kind_rows, typical
from flashstill.validation.calibration.selection import Timed, by_kind, by_maker, chosen, for_the_class
from flashstill.validation.calibration.training import FRAMEWORKS, training_rows

MIXERS, ENGINES, ENERGY, TRAINING = "mixers", "engines", "energy", "training"
ALONE = tuple(kind for kind in KINDS if kind not in MODULES)
"""kinds of kernels that are timed alone; the others are fitted together, to whole mixers"""
STAGES = (*ALONE, *COLLECTIVES, MIXERS, ENGINES, ENERGY, TRAINING)
"""what can be fitted alone, in the order of a whole calibration: each stage builds on the rows of those before it"""
JOULES = ("joules_low", "joules_high")
"""the band of energy"""
_TRAINED = {f"engine-{framework}" for together in FRAMEWORKS for framework in together}


TYPICAL = ("matmul", *COLLECTIVES)
"""kinds whose coefficients of a class are the mean of its chips', as their floors differ by more than one fit of all
chips can follow; a chip left out is predicted as well by either"""


def calibrate(anchors: Path, out: Path, left_out: Path, only: Collection[str] = STAGES) -> None:
    """Fit all coefficients: rows to `out`, leave-one-out engine rows to `left_out`; progress on standard error.

    only: stages to fit anew; the rows of the others are those that `out` holds.  Raises BadInput for an unknown stage.
    """
    if not anchors.is_dir():
        raise BadInput(f"there is no anchors directory at {anchors}")
    for stage in only:
        if stage not in STAGES:
            raise BadInput(unknown("stage", stage, STAGES))
    with unpacked(anchors) as directory:
        _calibrate(directory, out, left_out, only)


def _calibrate(anchors: Path, out: Path, left_out: Path, only: Collection[str]) -> None:
    """`calibrate` with valid stages and a directory of plain tables."""
    facts = load()
    rows = [row for row in read_rows(out) if _stage(row) not in only] if out.exists() else []
    rows += kernel_rows(facts, anchors, [stage for stage in STAGES if stage in only])
    if MIXERS in only:
        rows += mixer_rows(facts.with_rows(rows), anchors)
    if ENGINES in only:
        measured = [*served(anchors), *token_served(anchors)]
        found, without_groups = engine_rows(facts.with_rows(rows), measured)
        rows += found
        write_text(left_out, to_csv(without_groups))
    if ENERGY in only:
        energy = fit_energy(facts.with_rows(rows), anchors)
        print(f"energy: {energy.n} rows, median error {energy.median_absolute_error:.1%}", file=sys.stderr)
        rows += energy_rows(energy, measured_chips(facts, anchors))
        without_models, ratios = left_out_energy(facts.with_rows(rows), anchors)
        write_text(left_out.with_name(ENERGY_LEFT_OUT.name), to_csv(without_models))
        rows += [row for chip in measured_chips(facts, anchors) for row in joules_rows(chip, ratios)]
    if TRAINING in only:
        fitted, without_a_model = training_rows(facts.with_rows(rows), anchors)
        rows += fitted
        write_text(left_out.with_name(TRAINING_LEFT_OUT.name), to_csv(without_a_model))
    rows.sort(key=lambda row: STAGES.index(_stage(row)))
    write_text(out, to_csv(rows))


def _stage(row: Fact) -> str:
    """The stage of `STAGES` that fits a row."""
    kind = row.quantity.partition(".")[0]
    if row.name in _TRAINED:
        return TRAINING
    if kind in MODULES:
        return MIXERS
    energy = row.quantity in (*ENERGY_START, *JOULES)
    return kind if kind in STAGES else ENERGY if energy else ENGINES


def kernel_rows(facts: Facts, anchors: Path, kinds: Sequence[str] = (*ALONE, *COLLECTIVES)) -> list[Fact]:
    """Fact rows of single kernels and collectives, for every timed chip, and for its class from those of one maker."""
    if not any(kind in (*KINDS, *COLLECTIVES) for kind in kinds):
        return []
    chips: dict[str, Chip] = {}
    timed = [
        (chips.setdefault(item.chip, chip_from_facts(facts, item.chip)), item) for item in kernel_sets(facts, anchors)
    ]
    fitted: list[FittedKind] = []
    classes: set[str] = set()
    for of_maker in by_maker(timed):
        chip_class = facts.machine(of_maker[0][0].name).chip_class
        sets = {named: chosen(named[0], items) for named, items in by_kind(of_maker).items()}
        fitted += [
            _fitted("" if chip_class in classes else chip_class, kind, condition, *sets[kind, condition])
            for kind in kinds
            for known, condition in sorted(sets)
            if known == kind and sets[kind, condition][0]
        ]
        classes.add(chip_class)
    between = apart(fitted)
    print(f"coefficients of chips of a class lie a factor of {2.718281828**between:.2f} apart", file=sys.stderr)
    return [row for each in fitted for row in kind_rows(each, between)]


def mixer_rows(facts: Facts, anchors: Path) -> list[Fact]:
    """Fact rows of the kernels that are timed within whole mixers; `facts` hold those of all other kernels."""
    timed = [(chip_from_facts(facts, item.chip), item) for item in kernel_sets(facts, anchors)]
    fitted = fit_modules(timed)
    between = apart(fitted)
    for each in fitted:
        for name, fit in each.alone.items():
            text = f"{each.kind} {each.condition} {name}: {fit.n} rows, {fit.median_absolute_error:.1%}"
            print(text, file=sys.stderr, flush=True)
    return [row for each in fitted for row in kind_rows(each, between)]


def _fitted(chip_class: str, kind: str, condition: str, items: Timed, hosts: Sequence[str]) -> FittedKind:
    names = sorted({chip.name for chip, _ in items})
    alone = {name: _fit(kind, condition, [pair for pair in items if pair[0].name == name]) for name in names}
    if len(names) == 1:
        together = alone[names[0]]
    elif kind in TYPICAL:
        together = typical(list(alone.values()))
    else:
        together = _fit(kind, condition, for_the_class(kind, items))
    for name, fit in (*alone.items(), ("together", together)):
        print(f"{kind} {condition} {name}: {fit.n} rows, {fit.median_absolute_error:.1%}", file=sys.stderr, flush=True)
    return FittedKind(
        kind=kind,
        condition=condition,
        chip_class=chip_class,
        together=together,
        alone=alone,
        note=f"left out, as they time the host: {', '.join(hosts)}" if hosts else "",
    )


def _fit(kind: str, condition: str, items: Timed) -> Fit:
    if kind in COLLECTIVES:
        return fit_collective(items, collective_start(kind, condition))
    return fit_kernel(kind, items)
