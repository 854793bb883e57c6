"""Notes that tell a reader how a deployment was interpreted."""

from __future__ import annotations

import math

from flashstill.arch import Architecture, Attention
from flashstill.cost import Conditions
from flashstill.cost.conditions import MICROSCALED
from flashstill.facts import Facts
from flashstill.hardware.software import ALONE, has_measured_engines
from flashstill.parallel import popular_load
from flashstill.plan.deployment import OWN_SOFTWARE
from flashstill.plan.layouts import Degrees
from flashstill.units import show
from flashstill.workload import expert_copy_parameters


def notes_on(model: Architecture, conditions: Conditions, degrees: Degrees) -> list[str]:
    """Notes on assumptions a reader may not expect: formats, replicated heads, slow links, engines."""
    chip, formats = conditions.chip, conditions.precisions
    notes = model.note.split("; ") if model.note else []
    for stored in dict.fromkeys((formats.linear, formats.attention, formats.experts)):
        runs_in = conditions.runs_in(stored)
        if runs_in != stored and runs_in not in stored:
            reason = f"{chip.name} has no {stored}"
            if stored == MICROSCALED and "fp4" in chip.flops_per_s:
                reason = f"{conditions.software.name} takes its activations in that"
            notes.append(f"{stored} weights are multiplied in {runs_in}, as {reason}")
    grouped = [layer.attention.kv_heads for layer in model.layers if isinstance(layer.attention, Attention)]
    fewest_heads = min(grouped, default=degrees.tp)
    if fewest_heads < degrees.tp:
        notes.append(f"each of {fewest_heads} key/value heads is held by {degrees.tp // fewest_heads} chips")
    domain = chip.system.domain_chips
    if degrees.chips > domain > 1:
        notes.append(f"beyond {domain} chips the data-centre network takes the place of the fast links")
    if degrees.redundant_experts:
        notes.append(_redundancy(model, conditions, degrees))
    if chip.chip_class in OWN_SOFTWARE and conditions.software.name != "none":
        notes.append(f"{conditions.software.name} is not known to run on {chip.name}; its overheads are added anyway")
    if conditions.overlap_units_ratio is not None:
        notes.append(
            "two micro-batches of half the batch overlap: kernels have half the rows and read all weights twice"
        )
    return notes


def unmeasured_notes(facts: Facts, conditions: Conditions) -> list[str]:
    """The note that no engine was measured on chips of this maker and class, for which the band is widest."""
    chip, engine = conditions.chip, conditions.software.name
    if chip.chip_class in OWN_SOFTWARE or has_measured_engines(facts, chip.maker_class):
        return []
    what = "kernels" if engine == ALONE else f"kernels and the overheads of {engine}"
    return [f"{chip.name}: the {what} on {chip.maker_class} chips are estimates, to which no serving run was fitted"]


def _redundancy(model: Architecture, conditions: Conditions, degrees: Degrees) -> str:
    """What redundant experts cost in memory and gain in balance."""
    experts = max(layer.ffn.experts for layer in model.layers)
    redundant, ep, skew = degrees.redundant_experts, degrees.ep, conditions.skew
    copy_bytes = expert_copy_parameters(model) * float(conditions.precisions.widths.of("experts"))
    per_chip = show(redundant * copy_bytes / degrees.chips, "B")
    before = "one copy of each cannot be spread evenly"
    if experts % ep == 0:
        before = f"{popular_load(experts, skew, ep):.2f} x without them"
    return (
        f"{redundant} redundant experts beside {experts} take {per_chip} a chip; the busiest of {ep} groups gets"
        f" {popular_load(experts, skew, ep, redundant):.2f} x the mean tokens ({before}), placed by a load balancer"
    )


def empty_notes(model: Architecture, degrees: Degrees, batch: float) -> list[str]:
    """Notes on replicas and pipeline stages without work at a small batch, and their cost."""
    notes = []
    if batch < degrees.dp:
        idle = "compute dummy tokens, and cost their joules" if model.routed else "wait, and cost their idle joules"
        empty = math.ceil(degrees.dp - batch)
        notes.append(f"{empty:,} of {degrees.dp:,} data-parallel groups have no sequence: they {idle} and their price")
    stages = max(batch / degrees.dp, 1.0)
    if stages < degrees.pp:
        notes.append(
            f"{stages:.3g} of {degrees.pp} pipeline stages {'works' if stages == 1 else 'work'} at a time: the others"
            " wait, and cost their idle joules and their price"
        )
    return notes
