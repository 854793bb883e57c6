"""Deployments on a chip with one of its counts at the next value: a larger domain, one more axis of a torus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flashstill.codesign.grids import Question
from flashstill.codesign.parameters import COUNT, with_axes
from flashstill.codesign.scaled import scaled
from flashstill.codesign.subjects import Entry, Subject
from flashstill.cost import Conditions


def counted(question: Question, subjects: Sequence[Subject], entries: Sequence[Entry]) -> list[Entry]:
    """The entries once more for each count of their chip, where a configuration of so many chips can notice it."""
    most = float(np.max(question.chosen.layout.chips, initial=1.0))
    found = []
    for entry in entries:
        for one in subjects[entry.subject].parameters:
            if one.kind != COUNT or one.value is None or one.next_value is None or most <= 1.0:
                continue
            if one.name == "link_domain_chips":
                if most <= one.value:
                    continue
                changed = scaled(entry.conditions, {"domain": one.next_value / one.value})
            else:
                changed = _with_axes(entry.conditions, int(one.next_value))
            found.append(replace(entry, varied=one.name, conditions=changed))
    return found


def _with_axes(conditions: Conditions, axes: int) -> Conditions:
    chip = conditions.chip
    return replace(conditions, chip=replace(chip, topology=replace(chip.topology, **with_axes(chip.topology, axes))))
