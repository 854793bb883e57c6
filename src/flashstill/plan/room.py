"""Whether the memory of a deployment holds its whole batch, and how many chips would."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from flashstill.cost.footprint import holds, most_sequences, room_bytes, total_bytes
from flashstill.errors import InfeasiblePlan
from flashstill.plan.layouts import fewest_chips
from flashstill.plan.notes import empty_notes
from flashstill.plan.prediction import NOT_FITTING
from flashstill.plan.resolve import Resolved
from flashstill.units import show

Advised = dict[Hashable, str]
"""an open deployment and its occupancy -> how many chips would do"""


def check_room(resolved: Resolved, all_fit: bool | None = None, advised: Advised | None = None) -> Resolved:
    """The same with notes about its batch added; InfeasiblePlan if the whole batch does not fit in memory at once.

    all_fit: whether it does, where the caller has asked `holds` for many deployments together.
    advised: advice that deployments with the same setup share; it is filled.
    """
    if all_fit is None:
        occupancy = resolved.scenario.occupancy(resolved.model, resolved.setup.speculation)
        all_fit = bool(holds(resolved.model, resolved.conditions, resolved.layout, *occupancy)[0])
    if not all_fit:
        raise InfeasiblePlan(_too_small(resolved, {} if advised is None else advised), {NOT_FITTING: 1})
    empty = empty_notes(resolved.model, resolved.degrees, resolved.scenario.batch)
    return replace(resolved, notes=(*resolved.notes, *empty))


def _too_small(resolved: Resolved, advised: Advised) -> str:
    """Message: why the layout is too small, and how many chips would suffice."""
    scenario, model, conditions = resolved.scenario, resolved.model, resolved.conditions
    weights, cache, draft = conditions.weights, conditions.cache, resolved.setup.speculation
    batch, tokens = scenario.batch, scenario.mean_tokens
    needed = show(float(total_bytes(model, batch, tokens, conditions.precisions.widths)), "B")
    small = draft.draft if draft else None
    fitting = float(most_sequences(model, conditions, resolved.layout, max(tokens, 1.0), small))
    fitting *= float(room_bytes(model, conditions, resolved.layout, small)) > 0
    open_chips = replace(resolved.asked, chips=None, tp=None, topology=None)
    occupancy = scenario.occupancy(model, draft)
    key = (open_chips, *occupancy[:3])
    if key not in advised:
        larger = fewest_chips(model, conditions, open_chips, occupancy)
        does = larger is not None and holds(model, conditions, larger.layout, *occupancy)[0]
        advised[key] = f"take {larger.chips} chips" if larger is not None and does else "no number of these chips does"
    memory = f"{resolved.chips} x {conditions.chip.name} of {show(weights.bytes, 'B')} in {weights.name}"
    if cache is not weights:
        memory += f" and {show(cache.bytes, 'B')} in {cache.name}"
    return (
        f"{model.name} at batch {batch} and context {tokens:.12g} needs {needed}, for which {memory} have room for"
        f" {int(fitting)} of {batch} sequences; {advised[key]}"
    )
