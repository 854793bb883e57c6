"""Measured over predicted latencies of a stack, from a user's own measurements (`flashstill calibrate`).

A stack is an engine with a model in a format on a chip (bands.stack_of). Its ratios are rows of the chip, with the
stack as condition, in a directory that --facts names; they scale the time per output token and the time to first
token of every prediction of that stack, and of no other.

From measurements at several loads there are also seconds of its steps, which `simulate` uses:

    decode step     kernel x T(b, c) + step_s + b sequence_s      T: of the cost model; b sequences of c cached tokens
    prompt tokens   prompt x what they add to a step + token_s for each
    several rows    several_s in each step whose products have more than one row: two sequences, or prompt tokens
    first token     first_s after the step that gives it

Libraries multiply a matrix by one row in a kernel of its own, which reads the weights once; for more rows a processor's
library first copies the weights into the order that its kernel likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flashstill.arch import Architecture
from flashstill.cost import Conditions
from flashstill.facts import Facts
from flashstill.plan.bands import stack_of

TPOT_RATIO, TTFT_RATIO = "served_tpot_ratio", "served_ttft_ratio"
_FIELDS = {TPOT_RATIO: "tpot_ratio", TTFT_RATIO: "ttft_ratio"}

STEP_FIELDS = {
    "served_kernel_ratio": "kernel", "served_prompt_ratio": "prompt", "served_step_s": "step_s",
    "served_sequence_s": "sequence_s", "served_several_s": "several_s", "served_first_s": "first_s",
    "served_token_s": "token_s",
}  # fmt: skip
"""quantity -> field of ServedSteps"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedSteps:
    """What the steps of one stack take, by measurements of its server at several loads; symbols as above."""

    kernel: float = 1.0
    prompt: float = 1.0
    step_s: float = 0.0
    sequence_s: float = 0.0
    several_s: float = 0.0
    first_s: float = 0.0
    token_s: float = 0.0


def served_steps(facts: Facts, model: Architecture, conditions: Conditions) -> ServedSteps | None:
    """The stack's own steps; None if no server of it was measured at several loads."""
    wanted = stack_of(model, conditions)
    found = {
        field: row.value
        for quantity, field in STEP_FIELDS.items()
        for row in facts.rows.get((conditions.chip.name, quantity), ())
        if row.condition == wanted
    }
    return ServedSteps(**found) if found else None


Ratios = Mapping[tuple[str, str], Mapping[str, float]]


def with_served_ratios(facts: Facts, model: Architecture, conditions: Conditions) -> Conditions:
    """The conditions with the stack's own ratios, where there are any."""
    ratios: Ratios = facts.derived("served ratios", lambda: _ratios(facts))
    if not ratios:
        return conditions
    own: dict[str, Any] = dict(ratios.get((conditions.chip.name, stack_of(model, conditions)), {}))
    return replace(conditions, software=replace(conditions.software, **own)) if own else conditions


def _ratios(facts: Facts) -> Ratios:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for (chip, quantity), rows in facts.rows.items():
        if quantity in _FIELDS:
            for row in rows:
                found.setdefault((chip, row.condition), {})[_FIELDS[quantity]] = row.value
    return found


def without_served_ratios(facts: Facts) -> Facts:
    """The facts without any such ratios: what predictions are before a calibration."""
    kept = {key: rows for key, rows in facts.rows.items() if key[1] not in (*_FIELDS, *STEP_FIELDS)}
    return facts if len(kept) == len(facts.rows) else replace(facts, rows=kept)
