"""The stage `engines` of a calibration: all rows of the engines, and those fitted without each group."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flashstill.facts import Fact, Facts
from flashstill.hardware.software import ALONE, engine_name
from flashstill.plan.bands import NEW_ENGINE, basis_of
from flashstill.plan.predict import predict
from flashstill.validation.anchors.left_out import forgetting
from flashstill.validation.anchors.serving import LEAVE_OUT, Group, Served, groups, measured_rows, without
from flashstill.validation.calibration.bands import BAND_OF, band_rows, engine_bands, kernels_ends
from flashstill.validation.calibration.doubtful import credible
from flashstill.validation.calibration.leave_out import KINDS, PAIR, LeftOut, errors_text, leave_out
from flashstill.validation.calibration.pooled import priced
from flashstill.validation.calibration.software import (
    SOFTWARE_START,
    ServedRows,
    engine_fit,
    fit_engines,
    fitted_names,
    left_out_rows,
    software_rows,
    with_software,
)
from flashstill.validation.calibration.trials import QUANTITIES


def engine_rows(facts: Facts, rows: Sequence[Served]) -> tuple[list[Fact], list[Fact]]:
    """Fact rows of all engines with their bands, and the rows without each group, from the rows in no doubt."""
    facts = with_versions(facts, rows)
    served = ServedRows.of(facts, credible(facts, rows))
    print(f"engines: {len(rows) - len(served.rows)} rows are listed apart", file=sys.stderr, flush=True)
    whole = fit_engines(served, np.ones(len(served.rows), dtype=bool))
    figures = priced(served.blocks, whole, QUANTITIES, len(served.rows))
    print(f"engines, all rows: {errors_text(served, figures)}", file=sys.stderr, flush=True)
    left_out = leave_out(facts, served, whole, KINDS)
    found = []
    for engine in whole.engines:
        fit = engine_fit(served, whole, engine)
        found += software_rows(engine, fit)
        bands = engine_bands(served, left_out, engine)
        new = {NEW_ENGINE: bands.pop(NEW_ENGINE)}
        found += band_rows(f"engine-{engine}", bands, f"{fit.n} served rows of {engine}, others at a lower weight")
    found += band_rows("engine", new, f"{len(served.rows)} served rows, each engine left out")
    scored = [row for row in served.rows if not row.group]
    found += bare_rows(facts.with_rows(found), scored)
    return [*found, *measured_rows(facts, scored)], group_rows(facts, served, left_out)


def with_versions(facts: Facts, rows: Sequence[Served]) -> Facts:
    """The facts with every version that the rows name; one without rows of its own yet has those of its engine."""
    named = {str(row.case.deployment.engine) for row in rows}
    new = sorted(name for name in named if name != engine_name(name) and not facts.find(f"engine-{name}", "step_s"))
    return with_software(facts, new, {"step_s": SOFTWARE_START["step_s"]}) if new else facts


TOGETHER = {"model": ("model",), "chip": ("chip", PAIR), "engine": ("engine",), "stack": ("stack", "model")}
"""kinds that are left out to predict the groups of one kind, with bands: a new chip may bring a new model with it"""


def refitted(facts: Facts, served: ServedRows, kind: str) -> dict[Group, list[Fact]]:
    """Rows fitted anew without each group of a kind."""
    whole = fit_engines(served, np.ones(len(served.rows), dtype=bool))
    left_out = leave_out(facts, served, whole, TOGETHER[kind])
    return {
        group: [replace(row, condition=row.condition.partition(": ")[2]) for row in without_group]
        for group in left_out.fits
        if group[0] == kind
        for without_group in [rows_without(facts, served, left_out, group)]
    }


def group_rows(facts: Facts, served: ServedRows, left_out: LeftOut) -> list[Fact]:
    """The rows of the engines that predict each group, fitted without it; bands from the errors of the other groups."""
    chosen = [group for group in left_out.fits if group[0] in LEAVE_OUT]
    return [row for group in chosen for row in rows_without(facts, served, left_out, group)]


def rows_without(facts: Facts, served: ServedRows, left_out: LeftOut, group: Group) -> list[Fact]:
    """Rows of coefficients and bands without one group, under conditions that name it."""
    scored = np.array([not row.group for row in served.rows])
    mine = np.array([group in groups(facts, row) for row in served.rows])
    others = [row for row, own, counts in zip(served.rows, mine, scored, strict=True) if counts and not own]
    blind = forgetting(facts, others)
    setups = [block.setup for block in served.blocks if (mine & scored)[block.rows].any()]
    found: list[Fact] = []
    for engine in sorted({setup.conditions.software.asked_as for setup in setups}):
        values = left_out.fits[group].values(engine)
        found += left_out_rows(engine, {name: values[name] for name in fitted_names(served, engine)}, without(group))
        own = [setup for setup in setups if setup.conditions.software.asked_as == engine]
        bases = sorted({basis_of(blind, setup.model, setup.conditions) for setup in own})
        bands = engine_bands(served, left_out, engine, mine)
        chosen = {basis: bands[basis] for basis in bases if basis in bands}
        found += band_rows(f"engine-{engine}", chosen, "without the group", f"{without(group)}: ")
    return found


def bare_rows(facts: Facts, rows: Sequence[Served]) -> list[Fact]:
    """Bands of engine "none": quantiles of measured / predicted from kernels alone, all engines together.

    facts: including the engines' rows, as "none" uses their fastest kernels.
    """
    answers = predict(facts, [row.case.but(engine=ALONE) for row in rows])
    ends = {}
    for name, quantity in BAND_OF.items():
        measured = np.array([getattr(row, quantity) or np.nan for row in rows])
        ends[name] = kernels_ends(measured / np.array([getattr(answer, quantity) or np.nan for answer in answers]))
    return band_rows(f"engine-{ALONE}", {"": ends}, f"{len(rows)} served rows against the kernels alone")
