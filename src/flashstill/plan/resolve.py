"""From a case to what the cost model takes: names looked up, defaults filled in, nonsense refused with a sentence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from flashstill.arch import Architecture, load_architecture, with_heads
from flashstill.cost import Conditions, Speculation
from flashstill.errors import BadInput, shortened
from flashstill.facts import Facts
from flashstill.hardware import chip_from_facts
from flashstill.plan.case import AS_PUBLISHED, Case, Choices, known_engine, known_precision
from flashstill.plan.deployment import check_choices, conditions_of, default_engine, notes_on
from flashstill.plan.layouts import Degrees, Held, degrees_of, open_choice

OWN_HEADS, NEW_HEADS = "heads", "new-heads"
"""drafting by modules that the model comes with, and by ones that would still have to be trained"""
MOST_DRAFTED = 1000
"""tokens ahead; engines of today draft up to a few dozen"""


class Group(NamedTuple):
    """What cases must share to be priced together."""

    model: str
    chip: str
    topology: str | None
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
        _check_load(alike.model, case)
        if not open_choice(case):
            return replace(alike, case=case)
        return _resolved(alike.model, case, alike.group, group_conditions(facts, alike.group, alike.model))
    model = architecture(case.model)
    check_choices(case)
    _check_load(model, case)
    chip = chip_from_facts(facts, case.chip)
    group = Group(
        model=case.model,
        chip=chip.name,
        topology=case.topology,
        precision=None if case.precision in (None, AS_PUBLISHED) else known_precision(str(case.precision)),
        kv_precision=None if case.kv_precision is None else known_precision(case.kv_precision),
        weights_in=case.weights_in,
        kv_in=case.kv_in,
        chunk=case.chunk,
        draft=None if case.draft is None else (drafter(case.draft), case.draft_tokens, case.acceptance),
        engine=default_engine(chip) if case.engine is None else known_engine(case.engine),
        sampling=case.sampling,
    )
    return _resolved(model, case, group, conditions_of(facts, model, chip, case))


def _resolved(model: Architecture, case: Case, group: Group, conditions: Conditions) -> Resolved:
    drafting = speculation(model, *group.draft) if group.draft else None
    held = Held(float(case.concurrency), case.isl + case.osl / 2.0, float(case.isl + case.osl), drafting)
    degrees = degrees_of(model, conditions, case, held)
    notes = notes_on(model, conditions, degrees)
    if group.draft is not None and group.draft[0] == NEW_HEADS:
        notes.append(f"the heads that draft would still have to be trained for {model.name}")
    return Resolved(case=case, model=model, degrees=degrees, group=group, note="; ".join(notes))


def architecture(name: str) -> Architecture:
    """A model by name or path; a file is looked at on every call, as it may have changed."""
    return load_architecture(name)


def drafter(name: str) -> str:
    """Who drafts: a model as it is written, or one of our own words, which are taken in any case."""
    return name.lower() if name.lower() in (OWN_HEADS, NEW_HEADS) else name


def group_conditions(facts: Facts, group: Group, model: Architecture | None = None) -> Conditions:
    """The conditions under which the cases of a group run."""
    choices = Choices(
        topology=group.topology,
        precision=group.precision,
        kv_precision=group.kv_precision,
        weights_in=group.weights_in,
        kv_in=group.kv_in,
        engine=group.engine,
        sampling=group.sampling,
    )
    return conditions_of(facts, model or architecture(group.model), chip_from_facts(facts, group.chip), choices)


def speculation(model: Architecture, draft: str, tokens: int, acceptance: float) -> Speculation:
    """Drafting by a model of that name, by the model's own heads, or by heads that would have to be trained for it.

    BadInput where the draft and the model do not go together.
    """
    if tokens < 1:
        raise BadInput(f"draft tokens must be at least 1, not {tokens}")
    if tokens > MOST_DRAFTED:
        raise BadInput(f"draft tokens must be at most {MOST_DRAFTED}, not {shortened(str(tokens))}")
    if not 0.0 < acceptance < 1.0:
        raise BadInput(f"acceptance must lie between 0 and 1, not {acceptance}")
    draft = drafter(draft)
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


def _check_load(model: Architecture, case: Case) -> None:
    for name in ("isl", "osl", "concurrency", "chunk"):
        value = getattr(case, name)
        if value is not None and value < 1:
            raise BadInput(f"{name} must be at least 1, not {value}")
    if case.isl + case.osl > model.context:
        raise BadInput(
            f"isl + osl = {case.isl + case.osl} is beyond the {model.context} tokens that {model.name} was made for"
        )
