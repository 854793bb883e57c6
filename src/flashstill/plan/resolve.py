"""From a case to what the cost model takes: names looked up, defaults filled in, nonsense refused with a sentence."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from flashstill.arch import Architecture, Attention, load_architecture, with_heads
from flashstill.cost import Setting, Speculation, precisions_of, setting
from flashstill.errors import BadInput, unknown
from flashstill.facts import Facts
from flashstill.hardware import Chip, chip_from_facts, software_of
from flashstill.parallel import layout_reason
from flashstill.plan.case import GREEDY, SAMPLINGS, Case, known_engine, known_precision

OWN_HEADS, NEW_HEADS = "heads", "new-heads"
"""drafting by modules that the model comes with, and by ones that would still have to be trained"""
OWN_SOFTWARE = ("sram", "cpu")
"""classes of chips that no general serving engine runs on"""


class Degrees(NamedTuple):
    """A layout in whole numbers."""

    tp: int
    pp: int
    ep: int
    dp: int


class Group(NamedTuple):
    """What cases must share to be priced together."""

    model: str
    chip: str
    topology: tuple[int, ...]
    precision: str | None
    kv_precision: str | None
    weights_in: str | None
    kv_in: str | None
    chunk: int | None
    draft: tuple[str, int, float] | None
    engine: str
    sampling: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolved:
    """A case that makes sense. note: what was assumed."""

    case: Case
    model: Architecture
    degrees: Degrees
    group: Group
    note: str


def resolve(facts: Facts, case: Case, alike: Resolved | None = None) -> Resolved:
    """Check a case and work out its layout; a FlashstillError says what is wrong.

    alike: another case that was resolved and differs by its load alone, so that only that is to be checked.
    """
    if alike is not None:
        _check_numbers(alike.model, case)
        return replace(alike, case=case)
    model = architecture(case.model)
    chip = chip_from_facts(facts, case.chip)
    _check_numbers(model, case)
    if case.sampling not in SAMPLINGS:
        raise BadInput(unknown("sampling", case.sampling, SAMPLINGS))
    shape = _torus_shape(chip, case.topology)
    degrees = _degrees(model, case, math.prod(shape) if shape else None)
    reason = layout_reason(model, *degrees)
    if reason:
        raise BadInput(reason)
    for tier in (case.weights_in, case.kv_in):
        if tier is not None:
            chip.tier(tier)
    engine = default_engine(chip) if case.engine is None else known_engine(case.engine)
    group = Group(
        model=case.model,
        chip=chip.name,
        topology=shape,
        precision=None if case.precision is None else known_precision(case.precision),
        kv_precision=None if case.kv_precision is None else known_precision(case.kv_precision),
        weights_in=case.weights_in,
        kv_in=case.kv_in,
        chunk=case.chunk,
        draft=None if case.draft is None else (case.draft, case.draft_tokens, case.acceptance),
        engine=engine,
        sampling=case.sampling,
    )
    if group.draft is not None:
        speculation(model, *group.draft)
    conditions = setting_of(facts, group)
    notes = _notes(model, conditions, degrees)
    if case.draft == NEW_HEADS:
        notes.append(f"the heads that draft would still have to be trained for {model.name}")
    return Resolved(case=case, model=model, degrees=degrees, group=group, note="; ".join(notes))


def default_engine(chip: Chip) -> str:
    """The engine that is assumed where none is named."""
    return "none" if chip.chip_class in OWN_SOFTWARE else "vllm"


def architecture(name: str) -> Architecture:
    """A model by name or path; a file is looked at on every call, as it may have changed."""
    return load_architecture(name)


def setting_of(facts: Facts, group: Group) -> Setting:
    """The conditions under which the cases of a group run."""
    chip = chip_from_facts(facts, group.chip)
    return setting(
        replace(chip, torus_shape=group.topology) if group.topology else chip,
        precisions_of(architecture(group.model), group.precision, group.kv_precision),
        group.weights_in,
        group.kv_in,
        software=software_of(facts, group.engine),
        skew=facts.value("routing", "skew_exponent"),
        sampled=group.sampling != GREEDY,
    )


def speculation(model: Architecture, draft: str, tokens: int, acceptance: float) -> Speculation:
    """Drafting by a model of that name, by the model's own heads, or by heads that would have to be trained for it.

    BadInput where the draft and the model do not go together.
    """
    if tokens < 1:
        raise BadInput(f"draft tokens must be at least 1, not {tokens}")
    if not 0.0 < acceptance < 1.0:
        raise BadInput(f"acceptance must lie between 0 and 1, not {acceptance}")
    if draft == NEW_HEADS or (draft == OWN_HEADS and model.mtp_layers):
        return Speculation(tokens=tokens, acceptance=acceptance)
    if draft == OWN_HEADS:
        raise BadInput(
            f"{model.name} has no heads that predict further tokens, as {', '.join(with_heads())} have; name a small "
            f"model that drafts, or {NEW_HEADS} for heads that would have to be trained"
        )
    small = architecture(draft)
    if small.vocabulary != model.vocabulary:
        raise BadInput(
            f"{small.name} cannot draft for {model.name}: vocabularies of {small.vocabulary} and {model.vocabulary}"
        )
    return Speculation(tokens=tokens, acceptance=acceptance, draft=small)


def _check_numbers(model: Architecture, case: Case) -> None:
    for name in ("isl", "osl", "concurrency", "chips", "tp", "pp", "ep", "dp", "chunk"):
        value = getattr(case, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")
    if case.isl + case.osl > model.context:
        raise BadInput(
            f"isl + osl = {case.isl + case.osl} is beyond the {model.context} tokens that {model.name} was made for"
        )


def _torus_shape(chip: Chip, topology: str | None) -> tuple[int, ...]:
    """Edges, longest first, as many as the torus has axes; empty where none were given."""
    if topology is None:
        return ()
    parts = topology.lower().split("x")
    if not all(re.fullmatch(r"[1-9][0-9]{0,8}", part) for part in parts):
        raise BadInput(f"topology is {topology!r}, not edges such as 4x4x8")
    if not chip.torus_axes:
        raise BadInput(f"{chip.name} hangs on a switch and has no topology to choose")
    if len(parts) > chip.torus_axes:
        raise BadInput(f"{topology} has {len(parts)} axes, but {chip.name} is joined along {chip.torus_axes}")
    edges = [int(part) for part in parts] + [1] * (chip.torus_axes - len(parts))
    whole = math.prod(edges)
    if whole > chip.domain:
        raise BadInput(f"a topology of {topology} has {whole} chips, but {chip.name} joins at most {chip.domain}")
    return tuple(sorted(edges, reverse=True))


def _degrees(model: Architecture, case: Case, slice_chips: int | None) -> Degrees:
    pp, dp = case.pp or 1, case.dp or 1
    chips = slice_chips if case.chips is None else case.chips
    if slice_chips is not None and chips != slice_chips:
        raise BadInput(f"a topology of {case.topology} has {slice_chips} chips, but {chips} are asked for")
    if case.tp is not None:
        tp = case.tp
        if chips is not None and case.dp is None and chips % (tp * pp) == 0:
            dp = chips // (tp * pp)
        if chips is not None and tp * pp * dp != chips:
            raise BadInput(f"tp x pp x dp = {tp * pp * dp} chips, but chips is {chips}")
    elif chips is None:
        tp = 1
    elif chips % (dp * pp):
        raise BadInput(f"pp x dp = {pp * dp} does not divide {chips} chips")
    else:
        if case.pp is None:
            # Tensor parallelism as far as the heads divide, a pipeline over the rest.
            stages = (stages for stages in range(1, model.depth + 1) if chips % (dp * stages) == 0)
            pp = next((pp for pp in stages if layout_reason(model, chips // (dp * pp), pp, 1, dp) is None), 1)
        tp = chips // (dp * pp)
    routed = any(layer.ffn.experts for layer in model.layers)
    return Degrees(tp=tp, pp=pp, ep=case.ep or (tp * dp if routed and dp > 1 else 1), dp=dp)


def _notes(model: Architecture, conditions: Setting, degrees: Degrees) -> list[str]:
    """What a reader should know about how the case was understood."""
    chip, formats = conditions.chip, conditions.precisions
    notes = [model.note] if model.note else []
    for stored in dict.fromkeys((formats.linear, formats.attention, formats.experts)):
        runs_in = chip.precision(stored)
        if runs_in != stored and runs_in not in stored:
            notes.append(f"{stored} weights are multiplied in {runs_in}, as {chip.name} has no {stored}")
    grouped = [layer.attention.kv_heads for layer in model.layers if isinstance(layer.attention, Attention)]
    few = min(grouped, default=degrees.tp)
    if few < degrees.tp:
        notes.append(f"each of {few} key/value heads is held by {degrees.tp // few} chips")
    together = degrees.tp * degrees.pp * degrees.dp
    if together > chip.domain > 1:
        notes.append(f"beyond {chip.domain} chips the data-centre network takes the place of the fast links")
    if chip.chip_class in OWN_SOFTWARE and conditions.software.name != "none":
        notes.append(f"{conditions.software.name} is not known to run on {chip.name}; its overheads are added anyway")
    return notes
