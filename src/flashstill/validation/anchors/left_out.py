"""Served rows predicted with the coefficients of a fit that did not see their model, chip, engine or stack.

The fits are those of the last run of scripts/calibrate, stored beside this file; `flashstill validate --leave-out`
makes them anew (calibration/leave_out.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from flashstill.facts import Fact, Facts
from flashstill.facts.csv_files import read_rows
from flashstill.plan.bands import MEASURED
from flashstill.plan.predict import Prediction, predict
from flashstill.validation.anchors.serving import LEAVE_OUT, Group, Served, compared, groups, measured_rows, without
from flashstill.validation.comparison import LEFT_OUT, Comparison

STORED = Path(__file__).with_name("left_out.csv")
"""rows of engines, fitted without one group: the condition names it (`without`), then comes the row's own"""


def compare_left_out(
    facts: Facts,
    rows: Sequence[Served],
    kinds: Sequence[str] = LEAVE_OUT,
    fitted: Mapping[Group, Sequence[Fact]] | None = None,
) -> list[Comparison]:
    """Errors of rows predicted without their group, one comparison per quantity and kind of group.

    fitted: the fact rows to use for each group; None for the stored ones.
    """
    comparisons = []
    for kind in kinds:
        priced: list[tuple[Served, Prediction]] = []
        of_row = [dict(groups(facts, row))[kind] for row in rows]
        for name in sorted(set(of_row)):
            own = stored_rows((kind, name)) if fitted is None else fitted.get((kind, name), ())
            if not own:
                continue
            members = [row for row, its in zip(rows, of_row, strict=True) if its == name]
            others = [row for row, its in zip(rows, of_row, strict=True) if its != name]
            blind = forgetting(facts, others).with_rows(own)
            priced += zip(members, predict(blind, [row.case for row in members]), strict=True)
        if priced:
            label = f", {kind} left out"
            comparisons += compared(facts, [row for row, _ in priced], [one for _, one in priced], label, LEFT_OUT)
    return comparisons


def forgetting(facts: Facts, others: Sequence[Served]) -> Facts:
    """Facts that know of no served measurements but those of `others`, so that a band is that of something new."""
    kept = {key: found for key, found in facts.rows.items() if key[1] != MEASURED}
    return replace(facts, rows=kept).with_rows(measured_rows(facts, others))


def stored_rows(group: Group) -> list[Fact]:
    """The rows fitted without a group, with the conditions under which predictions find them."""
    name = without(group)
    found = ((row, row.condition.partition(": ")) for row in _stored())
    return [replace(row, condition=own) for row, (left_out, _, own) in found if left_out == name]


@cache
def _stored() -> tuple[Fact, ...]:
    return tuple(read_rows(STORED))
