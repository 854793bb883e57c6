"""Joint fit of operand energy, memory-path energy and static power to measured board energy, per chip class."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.predict import predict
from flashstill.validation.anchors.energy import of_model, product_joules, products, token_cases, token_models
from flashstill.validation.anchors.serving import without
from flashstill.validation.calibration.fit import Fit, Measured, least
from flashstill.validation.calibration.rows import DIGITS, SCRIPT, fact, left_out_row, rounded
from flashstill.validation.comparison import Values

ENERGY_START: Mapping[str, float] = {
    "operand_energy_ratio": 1.0,
    "memory_path_pj_per_bit": 9.0,
    "active_power_ratio": 0.3,
    "waiting_power_ratio": 0.1,
}
CLASS = "gpu"
"""the class whose unmeasured chips inherit the fit"""
ENERGY_PRIOR = {"operand_energy_ratio": 0.3, "memory_path_pj_per_bit": 0.25, "waiting_power_ratio": 1.0}
"""Prior standard deviations in logs. Board power alone cannot separate energy per byte from static power x time.  So
published system figures of 12 to 15 pJ a bit, minus device and wires, constrain the path; the finding that two thirds
of a MAC's energy are operands and clocking constrains the operands; the rest is static.  A chip that waits draws little
more than an idle one: regressions put its share of the active power between 0 and 0.1."""


def fit_energy(facts: Facts, directory: Path, left_out: str | None = None) -> Fit:
    """Coefficients of the class, fitted to both energy files; every model and every precision has equal weight.

    left_out: name of a model whose tokens are not fitted.
    """
    measured = products(facts, directory)
    cases, joules, _ = token_cases(directory)
    kinds = sorted({(item.chip, item.precision) for item in measured})
    owners = measured_chips(facts, directory)
    names = [name for name in token_models(cases) if name != left_out]

    def predicted(values: Mapping[str, float]) -> list[Values]:
        table = with_energy(facts, owners, values)
        chips = {item.chip: chip_from_facts(table, item.chip) for item in measured}
        boards = [
            np.array(
                [product_joules(chips[item.chip], item) for item in measured if (item.chip, item.precision) == kind]
            )
            for kind in kinds
        ]
        answers = np.array([answer.joules_per_output_token or np.nan for answer in predict(table, cases)])
        return [*boards, *(answers[of_model(cases, name)] for name in names)]

    targets = [
        (
            " ".join(kind),
            np.array(
                [
                    item.watts * 2 * item.rows * item.columns * item.depth / item.flops_per_s
                    for item in measured
                    if (item.chip, item.precision) == kind
                ]
            ),
        )
        for kind in kinds
    ] + [(name, joules[of_model(cases, name)]) for name in names]
    measured_sets = [
        Measured(group=name, values=values, clusters=np.zeros(len(values), dtype=np.int64)) for name, values in targets
    ]
    return least(ENERGY_START, predicted, measured_sets, ENERGY_PRIOR)


def left_out_energy(facts: Facts, directory: Path) -> tuple[list[Fact], Values]:
    """Rows fitted without each model in turn, with a condition that names it, and measured over predicted joules.

    Errors are printed on standard error.
    """
    cases, joules, _ = token_cases(directory)
    owners = measured_chips(facts, directory)
    rows: list[Fact] = []
    known = np.full(len(cases), np.nan)
    for name in token_models(cases):
        fit = fit_energy(facts, directory, name)
        mine = of_model(cases, name)
        table = with_energy(facts, owners, fit.values)
        answers = predict(table, [case for case, own in zip(cases, mine, strict=True) if own])
        ratios = np.array([answer.joules_per_output_token or np.nan for answer in answers]) / joules[mine]
        known[mine] = 1.0 / ratios
        error, bias = float(np.nanmean(np.abs(ratios - 1.0))), float(np.nanmedian(ratios) - 1.0)
        print(f"energy without {name}: {len(ratios)} rows, mean error {error:.1%}, bias {bias:+.1%}", file=sys.stderr)
        rows += [
            left_out_row(
                owner,
                quantity,
                value,
                without(("model", name)),
                "chip",
                f"fit of {fit.n} powers and energies, without those of {name}",
                _unit(quantity),
            )
            for owner in owners
            for quantity, value in fit.values.items()
        ]
    return rows, known


def measured_chips(facts: Facts, directory: Path) -> list[str]:
    """Names of the chips with measured boards."""
    served_on = {facts.machine(case.deployment.chip).name for case in token_cases(directory)[0]}
    return sorted(served_on | {item.chip for item in products(facts, directory)})


def with_energy(facts: Facts, chips: Sequence[str], values: Mapping[str, float]) -> Facts:
    """Facts with the energy rows of `chips` and of their class replaced by `values`."""
    return facts.with_rows(
        fact(
            owner=owner,
            quantity=name,
            value=value,
            low=value,
            high=value,
            per="chip",
            kind="what-if",
            source="fit",
            unit=_unit(name),
        )
        for owner in (*chips, CLASS)
        for name, value in values.items()
    )


def energy_rows(fit: Fit, chips: Sequence[str]) -> list[Fact]:
    """Fact rows of the measured chips, and estimates for their class with twice the width in logs."""
    what = f"fit of {fit.n} published board powers and energies per token on {', '.join(chips)} {SCRIPT}"
    rows = []
    for name, value in fit.values.items():
        prior = "held by a prior from published system figures" if name in ENERGY_PRIOR else ""
        for owner in (*chips, CLASS):
            own = owner != CLASS
            width = fit.spread[name] * (1.0 if own else 2.0)
            rows.append(
                fact(
                    owner=owner,
                    quantity=name,
                    value=rounded(value, DIGITS),
                    low=value * float(np.exp(-width)),
                    high=value * float(np.exp(width)),
                    per="chip" if own else "class",
                    kind="measured" if own and fit.identified(name) else "estimate",
                    source=what if own else f"estimate for other chips of the class: {what}",
                    unit=_unit(name),
                    note=prior,
                )
            )
    return rows


def _unit(name: str) -> str:
    return "pJ" if "pj" in name else "1"
